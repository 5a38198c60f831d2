"""`client.upload("src/")` with real workers: each job has its own modules, and nobody else's."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cloudpickle
import psutil
import pytest

import farm
from farm.errors import PayloadError
from farm_workers import upload_folder, uploads

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("forked_services")

RESULT_SECONDS = 60


def project(folder, version, **more):
    folder.mkdir()
    (folder / "upl_project.py").write_text(f"import upl_part\nVERSION = {version}\n")
    (folder / "upl_part.py").write_text(f"PART = {version}\n")
    for name, text in more.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def version():
    import upl_part
    import upl_project

    return upl_project.VERSION, upl_part.PART, os.getpid(), upl_project.__file__


def missing():
    try:
        import upl_project
    except ModuleNotFoundError:
        return "missing"
    return upl_project.__file__


def on_path():
    return [one for one in sys.path if upload_folder.PREFIX in one]


@pytest.fixture
def two():
    with farm.local(workers=2) as client:
        yield client


def result(future):
    return future.result(RESULT_SECONDS)


def test_two_versions_run_at_the_same_time_each_its_own(two, tmp_path):
    views = {number: two.upload(project(tmp_path / f"v{number}", number)) for number in (1, 2)}
    futures = [(number, views[number].submit(version)) for _ in range(12) for number in (1, 2)]
    found = [(number, result(future)) for number, future in futures]
    assert all(told[:2] == (number, number) for number, told in found)
    by_process = {}
    for number, told in found:
        by_process.setdefault(told[2], set()).add(number)
    assert all(len(numbers) == 1 for numbers in by_process.values())


def test_tasks_of_others_do_not_have_the_modules(two, tmp_path):
    view = two.upload(project(tmp_path / "v1", 1))
    assert result(view.submit(version))[:2] == (1, 1)
    for _ in range(4):
        assert result(two.submit(missing)) == "missing"
        assert result(two.submit(on_path)) == []
    assert result(view.options(priority=1).submit(on_path)) != []


def test_maps_and_jobs_have_them_too(two, tmp_path):
    view = two.upload(project(tmp_path / "v1", 1))
    assert set(view.map(lambda _: version()[0], range(200))) == {1}
    job = view.options(name="nightly").submit_many(lambda _: version()[1], range(10))
    assert [result(future) for future in job] == [1] * 10


def test_a_function_of_the_upload_runs_as_it_was_uploaded(two, tmp_path, monkeypatch):
    src = project(tmp_path / "src", 1, upl_named="def call():\n    return 'old'\n")
    monkeypatch.syspath_prepend(str(src))
    import upl_named

    view = two.upload(src)
    assert result(view.submit(upl_named.call)) == "old"
    (src / "upl_named.py").write_text("def call():\n    return 'new, edited'\n")
    again = two.upload(src)
    assert result(again.submit(upl_named.call)) == "new, edited"


def test_what_a_task_submits_has_them_as_well(two, tmp_path):
    view = two.upload(project(tmp_path / "v1", 1))

    def parent():
        return farm.current_client().submit(lambda: version()[0]).result(RESULT_SECONDS)

    assert result(view.submit(parent)) == 1


def test_the_folder_goes_with_the_job_and_the_farm(tmp_path, monkeypatch):
    with farm.local(workers=1) as client:
        view = client.upload(project(tmp_path / "v1", 1))
        file = Path(result(view.submit(version))[3])
        assert file.exists()
        assert stat_of(file.parents[2]) == 0o700
        assert result(client.submit(missing)) == "missing"
        assert not file.exists()
        kept = Path(result(view.submit(version))[3])
    assert not kept.parents[2].exists()


def stat_of(path):
    return path.stat().st_mode & 0o777


def test_a_worker_that_nobody_needs_lets_go_by_itself(tmp_path):
    with farm.local(workers=1) as client:
        view = client.upload(project(tmp_path / "v1", 1))
        _, _, pid, file = result(view.submit(version))
        psutil.Process(pid).wait(RESULT_SECONDS)  # it is replaced
        assert not Path(file).exists()
        assert result(view.submit(version))[:2] == (1, 1)


def test_what_a_killed_worker_leaves_the_next_removes(tmp_path):
    def die():
        version()
        os.kill(os.getpid(), 9)

    with farm.local(workers=1) as client:
        view = client.upload(project(tmp_path / "v1", 1))
        file = Path(result(view.submit(version))[3])
        with pytest.raises(farm.WorkerLost):
            result(view.options(max_losses=0).submit(die))
        assert result(client.submit(missing)) == "missing"
        assert not file.exists()


def test_a_preloaded_module_of_the_same_name_makes_way(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(project(tmp_path / "here", 7)))
    with farm.local(workers=1, preload=["upl_project"]) as client:
        assert result(client.submit(version))[0] == 7
        view = client.upload(project(tmp_path / "v1", 1))
        assert result(view.submit(version))[:2] == (1, 1)
        assert result(client.submit(version))[0] == 7


def test_an_installed_module_in_use_cannot_be_hidden(two, tmp_path):
    view = two.upload(project(tmp_path / "v1", 1, msgspec="VERSION = 1\n"))
    with pytest.raises(PayloadError, match="has a module 'msgspec', and so has this host"):
        result(view.submit(version))
    assert result(two.submit(missing)) == "missing"


def test_folders_of_agents_that_were_killed_are_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import os, tempfile; from farm_workers.upload_folder import UploadFolder;"
        f"tempfile.tempdir = {str(tmp_path)!r}; print(UploadFolder().path, flush=True);"
        "os.kill(os.getpid(), 9)"
    )
    left = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    ).stdout.strip()
    assert Path(left).is_dir()
    one = upload_folder.UploadFolder()
    other = upload_folder.UploadFolder()
    assert not Path(left).exists()
    assert Path(one.path).is_dir()  # it is in use
    assert Path(other.slot(3)) == Path(other.path) / "3"
    for folder in (one, other):
        folder.close()
    assert list(tmp_path.glob(f"{upload_folder.PREFIX}*")) == []


def test_without_a_folder_for_it_an_upload_fails_and_nothing_else(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    folder = upload_folder.UploadFolder()
    assert "there can be no uploads" in folder.trouble
    assert folder.slot(1) == ""
    with pytest.raises(PayloadError, match="no folder for uploads"):
        uploads.Uploads("").enter(
            b"f", uploads.FunctionData(b"f", "f", farm.uploads.Upload(b"").wrap(b"f", b"")[1]),
            fresh=True,
        )  # fmt: skip


def test_a_local_farm_leaves_nothing_of_a_host_that_was_killed(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as short:  # a socket's path is
        monkeypatch.setattr(tempfile, "tempdir", short)
        with farm.local(workers=1) as client:
            view = client.upload(project(tmp_path / "v1", 1))
            assert Path(result(view.submit(version))[3]).is_relative_to(short)
            (host,) = client.query("hosts")
            os.kill(host["pid"], 9)
        assert list(Path(short).iterdir()) == []
