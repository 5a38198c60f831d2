"""When memory is given back to the system: when payloads have stopped coming and going."""

from farm.coordinator.heap import CALM_SECONDS, TRIM_BYTES, Heap


def trimmed(notes):
    """The times at which the heap is trimmed, for ``(bytes dropped, time)``."""
    heap, found = Heap(), []
    for dropped, now in notes:
        heap._trim = lambda _keep, now=now: found.append(now)
        heap.note(dropped, now)
    return found


def test_it_is_trimmed_once_when_much_was_dropped_and_no_more_is():
    calm = 10.0 + CALM_SECONDS
    assert trimmed([(TRIM_BYTES, 10.0), (TRIM_BYTES, calm), (TRIM_BYTES, 99.0)]) == [calm]


def test_it_is_not_trimmed_while_payloads_are_dropped():
    assert trimmed([(TRIM_BYTES * second, float(second)) for second in range(100)]) == []


def test_it_is_not_trimmed_for_a_little():
    assert trimmed([(TRIM_BYTES - 1, 10.0), (TRIM_BYTES - 1, 99.0)]) == []


def test_the_library_can_be_asked():
    Heap()._trim(0)
