"""Tasks in real worker processes: what they get, and how they end."""

import contextlib
import os
import random
import sys

import pytest

from farm.errors import PayloadError, TaskError
from farm.model import Ending
from farm.payload import dump_call, dump_function, dump_items
from tests.integration.agent_rig import AgentProcess, Coordinator


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent")
    url = f"ipc://{folder}/farm"
    coordinator = Coordinator(url)
    os.environ["FARM_TEST_SECRET"] = "do not tell"
    agent = AgentProcess(folder, address=url, slots=2)
    del os.environ["FARM_TEST_SECRET"]
    coordinator.agent = agent
    yield coordinator
    agent.end()
    coordinator.close()


def run(farm, function, *args, **more):
    (outcome,) = farm.results(farm.submit(function, [args], **more))
    return outcome


def test_a_task_gets_its_arguments_and_gives_its_result(farm):
    assert run(farm, lambda a, b: a - b, 5, 3) == (Ending.OK, 2)


def test_many_short_tasks_come_back_in_order(farm):
    counters = farm.submit(lambda x: x * x, [(x,) for x in range(1000)], expected=1e-6)
    assert farm.values(counters) == [x * x for x in range(1000)]


def test_large_arguments_and_results_travel(farm):
    data = random.Random(1).randbytes(5_000_000)
    assert run(farm, lambda x: x[::-1], data) == (Ending.OK, data[::-1])


def test_an_exception_is_one_outcome_of_a_slice(farm):
    def divide(x):
        return 6 // x

    outcomes = farm.results(farm.submit(divide, [(x,) for x in (3, 0, 2, 0)], expected=1e-6))
    assert [ending for ending, _ in outcomes] == [0, 1, 0, 1]
    assert [value for _, value in outcomes[::2]] == [2, 3]
    assert isinstance(outcomes[1][1], ZeroDivisionError)


def test_an_exception_comes_with_its_name_and_host(farm):
    def fail():
        raise ValueError("no")

    (counter,) = farm.submit(fail, [()])
    farm.results([counter])
    failure = farm.failures[counter]
    assert (failure.cause, failure.message, failure.host) == ("exception", "no", "h")
    assert failure.type_name.endswith("ValueError")


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_would_end_a_process_ends_only_the_task(farm, kind):
    def leave(kind):
        raise kind(3)

    before = run(farm, os.getpid)[1], run(farm, os.getpid)[1]
    ending, error = run(farm, leave, kind)
    assert ending is Ending.EXCEPTION
    assert type(error) is kind
    assert run(farm, os.getpid)[1] in before


def test_an_exception_that_takes_no_attributes_is_as_any_other(farm):
    def refuse(x):
        import dataclasses

        @dataclasses.dataclass(frozen=True)
        class Refusal(Exception):
            why: str

        raise Refusal(x)

    counters = farm.submit(refuse, [("no",), ("never",)], expected=1e-6)
    assert [ending for ending, _ in farm.results(counters)] == [Ending.EXCEPTION] * 2
    failure = farm.failures[counters[1]]
    assert failure.type_name.endswith("Refusal")
    assert "in refuse" in failure.traceback
    assert "worker.py" not in failure.traceback


def test_a_result_that_cannot_be_pickled_is_that_tasks_error(farm):
    def lock(bad):
        import threading

        return threading.Lock() if bad else "fine"

    counters = farm.submit(lock, [(False,), (True,), (False,)], expected=1e-6)
    outcomes = farm.results(counters)
    assert [value for _, value in outcomes[::2]] == ["fine", "fine"]
    assert isinstance(outcomes[1][1], PayloadError)
    assert "lock" in str(outcomes[1][1])


def test_a_module_that_is_not_installed_is_named_with_the_host_and_the_remedy(farm, tmp_path):
    (tmp_path / "only_here.py").write_text("def f():\n    return 1\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import only_here

        ending, error = run(farm, only_here.f)
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("only_here", None)
    assert ending is Ending.EXCEPTION
    assert isinstance(error, TaskError)
    for word in ("only_here", "host h", "register_pickle_by_value", "PYTHONPATH"):
        assert word in str(error)


def test_a_packed_task_answers_item_by_item(farm):
    def odd(x):
        if x == 3:
            raise ValueError(x)
        return [x] if x == 5 else x

    outcomes = farm.results(farm.submit_packed(odd, [(x,) for x in range(8)], expected=1e-6))
    assert [v for e, v in outcomes if e is Ending.OK] == [0, 1, 2, 4, [5], 6, 7]
    assert isinstance(outcomes[3][1], ValueError)


def test_items_of_a_packed_task_do_not_see_each_others_results_change(farm):
    def grow():
        same = []

        def append(x):
            same.append(x)
            return same

        return append

    outcomes = farm.values(farm.submit_packed(grow(), [(x,) for x in range(3)]))
    assert outcomes == [[0], [0, 1], [0, 1, 2]]


def test_a_part_of_a_packed_task_runs_its_items_only(farm):
    data = dump_items([(x,) for x in range(10)])
    counters = farm.put(lambda x: x, [data], 3, packed=True, start=4, item=4)
    assert farm.values(counters) == [4, 5, 6]


def test_a_large_packed_result_comes_in_pieces(farm):
    counters = farm.submit_packed(lambda x: x * 300_000, [("a",)] * 10)
    assert {len(value) for value in farm.values(counters)} == {300_000}


def test_a_task_knows_what_it_is(farm):
    def look():
        import farm

        task = farm.current_task()
        return task.id, task.item, task.attempt, tuple(task.token), task.deadline

    import time

    began = time.time()
    counters = farm.submit(look, [(), ()], item=7, time_limit=60.0)
    values = farm.values(counters)
    assert [value[0] for value in values] == [f"{(b's' * 16).hex()}-{c}" for c in counters]
    assert [value[1:4] for value in values] == [(7, 1, (1, 1)), (8, 1, (1, 1))]
    assert all(began + 59 < value[4] < time.time() + 60.0 for value in values)


def test_progress_arrives_and_the_last_word_always(farm):
    def steps(n):
        import farm

        for i in range(n + 1):
            farm.current_task().progress(i, n, "steps")

    (counter,) = farm.submit(steps, [(1000,)])
    farm.values([counter])
    said = [(done, total, note) for _, _, c, done, total, note in farm.progress if c == counter]
    assert said[-1] == (1000.0, 1000.0, "steps")
    assert len(said) < 20


def test_started_is_said_of_tasks_that_take_a_while(farm, tmp_path):
    path = tmp_path / "go"

    def wait(path):
        import time
        from pathlib import Path

        while not Path(path).exists():
            time.sleep(0.001)

    (counter,) = farm.submit(wait, [(str(path),)])
    farm.run(lambda: counter in farm.started)
    path.touch()
    farm.values([counter])


def test_a_slow_task_does_not_keep_back_the_outcomes_before_it(farm, tmp_path):
    path = tmp_path / "go"

    def maybe(path, waits):
        import time
        from pathlib import Path

        while waits and not Path(path).exists():
            time.sleep(0.001)

    calls = [(str(path), n == 2) for n in range(3)]
    quick, quicker, slow = farm.submit_packed(maybe, calls)
    farm.run(lambda: {quick, quicker} <= farm.outcomes.keys())
    assert slow not in farm.outcomes
    path.touch()
    farm.values([slow])


def test_workers_see_no_secrets_and_have_one_thread_each(farm):
    def look():
        import os

        return os.environ.get("FARM_TEST_SECRET"), os.environ["OMP_NUM_THREADS"]

    ending, (secret, threads) = run(farm, look)
    assert ending is Ending.OK
    assert secret is None
    assert threads == os.environ.get("OMP_NUM_THREADS", "1")


def test_workers_do_not_draw_the_same_random_numbers(farm):
    def draw(x):
        import os
        import random
        import time

        time.sleep(0.02)
        return os.getpid(), random.random()

    drawn = farm.values(farm.submit(draw, [(x,) for x in range(6)]))
    assert len({pid for pid, _ in drawn}) == 2
    assert len({number for _, number in drawn}) == 6


def test_a_child_that_comes_back_from_its_task_says_nothing(farm):
    def fork():
        import os

        return os.fork() == 0

    counters = farm.submit(fork, [(), (), ()], expected=1e-6)
    assert farm.values(counters) == [False] * 3


def test_what_tasks_print_appears(farm):
    def shout():
        print("hello from a task")  # noqa: T201
        print("x" * 3_000_000)  # noqa: T201

    assert run(farm, shout) == (Ending.OK, None)
    out = farm.agent.out.read_text()
    assert "hello from a task" in out
    assert "x" * 1000 in out


def test_functions_are_kept_by_the_worker_and_old_ones_sent_again(farm):
    def make(n):
        return lambda: n

    functions = [make(n) for n in range(40)]
    for _ in range(2):
        counters = [farm.submit(function, [()])[0] for function in functions]
        assert farm.values(counters) == list(range(40))


def test_numpy_arrays_travel(farm):
    np = pytest.importorskip("numpy")
    ending, value = run(farm, lambda a: a * 2, np.arange(100_000))
    assert ending is Ending.OK
    assert value.sum() == 2 * sum(range(100_000))


@pytest.fixture
def another(tmp_path):
    """Agents with settings of their own."""
    with contextlib.ExitStack() as stack:

        def start(**settings):
            coordinator = Coordinator(f"ipc://{tmp_path}/farm")
            stack.callback(coordinator.close)
            agent = AgentProcess(tmp_path, address=f"ipc://{tmp_path}/farm", **settings)
            stack.callback(agent.end)
            return coordinator, agent

        yield start


def test_a_task_that_replaces_the_clock_has_its_outcome_and_so_have_those_after_it(another):
    def replace(x):
        import time

        time.monotonic = time.monotonic_ns = time.sleep = lambda *_: 0
        return x

    farm, _ = another(slots=1)
    assert farm.values(farm.submit(replace, [(x,) for x in range(9)], expected=1e-6)) == [*range(9)]
    assert farm.values(farm.submit(replace, [(9,)], time_limit=10.0)) == [9]


def test_a_task_may_make_another_stream_of_that_which_it_has(another):
    def wrap():
        import io
        import sys

        for stream in (sys.stdout, sys.stderr):
            print("said", file=io.TextIOWrapper(stream.buffer, encoding="latin-1"), flush=True)

    farm, _ = another(slots=1)  # what it prints goes to a file
    assert farm.results(farm.submit(wrap, [()])) == [(Ending.OK, None)]


def test_an_initializer_runs_in_each_worker_before_its_tasks(another):
    import base64

    def prepare(value, *, key):
        import builtins

        builtins.prepared = (value, key)

    payload = dump_call((dump_function(prepare).data, dump_call((1,), {"key": 2})), {})
    farm, _ = another(slots=2, initializer=base64.b64encode(payload).decode())
    assert farm.values(farm.submit(lambda: prepared, [()] * 4)) == [(1, 2)] * 4  # noqa: F821


@pytest.mark.parametrize("raises", [False, True])
def test_a_child_that_an_initializer_forked_and_that_comes_back_is_no_worker(another, raises):
    import base64

    def prepare(raises):
        import builtins
        import os

        if (child := os.fork()) == 0:
            if raises:
                raise RuntimeError("in the child")
            return
        builtins.left = os.waitpid(child, 0)[1]

    payload = dump_call((dump_function(prepare).data, dump_call((raises,), {})), {})
    farm, _ = another(slots=1, initializer=base64.b64encode(payload).decode())
    assert farm.values(farm.submit(lambda: left, [()])) == [0]  # noqa: F821


def test_an_initializer_that_fails_again_and_again_breaks_the_host(another):
    import base64

    def prepare():
        raise RuntimeError("no licence")

    payload = dump_call((dump_function(prepare).data, dump_call((), {})), {})
    farm, agent = another(slots=2, initializer=base64.b64encode(payload).decode())
    counters = farm.submit(lambda: 1, [()] * 3)
    outcomes = farm.results(counters)
    assert {ending for ending, _ in outcomes} == {Ending.BROKEN}
    message = farm.failures[counters[0]].message
    assert message == "the initializer raised RuntimeError: no licence"
    assert agent.process.poll() is None


def test_workers_have_the_path_and_the_modules_that_the_settings_name(another, tmp_path):
    (tmp_path / "brought_along.py").write_text("import os\npid = os.getpid()\nvalue = 42\n")
    farm, _ = another(slots=1, sys_path=[*sys.path, str(tmp_path)], preload=["brought_along"])

    def look():
        import os
        import sys

        module = sys.modules["brought_along"]
        return module.value, module.pid == os.getppid(), sys.path[-1]

    assert farm.values(farm.submit(look, [()])) == [(42, True, str(tmp_path))]
