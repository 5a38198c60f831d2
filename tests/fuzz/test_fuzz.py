"""Some thousands of mutated frames, records and pipe messages; ``make fuzz`` tries a million."""

import pytest

from farm.core.admission import Admission
from farm.errors import ProtocolError
from farm.protocol.codec import Decoder
from tests.fuzz.pipe import fuzz_pipe
from tests.fuzz.ports import Found, fuzz_decoders
from tests.fuzz.records import fuzz_records
from tests.fuzz.sockets import fuzz_sockets
from tests.processes import Place, adopts_orphans

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_no_frame_breaks_decoders_or_core():
    counts = fuzz_decoders(6_000, seed=11)
    assert counts["taken by the core"] > 1_000
    assert counts["refused by the decoder"] > 1_000


def test_no_record_is_guessed_about():
    counts = fuzz_records(2_000, seed=11)
    assert counts["loaded"]
    assert counts["refused in loading"]


def test_no_worker_breaks_its_agent():
    counts = fuzz_pipe(4_000, seed=11)
    assert counts["pipes closed"]


def test_a_coordinator_serves_after_two_thousand_frames():
    counts = fuzz_sockets(2_000, seed=11)
    assert counts["rejected"]


def test_after_it_this_process_adopts_nobody():
    with Place("outer"):
        with Place("inner"):
            assert adopts_orphans()
        assert adopts_orphans()
    assert not adopts_orphans()


def test_a_core_that_raises_is_noticed(monkeypatch):
    def raising(*_):
        raise KeyError("a bug")

    monkeypatch.setattr(Admission, "on_submit", raising)
    with pytest.raises(Found, match="a bug"):
        fuzz_decoders(2_000, seed=11)


def test_a_decoder_that_raises_is_noticed(monkeypatch):
    decode = Decoder.decode

    def raising(self, frames):
        try:
            return decode(self, frames)
        except ProtocolError:
            raise RecursionError from None

    monkeypatch.setattr(Decoder, "decode", raising)
    with pytest.raises(Found, match="decoder raised"):
        fuzz_decoders(2_000, seed=11)


def test_a_host_that_believes_its_workers_is_noticed(monkeypatch):
    monkeypatch.setattr("farm_workers.host_lease.Running.fits", lambda *_: True)
    with pytest.raises(Found):
        fuzz_pipe(4_000, seed=11)
