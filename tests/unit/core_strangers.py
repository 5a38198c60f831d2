"""Peers that say anything the codec lets through, for the fuzz test of the core."""

from hypothesis import strategies as st

from farm.errors import ProtocolError
from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol.codec import decoder, encode
from farm.protocol.parts import Failure
from tests.unit.core_harness import F, session_id

NAMES = ("alice", "bob")
HOSTS = ("h1", "h2")

counters = st.integers(0, 40) | st.sampled_from([1 << 31, 1 << 62])
counts = st.integers(1, 12)
odd_counts = st.integers(0, 12) | st.just(1 << 62)
sessions = st.sampled_from([session_id(name) for name in NAMES] + [b"?" * 16, b""])
task_runs = st.lists(st.tuples(sessions, counters, odd_counts), max_size=3)
times = st.sampled_from([0.0, 0.5, 3.0])
templates = st.none() | st.builds(
    m.Template,
    priority=st.integers(-2, 2),
    retries=st.integers(0, 2),
    backoff=times,
    max_losses=st.integers(0, 2),
    durable=st.booleans(),
    result_ttl=st.none() | times,
    expires=st.none() | st.just(4.0),
    delay=st.none() | times,
)


@st.composite
def groups(draw):
    count = draw(counts)
    packed = draw(st.booleans())
    payloads = [b"x" * draw(st.integers(0, 9)) for _ in range(1 if packed else count)]
    return m.Group(
        draw(counters),
        count,
        draw(st.sampled_from([F.hash, F.hash, F.hash, b"?" * 16])),
        payloads,
        sum(map(len, payloads)),
        packed,
        draw(st.integers(0, 5)),
        draw(st.sampled_from([0, 0, 1, 2, 9])),
        draw(templates),
    )


odd = (
    st.none() | st.booleans() | st.integers(-(1 << 62), 1 << 62) | st.floats() | st.text(max_size=3)
)
queries = st.builds(
    m.Query,
    counters,
    st.sampled_from(["status", "hosts", "jobs", "tasks", "task", "nothing", ""]),
    st.dictionaries(
        st.sampled_from(["id", "state", "limit", "longer_than", "other"]),
        odd | st.lists(odd, max_size=2) | st.binary(max_size=3) | st.sampled_from(
            ["queued", "running", f"{session_id('alice').hex()}-3", float("inf"), 1 << 63]
        ),
        max_size=3,
    ),
)  # fmt: skip
from_client = st.one_of(
    st.builds(m.Submit, st.lists(groups(), max_size=4)),
    st.builds(m.Submit, st.lists(groups(), min_size=1, max_size=2)),
    st.builds(m.Taken, counters),
    st.builds(m.Taken, counters),
    st.builds(m.Cancel, counters, task_runs),
    st.builds(m.Attach, counters, task_runs, st.sampled_from(["", "", "name", "?"])),
    st.builds(m.JobOpen, st.integers(0, 2), st.sampled_from(["", "name"])),
    st.builds(m.JobSeal, st.integers(0, 2), counters),
    st.builds(m.Function, st.binary(max_size=2), st.text(max_size=2), st.binary(max_size=9)),
    queries,
    st.builds(m.Beat, st.floats(allow_nan=False), running=st.lists(st.tuples(*[counters] * 4))),
    st.builds(m.Bye),
)
failures = st.none() | st.builds(Failure, st.text(max_size=3))


def _bent(draw, value, *, often=6):
    """A number, now and then another."""
    return draw(counters) if draw(st.integers(0, often)) == 0 else value


@st.composite
def keys(draw, leases):
    epoch, grant = draw(st.sampled_from(leases))
    lo = draw(st.integers(0, grant.count - 1))
    hi = draw(st.integers(lo, grant.count))
    return (
        _bent(draw, epoch),
        _bent(draw, grant.lease),
        _bent(draw, grant.first + lo),
        _bent(draw, hi - lo),
    )


@st.composite
def ends(draw, leases):
    epoch, grant = draw(st.sampled_from(leases))
    lo = draw(st.integers(0, grant.count - 1))
    count = draw(st.integers(1, grant.count - lo))
    ending = draw(st.sampled_from([Ending.OK] * 4 + [Ending.LOST, Ending.EXCEPTION, *Ending]))
    packed = draw(st.booleans()) and ending == Ending.OK
    payloads = [b"r"] * (1 if packed else count) if ending <= Ending.EXCEPTION else []
    return m.Ended(
        _bent(draw, epoch, often=20),
        _bent(draw, grant.lease, often=20),
        _bent(draw, grant.attempt, often=20),
        _bent(draw, grant.first + lo, often=20),
        count,
        ending,
        payloads,
        len(payloads),
        packed,
        draw(st.sampled_from([0.0, 0.001, 9.0, -1.0, float("inf")])),
        draw(failures),
    )


@st.composite
def reports(draw, leases):
    few = {"max_size": 3}
    some = st.lists(keys(leases), **few) if leases else st.just([])
    progress = [
        (epoch, lease, first, 1.0, 2.0, "") for epoch, lease, first, _ in draw(some)
    ]  # fmt: skip
    return m.Report(
        draw(counters),
        draw(st.integers(0, 9)),
        draw(st.lists(ends(leases), **few)) if leases else [],
        draw(some),
        draw(some),
        progress,
    )


@st.composite
def claims(draw, leases):
    found = []
    for epoch, grant in draw(st.lists(st.sampled_from(leases), max_size=4)) if leases else []:
        lo = draw(st.integers(0, grant.count - 1))
        found.append(
            m.Claim(
                _bent(draw, epoch),
                _bent(draw, grant.lease),
                _bent(draw, grant.attempt),
                draw(st.sampled_from([grant.session] * 5 + [b""])),
                _bent(draw, grant.first + lo),
                _bent(draw, grant.count - lo),
                draw(st.booleans()),
            )
        )
    return found


def over_the_wire(message, side):
    """The message as the coordinator reads it, or None if the codec refuses it."""
    try:
        return decoder(f"from_{side}").decode(encode(0, message))[1]
    except ProtocolError:
        return None
