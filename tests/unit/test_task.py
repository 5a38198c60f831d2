import pytest

from farm.model import Token
from farm.task import TaskContext, current_task, set_source


@pytest.fixture
def context():
    said = []
    task = TaskContext("a-1", 3, 2, Token(5, 2), None, report=lambda *what: said.append(what))
    yield task, said
    set_source(None)


def test_outside_a_task_there_is_none():
    with pytest.raises(RuntimeError, match="outside a task"):
        current_task()


def test_between_tasks_there_is_none():
    set_source(lambda: None)
    with pytest.raises(RuntimeError, match="outside a task"):
        current_task()
    set_source(None)


def test_the_worker_says_what_the_task_is(context):
    task, _ = context
    set_source(lambda: task)
    assert current_task() is task
    assert (task.id, task.item, task.attempt, task.token) == ("a-1", 3, 2, Token(5, 2))


def test_progress_goes_to_the_worker_as_plain_numbers(context):
    task, said = context
    task.progress(1)
    task.progress(2, total=4, note="half")
    assert said == [(task, 1.0, 0.0, ""), (task, 2.0, 4.0, "half")]
