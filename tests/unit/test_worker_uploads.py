"""Which upload a worker has, whatever came before."""

import sys
from functools import partial

from farm.payload import dump_function
from farm.uploads import pack
from farm_workers.channel import FunctionData
from farm_workers.host_slots import FUNCTIONS_PER_WORKER
from farm_workers.uploads import Uploads


def test_a_function_that_is_in_use_keeps_its_upload_whatever_others_come(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "upl_late.py").write_text("")  # imported by nobody as yet
    wrap = pack(tmp_path / "src").wrap
    uploads = Uploads(str(tmp_path / "slot"))
    used, data = wrap(b"used", dump_function(len).data)
    uploads.enter(used, FunctionData(used, "len", data), fresh=True)
    for number in range(FUNCTIONS_PER_WORKER + 1):
        other, data = wrap(bytes([number]), dump_function(partial(len, number)).data)
        uploads.enter(other, FunctionData(other, "len", data), fresh=False)
        uploads.enter(used, len, fresh=False)  # it is loaded, as it is used all the time
        assert any(path.startswith(str(tmp_path / "slot")) for path in sys.path)
    uploads.close()
