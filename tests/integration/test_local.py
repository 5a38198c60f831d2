"""Local farms as users meet them: real processes, killed, forked, resumed, left without a word."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import wait
from pathlib import Path

import cloudpickle
import psutil
import pytest

import farm
from farm import supervisor
from farm.errors import ConfigError, StoreLocked
from farm.local import LocalFarm, checked_workers

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PATIENCE = 30.0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary folders of farms are made; with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(short)


@pytest.fixture
def local(folder):
    """``farm.local`` that cleans up, and checks that nothing is left behind."""
    clients = []

    def make(**options):
        client = farm.local(**{"workers": 2} | options)
        clients.append(client)
        return client

    before = set(psutil.Process().children(recursive=True))
    yield make
    for client in clients:
        client.shutdown(cancel_futures=True)
    left = set(psutil.Process().children(recursive=True)) - before
    _, alive = psutil.wait_procs(left, timeout=PATIENCE)
    assert alive == []
    assert list(folder.glob("farm-*")) == []


@pytest.fixture
def script(folder, tmp_path):
    """Runs a program of a user; ``farm-…`` folders in ``folder`` are its own."""
    running = []

    def run(text, *, cwd=None, **variables):
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(text))
        found = [
            str(Path(one).absolute()) for one in os.environ.get("PYTHONPATH", "").split(":") if one
        ]
        process = subprocess.Popen(
            [sys.executable, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": ":".join(found), **variables},
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def services(client):
    """The processes of the coordinator and the host of a client's farm."""
    found = {}
    for process in psutil.Process().children():
        for module in ("farm.coordinator", "farm_workers"):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue  # of another test: it is over, and waits to be noticed
            if module in process.cmdline():
                found[module] = process
    return found["farm.coordinator"], found["farm_workers"]


def wait_for(condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        threading.Event().wait(0.02)


def double(x):
    return 2 * x


def test_tasks_run_in_other_processes_of_this_machine(local):
    client = local()
    assert client.submit(double, 21).result(PATIENCE) == 42
    assert list(client.map(double, range(100))) == [2 * i for i in range(100)]
    assert client.submit(os.getpid).result(PATIENCE) != os.getpid()
    assert client.query("status")["durable"] is False


def test_more_workers_than_processors(local):
    client = local(workers=(os.cpu_count() or 1) + 3)
    assert client.submit(double, 1).result(PATIENCE) == 2
    [host] = client.query("hosts")
    assert host["slots"] == (os.cpu_count() or 1) + 3


@pytest.mark.parametrize("wrong", [0, -1])
def test_wrong_counts_are_the_standard_errors(wrong):
    with pytest.raises(ValueError, match="must be greater than 0"):
        farm.local(workers=wrong)
    with pytest.raises(ValueError, match="must be greater than 0"):
        farm.local(max_workers=wrong)
    with pytest.raises(TypeError, match="whole number"):
        farm.local(workers="2")
    with pytest.raises(ValueError, match="say one"):
        farm.local(workers=1, max_workers=2)
    with pytest.raises(ConfigError, match="max_lent is -1; it must be a whole number of 0 or more"):
        farm.local(max_lent=-1)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        farm.local(initializer="print")
    assert checked_workers(None, None) is None
    assert checked_workers(None, 3) == checked_workers(3, 3) == 3


def test_workers_see_path_environment_and_initializer(local, tmp_path, monkeypatch):
    (tmp_path / "of_the_user.py").write_text("WORD = 'found'")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("WORD_OF_THE_USER", "seen")
    monkeypatch.setenv("PYTHONPATH", "/some/where")

    def look():
        import of_the_user

        return (
            of_the_user.WORD,
            os.environ["WORD_OF_THE_USER"],
            os.environ["PYTHONPATH"],
            os.environ["SET_BY_INITIALIZER"],
            [name for name in os.environ if name.startswith("FARM_START")],
        )

    def initialize(word):
        os.environ["SET_BY_INITIALIZER"] = word

    client = local(initializer=initialize, initargs=("ready",))
    expected = ("found", "seen", "/some/where", "ready", [])
    assert client.submit(look).result(PATIENCE) == expected


def found_by_a_task():
    """What a task can tell of the process that it runs in; and whether it was started for it."""
    import logging

    own, above = psutil.Process(), psutil.Process().parent()
    changed = ("FARM_START", "FARM_FLAVOUR", "PYTHONPATH")
    log = logging.getLogger("farm")
    found = {
        "words": sys.argv,
        "flags": str(sys.flags),
        "path": sys.path,
        "main": (hasattr(sys.modules["__main__"], "__file__"), sys.modules["__main__"].__spec__),
        "environment": {
            name: value for name, value in os.environ.items() if not name.startswith(changed)
        },
        "secrets": [name for name in os.environ if "SECRET" in name],
        "logs": (len(log.handlers), log.propagate, log.level),
        "signals": [str(signal.getsignal(one)) for one in (signal.SIGTERM, signal.SIGHUP)],
        "input": str(Path("/proc/self/fd/0").readlink()),
        "open": (own.num_fds(), above.num_fds()),
        "threads": (own.num_threads(), above.num_threads()),
    }
    return found, "-c" in above.cmdline()


def test_a_task_finds_the_same_in_a_copy_of_the_agent_as_in_a_new_process(
    local, tmp_path, monkeypatch
):
    """The fork server is a copy, but where that would show: a secret, a module of the user's."""
    first, started = local().submit(found_by_a_task).result(PATIENCE)
    assert not started
    assert first["secrets"] == []
    monkeypatch.setenv("FARM_FLAVOUR_SECRET", "which a process can be seen to be started with")
    assert local().submit(found_by_a_task).result(PATIENCE) == (first, True)
    monkeypatch.delenv("FARM_FLAVOUR_SECRET")
    (tmp_path / "sitecustomize.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert local().submit(found_by_a_task).result(PATIENCE) == (first, True)


def test_a_worker_has_not_loaded_what_has_its_limits_read_after_each_task(local):
    question = "'resource' in __import__('sys').modules"
    assert local().submit(eval, question).result(PATIENCE) is False


def test_the_death_of_the_coordinator_loses_nothing(local):
    client = local()
    client.submit(double, 1).result(PATIENCE)
    futures = [client.submit(double, i) for i in range(500)]
    coordinator, _ = services(client)
    coordinator.kill()
    futures += [client.submit(double, i) for i in range(500)]
    assert [future.result(PATIENCE) for future in futures] == [2 * i for i in range(500)] * 2
    assert services(client)[0].pid != coordinator.pid


def test_the_death_of_the_host_loses_nothing(local):
    client = local()
    client.submit(double, 1).result(PATIENCE)
    futures = [client.submit(double, i) for i in range(200)]
    _, host = services(client)
    host.kill()
    assert [future.result(PATIENCE) for future in futures] == [2 * i for i in range(200)]


def test_a_directory_keeps_results_for_the_next_farm(local, tmp_path):
    place = tmp_path / "state"
    client = local(directory=place)
    job = client.options(name="sums").submit_many(double, range(10))
    wait(list(job), PATIENCE)
    client.shutdown()
    assert (place / "farm.db").exists()
    again = local(directory=place)
    assert again.query("status")["durable"] is True
    found = again.job("sums")
    assert sorted(future.result(PATIENCE) for future in found) == [2 * i for i in range(10)]


def test_a_farm_outlives_the_thread_that_started_it(local):
    made = []
    thread = threading.Thread(target=lambda: made.append(local(workers=1)))
    thread.start()
    thread.join()
    assert [made[0].submit(abs, -n).result(60) for n in (1, 2)] == [1, 2]


def test_a_directory_has_one_farm_at_a_time(local, tmp_path):
    client = local(directory=tmp_path / "state")
    with pytest.raises(StoreLocked, match=r"farm\.db"):
        farm.local(workers=1, directory=tmp_path / "state")
    assert client.submit(double, 2).result(PATIENCE) == 4


def test_a_farm_open_to_other_machines_is_refused_as_a_wrong_setting():
    farm = LocalFarm(slots=1, listen="tcp://0.0.0.0:7070")
    with pytest.raises(ConfigError, match="--insecure"):
        farm.start()


def test_a_directory_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made"):
        farm.local(directory=tmp_path / "file" / "below")


def test_a_farm_that_cannot_be_kept_running_fails_what_waits(local, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", (0.0, 0.01))
    client = local(directory=tmp_path)
    client.submit(double, 1).result(PATIENCE)
    future = client.submit(time.sleep, 2 * PATIENCE)
    wait_for(lambda: client.query("hosts")[0]["running"])
    coordinator, _ = services(client)
    coordinator.suspend()  # it cannot answer any more, and nothing else opens the file
    for path in filter(Path.is_file, tmp_path.glob("farm.db*")):
        path.write_bytes(b"no store at all" * 1000)
    coordinator.kill()
    with pytest.raises(farm.FarmError, match="the coordinator ended with exit code 10"):
        future.result(PATIENCE)


def test_shutdown_waits_for_an_end_that_has_begun_by_itself(local, folder, monkeypatch):
    began, go = threading.Event(), threading.Event()
    stop = LocalFarm.stop

    def slow_stop(self):
        began.set()
        go.wait(PATIENCE)
        stop(self)

    monkeypatch.setattr(LocalFarm, "stop", slow_stop)
    client = local(workers=1)
    client.connection.give_up(farm.FarmError("it is over"))
    assert began.wait(PATIENCE)
    shutting = threading.Thread(target=client.shutdown)
    shutting.start()
    shutting.join(0.2)
    assert shutting.is_alive()
    go.set()
    shutting.join(PATIENCE)
    assert not shutting.is_alive()
    assert list(folder.glob("farm-*")) == []


def test_two_farms_do_not_see_each_other(local):
    first, second = local(workers=1), local(workers=1)
    assert first.submit(double, 1).result(PATIENCE) == 2
    first.shutdown()
    assert second.submit(double, 2).result(PATIENCE) == 4


def test_modules_in_the_current_folder_do_not_shadow_the_farm(script, tmp_path):
    for name in ("farm_workers", "zmq", "msgspec", "json", "logging"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} is a trap')")
    process = script(
        """
        import sys
        here = sys.path.pop(0)
        import farm, farm.client.client, farm.local
        sys.path.insert(0, here)
        import os
        os.chdir(here)
        with farm.local(workers=1) as client:
            print(client.submit(abs, -5).result(30))
        """,
        cwd=tmp_path,
    )
    out, err = process.communicate(timeout=PATIENCE)
    assert (out, err, process.returncode) == ("5\n", "", 0)


def test_a_script_that_just_ends_gets_its_work_done_and_prints_nothing_extra(script, folder):
    process = script(
        """
        import farm

        def hello(name):
            print("hello", name, flush=True)

        client = farm.local(workers=1)
        client.submit(hello, "world")
        """
    )
    out, err = process.communicate(timeout=PATIENCE)
    assert (out, err, process.returncode) == ("hello world\n", "", 0)
    assert list(folder.iterdir()) == []


LIVES = """
    import json, os, psutil, sys, time
    import farm

    client = farm.local(workers=2)
    tasks = [client.submit(time.sleep, 3600) for _ in range(2)]
    while not all(task.running() for task in tasks):
        time.sleep(0.01)
    if os.environ["FORK"]:
        if os.fork() == 0:
            os.close(1), os.close(2)
            time.sleep(3600)
    me = psutil.Process()
    print(json.dumps([child.pid for child in me.children(recursive=True)]), flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("forks", [False, True])
def test_a_farm_dies_with_its_client(script, folder, forks):
    process = script(LIVES, FORK="1" if forks else "")
    line = process.stdout.readline()
    assert line, process.stderr.read()
    everyone = [psutil.Process(pid) for pid in json.loads(line)]
    forked = [one for one in everyone if one.cmdline() == psutil.Process(process.pid).cmdline()]
    assert len(forked) == int(forks)
    assert len(everyone) - len(forked) >= 4  # coordinator, agent, two workers
    try:
        process.kill()
        farms = [one for one in everyone if one not in forked]
        _, alive = psutil.wait_procs(farms, timeout=PATIENCE)
        assert alive == []
        wait_for(lambda: list(folder.glob("farm-*")) == [])
    finally:
        for one in forked:
            one.kill()


def test_ctrl_c_does_not_reach_the_farm(script):
    process = script(
        """
        import os, signal, time
        import farm

        client = farm.local(workers=1)
        task = client.submit(time.sleep, 0.3)
        while not task.running():
            time.sleep(0.01)
        try:
            os.killpg(os.getpgid(0), signal.SIGINT)
            time.sleep(60)
        except KeyboardInterrupt:
            print(task.result(30), client.submit(abs, -1).result(30))
        client.shutdown()
        """
    )
    out, err = process.communicate(timeout=PATIENCE)
    assert (out, err, process.returncode) == ("None 1\n", "", 0)


def test_the_pieces_can_be_started_by_themselves(folder):
    farms = LocalFarm(slots=1, name="mine", coordinator={"log_level": "warning"})
    farms.start()
    try:
        assert all(psutil.pid_exists(pid) for pid in farms.pids)
        with farm.Client(farms.address, connect_timeout=PATIENCE) as client:
            assert client.submit(double, 4).result(PATIENCE) == 8
            assert client.query("hosts")[0]["name"] == "mine"
        assert farms.failed is None
    finally:
        farms.stop(drain=True)
        farms.stop()
    assert not any(psutil.pid_exists(pid) for pid in farms.pids)
    assert list(folder.glob("farm-*")) == []


def test_a_forked_process_does_not_stop_the_farm(local):
    client = local(workers=1)
    client.submit(double, 1).result(PATIENCE)
    pid = os.fork()
    if pid == 0:
        try:
            client.shutdown(wait=False)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert client.submit(double, 3).result(PATIENCE) == 6


def test_a_long_path_for_temporary_files_is_no_obstacle(local, folder, monkeypatch):
    long = folder / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    client = local(workers=1)
    assert client.submit(double, 3).result(PATIENCE) == 6
    assert len(client.address) < 100
    assert list(long.iterdir()) == []


def test_the_signal_of_the_end_is_heard(local):
    client = local(workers=1)
    client.submit(double, 1).result(PATIENCE)
    coordinator, host = services(client)
    client.shutdown()
    assert not coordinator.is_running()
    assert not host.is_running()
    with pytest.raises(RuntimeError):
        client.submit(double, 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def fail_about_a_file(_):
    raise ValueError(os.fsdecode(b"\xff"))


def say_a_file(note, times=1):
    farm.current_task().progress(1, 2, note * times)
    return "done"


def test_names_of_files_that_are_no_unicode_travel_as_text():
    odd = os.fsdecode(b"odd \xff")
    with farm.local(workers=1) as client:
        with pytest.raises(ValueError, match="\udcff"):
            client.submit(fail_about_a_file, 1).result(PATIENCE)
        assert client.submit(say_a_file, odd).result(PATIENCE) == "done"
        # More than fits into a message: a note is cut, and the task's end still arrives.
        assert client.submit(say_a_file, odd, 20_000_000).result(PATIENCE) == "done"
        named = client.options(name=odd).submit_many(abs, [-1])
        assert [future.result(PATIENCE) for future in client.job(odd)] == [1]
        assert named.name == odd
