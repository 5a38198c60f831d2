"""What is uploaded: which files, how many, under which names."""

import os
import sys

import pytest

from farm import uploads
from farm._payload_uploads import Carried
from farm.errors import ConfigError, PayloadError
from farm.payload import dump_function, load_function
from farm.uploads import Upload, pack, split, unpack


@pytest.fixture
def tree(tmp_path):
    def make(files, name="src"):
        for path, text in files.items():
            one = tmp_path / name / path
            one.parent.mkdir(parents=True, exist_ok=True)
            one.write_text(text)
        return tmp_path / name

    return make


def names(upload, tmp_path):
    folder = tmp_path / "unpacked"
    tops = unpack(Carried(upload.digest, upload.archive), folder)
    return tops, {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}


def test_a_folder_goes_in_by_what_is_in_it(tree, tmp_path):
    upload = pack(tree({"one.py": "1", "pack/__init__.py": "", "pack/data.txt": "x"}))
    tops, files = names(upload, tmp_path)
    assert tops == {"one", "pack"}
    assert files == {"one.py", "pack/__init__.py", "pack/data.txt"}


def test_a_package_and_a_file_go_in_under_their_names(tree, tmp_path):
    upload = pack(tree({"__init__.py": "", "sub/mod.py": ""}, "project"))
    assert names(upload, tmp_path)[1] == {"project/__init__.py", "project/sub/mod.py"}
    single = pack(tree({"one.py": "1"}) / "one.py")
    assert names(single, tmp_path / "b")[1] == {"one.py"}


LEFT_OUT = [
    ".git/config", ".hidden.py", "__pycache__/a.pyc", "a.pyc", "env/pyvenv.cfg", "env/lib/x.py",
    "venv/x.py", "node_modules/x.js", "x.egg-info/PKG-INFO", "data/big.csv", "sub/data/big.csv",
    "notes.txt",
]  # fmt: skip


def test_what_is_no_code_of_the_project_is_left_out(tree, tmp_path):
    src = tree(dict.fromkeys(["a.py", "sub/b.py", *LEFT_OUT], "x"))
    (src / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(src / "pipe")
    upload = pack(src, exclude=["data", "notes.*"])
    assert names(upload, tmp_path)[1] == {"a.py", "sub/b.py"}
    assert names(pack(src, ["sub/data/", "*.txt"]), tmp_path / "b")[1] == {
        "a.py", "sub/b.py", "data/big.csv",
    }  # fmt: skip


def test_the_same_files_are_the_same_upload(tree, tmp_path):
    first = pack(tree({"a.py": "1", "b.py": "2"}))
    os.utime(tmp_path / "src" / "a.py", (1, 1))
    assert pack(tmp_path / "src").digest == first.digest
    assert pack(tree({"b.py": "2", "a.py": "1"}, "elsewhere")).digest == first.digest
    (tmp_path / "src" / "a.py").write_text("3")
    assert pack(tmp_path / "src").digest != first.digest


def test_too_much_is_refused_with_the_largest_by_name(tree):
    src = tree({"a.py": "1", "data/table.csv": ""})
    (src / "data" / "table.csv").write_bytes(os.urandom(17 << 20))
    with pytest.raises(ConfigError, match=r"17.8 MB packed.*16 MiB packed.*data/table.csv \(17.8"):
        pack(src)
    os.truncate(src / "data" / "table.csv", 65 << 20)
    with pytest.raises(ConfigError, match=r"68.2 MB in 2 files; there may be 64 MiB"):
        pack(src)
    assert pack(src, exclude=["data"]).archive


def test_what_cannot_be_uploaded(tree, tmp_path):
    with pytest.raises(ConfigError, match="there is no"):
        pack(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="has no files to travel"):
        pack(tree({".git/config": ""}))
    with pytest.raises(ConfigError, match="has a module 'json', which would hide that of Python"):
        pack(tree({"json.py": ""}, "b"))
    with pytest.raises(ConfigError, match="has a module 'farm'"):
        pack(tree({"farm/__init__.py": ""}, "c"))


def test_a_function_with_an_upload_is_opened_like_one_without():
    payload = dump_function(len)
    upload = Upload(b"an archive")
    digest, data = upload.wrap(payload.hash, payload.data)
    assert upload.wrap(payload.hash, payload.data)[0] == digest != payload.hash
    assert split(data) == (Carried(upload.digest, b"an archive"), payload.data)
    assert split(payload.data) == (None, payload.data)
    assert load_function(data) is len


@pytest.mark.parametrize("suffix", ["so", "abi3.so", "cpython-311-x86_64-linux-gnu.so"])
def test_a_native_module_at_the_top_has_a_name_that_counts(suffix, tree, tmp_path):
    src = tree({f"upl_native.{suffix}": "", "data.txt": ""})
    assert names(pack(src), tmp_path)[0] == {"upl_native"}
    with pytest.raises(ConfigError, match="has a module 'json'"):
        pack(tree({f"json.{suffix}": ""}, "other"))


def test_a_file_whose_name_is_no_text_is_refused_in_words(tree):
    src = tree({"one.py": ""})
    (src / os.fsdecode(b"caf\xe9.txt")).write_text("")
    with pytest.raises(ConfigError, match=r"'caf\\udce9.txt' is no UTF-8"):
        pack(src)
    assert pack(src, exclude=["caf*"])


def test_a_damaged_archive_is_an_error_of_the_task(tmp_path):
    with pytest.raises(PayloadError, match="cannot be unpacked"):
        unpack(Carried(b"d", b"no archive"), tmp_path / "x")
    assert "x" not in sys.modules


def test_a_function_is_looked_at_anew_when_its_modules_are_uploaded(tree, monkeypatch):
    src = tree({"upl_edited.py": "def call():\n    return 1\n"})
    monkeypatch.syspath_prepend(str(src))
    import upl_edited

    before = dump_function(upl_edited.call)
    (src / "upl_edited.py").write_text("def call():\n    return 2, 'edited'\n")
    pack(src)
    assert dump_function(upl_edited.call).hash != before.hash


def test_a_function_is_wrapped_once_and_many_different_ones_are_warned_of(caplog, monkeypatch):
    monkeypatch.setattr(uploads, "CARRIED_BYTES", 40)
    upload = uploads.Upload(b"0123456789")
    first = upload.wrap(b"f", b"pickle")
    for _ in range(100):
        assert upload.wrap(b"f", b"pickle") is first  # each submit of it: nothing is made again
    assert not caplog.records
    for number in range(10):
        upload.wrap(bytes([number]), b"pickle")
    [said] = caplog.records
    assert "4 different functions have carried an upload" in said.getMessage()
