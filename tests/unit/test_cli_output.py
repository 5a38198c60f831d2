"""One way to speak for commands, three kinds of listener."""

import io
import json
import math

import pytest

from farm.cli.exitcodes import ExitCode
from farm.cli.output import Column, Listener, Output, plain
from farm.cli.words import bytes_text, count_text, dash, seconds_text

COLUMNS = [Column("name", "NAME"), Column("slots", "SLOTS", count_text, right=True)]
ROWS = [{"name": "north", "slots": 4, "pid": 1}, {"name": "[south]", "slots": 16_000, "pid": 2}]


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Ascii(io.StringIO):
    def write(self, text):
        text.encode("ascii")
        return super().write(text)


def speak(listener, *, stream=io.StringIO):
    return Output(listener, stdout=stream(), stderr=stream())


def said(output):
    return output.stdout.getvalue(), output.stderr.getvalue()


@pytest.mark.parametrize(
    ("listener", "text"),
    [
        (Listener.PEOPLE, "NAME      SLOTS\nnorth         4\n[south]  16,000\n"),
        (Listener.QUIET, "north\n[south]\n"),
    ],
)
def test_a_table_in_a_pipe_is_lines(listener, text):
    output = speak(listener)
    output.table(ROWS, COLUMNS, empty="none")
    assert said(output) == (text, "")


def test_a_table_for_a_program_has_every_key():
    output = speak(Listener.PROGRAM)
    output.table(ROWS, COLUMNS, empty="none")
    assert json.loads(output.stdout.getvalue()) == ROWS


def test_a_table_on_a_terminal_is_drawn_and_cells_are_no_markup():
    output = speak(Listener.PEOPLE, stream=Terminal)
    output.table(ROWS, COLUMNS, empty="none")
    assert "[south]" in output.stdout.getvalue()
    assert "─" in output.stdout.getvalue()


@pytest.mark.parametrize(
    ("listener", "expected"),
    [
        (Listener.PEOPLE, ("", "none\n")),
        (Listener.QUIET, ("", "")),
        (Listener.PROGRAM, ("[]\n", "")),
    ],
)
def test_an_empty_table(listener, expected):
    output = speak(listener)
    output.table([], COLUMNS, empty="none")
    assert said(output) == expected


@pytest.mark.parametrize(
    ("listener", "expected"),
    [
        (Listener.PEOPLE, ("a       1\nlonger  2\n", "")),
        (Listener.QUIET, ("1\n", "")),
        (Listener.PROGRAM, ('{"x":3}\n', "")),
    ],
)
def test_facts(listener, expected):
    output = speak(listener)
    output.facts({"x": 3}, {"a": "1", "longer": "2"})
    assert said(output) == expected


@pytest.mark.parametrize(
    ("listener", "expected"),
    [
        (Listener.PEOPLE, ("text\n", "remark\nfarm: broken\n")),
        (Listener.QUIET, ("text\n", "farm: broken\n")),
        (
            Listener.PROGRAM,
            ('{"x":1}\n', '{"error":"broken","kind":"no_farm","exit_code":4}\n'),
        ),
    ],
)
def test_answers_go_to_stdout_and_all_else_to_stderr(listener, expected):
    output = speak(listener)
    output.answer({"x": 1}, "text")
    output.note("remark")
    output.error("broken", ExitCode.NO_FARM)
    assert said(output) == expected


def test_text_that_the_stream_cannot_write_is_escaped():
    output = speak(Listener.PEOPLE, stream=Ascii)
    output.answer(None, "caf\xe9 \udcff")
    assert output.stdout.getvalue() == "caf\\xe9 \\udcff\n"


def test_progress_in_a_pipe_is_a_line_for_each_tenth_and_each_note():
    output = speak(Listener.PEOPLE)
    with output.progress("work", 200) as advance:
        for _ in range(99):
            advance()
        advance(note="half")
        advance(100)
    lines = output.stderr.getvalue().splitlines()
    assert lines[0] == "work: 20 of 200"
    assert lines[4:] == ["work: 100 of 200 (half)", "work: 200 of 200"]
    assert output.stdout.getvalue() == ""


def test_progress_on_a_terminal_is_a_bar():
    output = speak(Listener.PEOPLE, stream=Terminal)
    with output.progress("work", 3) as advance:
        advance(2, note="[on]")
        advance()
    assert "3/3" in output.stderr.getvalue()
    assert "[on]" in output.stderr.getvalue()


def test_waiting_on_a_terminal_is_drawn():
    output = speak(Listener.PEOPLE, stream=Terminal)
    with output.waiting("task 1") as show:
        show(1, 0, "[on]")
        show(1, 2, "[on]")
    assert "task 1" in output.stderr.getvalue()
    assert "[on]" in output.stderr.getvalue()


@pytest.mark.parametrize(
    ("done", "total"), [(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0), (1e308, 1e-308)]
)
def test_progress_that_is_no_number_is_told_as_it_is(done, total):
    output = speak(Listener.PEOPLE)
    with output.waiting("task 1") as show:
        show(done, total, "odd")
    assert said(output) == ("", f"task 1: {done:g} of {total:g} (odd)\n")


def test_waiting_in_a_pipe_is_a_line_for_what_is_new():
    output = speak(Listener.PEOPLE)
    with output.waiting("task 1") as show:
        for done, total, note in [(0, 0, ""), (5, 0, "a"), (6, 0, "a"), (1, 4, "a"), (1, 4, "a")]:
            show(done, total, note)
    assert said(output) == ("", "task 1 (a)\ntask 1: 1 of 4 (a)\n")


@pytest.mark.parametrize("listener", [Listener.QUIET, Listener.PROGRAM])
def test_progress_is_for_people(listener):
    output = speak(listener, stream=Terminal)
    with output.progress("work", 1) as advance:
        advance(note="x")
    assert said(output) == ("", "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": (1, None)}, {"a": [1, None]}),
        (2**70, 2**70),
        (1 + 2j, "(1+2j)"),
        ([{1, 2}, object], [[1, 2], "<class 'object'>"]),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        ("\ud800", "'\\ud800'"),
        (float("nan"), None),
    ],
)
def test_what_json_cannot_say_is_written_as_repr_has_it(value, expected):
    assert json.loads(bytes(plain(value))) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-1, "-"),
        (0, "0 ms"),
        (0.25, "250 ms"),
        (3.14, "3.1 s"),
        (250, "4 min 10 s"),
        (7290, "2 h 1 min"),
        (266_400, "3 d 2 h"),
    ],
)
def test_durations_have_their_two_largest_units(seconds, text):
    assert seconds_text(seconds) == text


def test_numbers_are_readable():
    assert [bytes_text(count) for count in (312, 1536, 3 << 20, 5 << 30, 7 << 40)] == [
        "312 B",
        "1.5 KiB",
        "3.0 MiB",
        "5.0 GiB",
        "7.0 TiB",
    ]
    assert [count_text(12_345), count_text(None)] == ["12,345", "-"]
    assert [dash(value) for value in (None, "", 0, "x")] == ["-", "-", "0", "x"]


def test_a_stream_that_the_output_cannot_say_is_written_as_it_can():
    output = speak(Listener.PEOPLE, stream=Ascii)
    output.stream("caf\u00e9 ")
    output.stream("x")
    assert said(output) == ("caf\\xe9 x", "")
