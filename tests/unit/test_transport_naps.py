"""A machine that slept, or a process that was stopped, is noticed by its clocks."""

from farm.transport.naps import GAP_SECONDS, LEAP_SECONDS, LOOK_SECONDS, Naps

WALL = 1.7e9


def test_time_that_passes_is_no_nap():
    naps = Naps(100.0, WALL)
    for turn in range(1, 50):
        assert not naps.slept(100.0 + turn * LOOK_SECONDS, WALL + turn * LOOK_SECONDS)


def test_a_machine_that_slept_has_a_wall_clock_ahead_of_its_monotonic_one():
    naps = Naps(100.0, WALL)
    assert naps.slept(101.0, WALL + 3601.0) == "this machine slept for 3600 s"
    assert not naps.slept(102.0, WALL + 3602.0)


def test_a_process_that_was_stopped_sees_both_go_on():
    naps = Naps(100.0, WALL)
    assert naps.slept(160.0, WALL + 60.0) == "this process was stopped for 60 s"


def test_a_clock_that_is_set_back_or_by_little_is_none():
    naps = Naps(100.0, WALL)
    assert not naps.slept(101.0, WALL - 3600.0)
    assert not naps.slept(102.0, WALL - 3599.0 + LEAP_SECONDS)
    assert not naps.slept(102.0 + GAP_SECONDS, WALL - 3599.0 + LEAP_SECONDS + GAP_SECONDS)
