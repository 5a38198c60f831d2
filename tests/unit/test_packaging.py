"""What `pip install` gives: three packages, one command, one pytest plugin, nothing else."""

import re
import subprocess
import sys
import sysconfig
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

import pytest

from farm._version import __version__

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"farm", "farm_workers", "farm_scheduler"}
DIST_INFO = f"compute_farm-{__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (path,) = folder.iterdir()
    return path


def run(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_three_packages_and_no_more(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {*PACKAGES, DIST_INFO}
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert f"{DIST_INFO}/licenses/LICENSE" in names


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    folders = [ROOT / "farm", ROOT / "workers/farm_workers", ROOT / "scheduler/farm_scheduler"]
    here = {
        str(path.relative_to(folder.parent))
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    there = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith(DIST_INFO)}
    assert there == here


def test_the_entry_points(wheel):
    points = ConfigParser()
    points.read_string(zipfile.ZipFile(wheel).read(f"{DIST_INFO}/entry_points.txt").decode())
    assert {section: dict(points[section]) for section in points.sections()} == {
        "console_scripts": {"farm": "farm.cli.main:main"},
        "pytest11": {"farm": "farm.pytest_plugin"},
    }


def test_the_metadata(wheel):
    data = Parser().parsestr(zipfile.ZipFile(wheel).read(f"{DIST_INFO}/METADATA").decode())
    required = data.get_all("Requires-Dist", [])
    assert data["Name"] == "compute-farm"
    assert data["Version"] == __version__
    assert data["Requires-Python"] == ">=3.11"
    assert data["License-Expression"] == "Apache-2.0"
    assert {re.split("[<>]", line)[0] for line in required if "extra ==" not in line} == {
        "cloudpickle",
        "msgspec",
        "psutil",
        "pyzmq",
        "rich",
        "typer",
    }
    assert set(data.get_all("Provides-Extra", [])) == {
        "aggregates",
        "all",
        "dev",
        "gateway",
        "scheduler",
    }


@pytest.mark.slow
def test_the_wheel_works_elsewhere(wheel, tmp_path):
    target = tmp_path / "site"
    quiet = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    run(sys.executable, "-m", "pip", "install", *quiet, "--target", target, wheel)
    # -I and -S keep the checkout and its editable installation off the path.
    places = [str(target), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    program = (
        f"import sys; sys.path[:0] = {places!r}\n"
        "import farm, farm_workers, farm_scheduler\n"
        "from farm._version import __version__\n"
        "print(farm.__file__, farm_workers.__file__, farm_scheduler.__file__, __version__)"
    )
    *files, version = run(sys.executable, "-I", "-S", "-c", program, cwd=tmp_path).split()
    assert [Path(file).parent for file in files] == [
        target / package for package in ("farm", "farm_workers", "farm_scheduler")
    ]
    assert version == __version__
