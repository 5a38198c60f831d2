"""Numbers at the end of their range, which no honest peer sends."""

import pytest

from farm.errors import ProtocolError
from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol.codec import decoder, encode
from farm.protocol.parts import COUNTER_MAX
from tests.unit.core_harness import Rig, group, packed


@pytest.mark.parametrize(
    "last",
    [group(COUNTER_MAX, 1), group(COUNTER_MAX - 1, 2), packed(5, 1, start=COUNTER_MAX)],
)
def test_tasks_whose_parts_could_not_be_named_do_not_get_in(last):
    """Their records could be written, and not be read at the next start."""
    with pytest.raises(ProtocolError, match="beyond"):
        decoder("from_client").decode(encode(0, m.Submit([last])))


def test_the_last_task_that_can_be_named():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(COUNTER_MAX - 2, 2))
    rig.reload()
    assert rig.ledger.open_tasks == 2


def test_runs_that_reach_beyond_are_answered_as_far_as_there_are_names():
    rig = Rig()
    client = rig.client()
    rig.submit(client, group(1, 1))
    client = rig.client(quiet=False, pending=[(1, COUNTER_MAX), (COUNTER_MAX, 5)])
    rig.say(client, m.Attach(1, [(b"?" * 16, 7, COUNTER_MAX), (b"?" * 16, COUNTER_MAX, 1)]))
    found = [(e.first, e.count, e.ending) for x in rig.of(m.Results) for e in x.entries]
    assert found == [
        (2, COUNTER_MAX - 2, Ending.UNKNOWN),
        (7, COUNTER_MAX - 7, Ending.UNKNOWN),
    ]
