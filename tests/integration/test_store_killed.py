"""A process killed while it commits: what it was told to be durable is there."""

import subprocess
import sys

from farm.store import open_store
from tests.unit.store_records import record_of

# Appends small and large rows, deletes older ones, and says so line by line.
CHILD = """
import sys
from farm.store import Append, Delete, open_store
from tests.unit.store_records import record_of
store = open_store(sys.argv[1])
ref = store.open(0, 0).commit
while True:
    sizes = {ref + 1: 100 + ref, ref + 2: 200_000 + ref}
    store.commit([*(Append(r, record_of(s)) for r, s in sizes.items()), Delete([ref - 50])])
    ref += 2
    print(ref, flush=True)
    if ref % 16 == 0:
        store.maintain()
"""


def test_a_killed_process_loses_nothing_that_was_committed(tmp_path):
    path = str(tmp_path / "farm.db")
    told = 0
    for lines in (3, 40, 150):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, path], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        with child, child.stdout:
            for _ in range(lines):
                told = int(child.stdout.readline())
            child.kill()
            told = max([told, *(int(line) for line in child.stdout if line.endswith("\n"))])
        store = open_store(path)
        assert store.open(0, 0).commit >= told
        found = dict(store.records())
        for ref in range(max(1, told - 48), told + 1):
            size = 100 + ref - 1 if ref % 2 else 200_000 + ref - 2
            assert found[ref] == record_of(size)
        store.close()
