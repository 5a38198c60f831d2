"""A host lets no more run than it has, and gives each device to one task at a time."""

from farm.model import Ending
from tests.unit.host_rig import Rig, one, runs

GPU = (("gpu", 1.0),)


def rig(slots=3, **has):
    return Rig(slots, resources=has, devices=("d0", "d1")[: int(has.get("gpu", 0))])


def given(calls):
    """The slices that were handed over, by slot, whatever else happened."""
    return {slot: rest[0] for name, slot, *rest in calls if name == "run"}


def test_what_it_has_is_said_in_hello():
    host = Rig(1, connect=False, resources={"gpu": 1.0})
    host.host.on_connected(host.now)
    (hello,) = [call[1] for call in host.take()]
    assert hello.resources == {"gpu": 1.0}


def test_tasks_run_one_by_one_each_with_a_device_of_its_own():
    host = rig(gpu=2.0)
    found = runs(host.assign(2, resources=GPU))
    assert {slot: part[0].devices for slot, part in found.items()} == {0: ("d0",), 1: ("d1",)}
    assert all(part[0].count == 1 for part in found.values())


def test_a_worker_keeps_the_devices_that_it_has_opened():
    host = rig(gpu=2.0)
    found = runs(host.assign(2, resources=GPU))
    host.ended(0, found[0][0])
    host.ended(1, found[1][0])
    slot, part = one(host.assign(1, lease=2, first=9, resources=GPU))
    assert part.devices == found[slot][0].devices


def test_others_are_given_to_workers_without_devices_first():
    host = rig(gpu=2.0)
    slot, part = one(host.assign(1, resources=GPU))
    host.ended(slot, part)
    slot, part = one(host.assign(1, lease=2, first=5))
    assert (slot, part.devices) == (1, ())


def test_a_worker_with_other_devices_is_replaced_before_they_are_given_away():
    host = rig(gpu=2.0)
    found = runs(host.assign(2, resources=GPU))
    for slot, parts in found.items():
        host.ended(slot, parts[0])
    calls = host.assign(1, lease=2, first=9, resources=(("gpu", 2.0),))
    assert sorted(calls) == [("retire", 0), ("retire", 1)]
    assert given(host.exit(0, code=0)) == {}
    (part,) = given(host.exit(1, code=0)).values()  # the third one is not bound to any
    assert part.devices == ("d0", "d1")


def test_what_needs_several_slots_keeps_others_from_beginning():
    host = rig()
    slot, part = one(host.assign(1, resources=(("slots", 2.0),)))
    assert list(given(host.assign(5, lease=2, first=5, expected=1.0))) == [1]
    assert list(given(host.ended(slot, part))) == [0, 2]


def test_a_lease_that_does_not_fit_is_given_back_and_counted():
    host = rig(gpu=1.0)
    host.assign(1, resources=GPU)
    assert host.assign(1, lease=2, first=5, resources=GPU) == []
    assert host.report().returned == [(1, 2, 5, 1)]
    beats = [call[1] for call in host.all(11.0) if call[0] == "send"]
    assert any(getattr(beat, "load", None) == {"misfits": 1.0} for beat in beats)


def test_what_it_does_not_have_at_all_is_given_back():
    host = rig(gpu=1.0)
    for lease, needs in enumerate(((("licence", 1.0),), (("slots", 4.0),), (("gpu", 2.0),)), 1):
        assert host.assign(1, lease=lease, first=lease, resources=needs) == []
    assert len(host.report().returned) == 3


def test_a_worker_that_is_being_ended_still_has_what_it_had():
    host = rig(gpu=1.0)
    slot, part = one(host.assign(1, resources=GPU, time_limit=1.0))
    host.all(1.5)  # it is asked to end
    host.assign(1, lease=2, first=5, resources=GPU)  # given back: its coordinator cannot know
    assert host.report().returned == [(1, 2, 5, 1)]
    host.exit(slot, part.offset)
    (end,) = host.report().ended
    assert end.ending is Ending.TIME_LIMIT
    (part,) = given(host.assign(1, lease=3, first=6, resources=GPU)).values()
    assert part.devices == ("d0",)
