"""What a simulated user's program does: submits, cancels, follows, asks, and waits for it all."""

from __future__ import annotations

from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from farm.model import TaskId
from farm.protocol.messages import DrainHost, Function, Group, JobInfo, TaskKey, Template
from tests.sim.truth import Task, ids
from tests.sim.work import Work, join

if TYPE_CHECKING:
    from farm.protocol.parts import TaskRun
    from tests.sim.client import ClientProcess
    from tests.sim.truth import Id

__all__ = ["FUNCTIONS", "Program"]

FUNCTIONS = [
    Function(blake2b(data, digest_size=16).digest(), data.decode()[4:], data)
    for data in (b"def alpha", b"def beta", b"def gamma")
]


class Program:
    """One script, acting at random times until the world rests."""

    def __init__(self, client: ClientProcess) -> None:
        self.client = client
        self.world = client.world
        self.chance = client.world.chance
        self.queue_chance = Random(client.world.plan.seed * 131 + len(client.name))
        self.key_chance = Random(client.world.plan.seed * 137 + len(client.name))
        self.need_chance = Random(client.world.plan.seed * 139 + len(client.name))
        self.counter = 1
        self.requests = 0
        self.jobs: dict[int, int] = {}  # open jobs and their tasks so far
        self.cancels: set[int] = set()
        self.questions: set[int] = set()
        self.follows: dict[int, set[Id]] = {}
        self.followed_jobs: dict[int, str] = {}  # by name, of requests
        self.given_up: set[tuple[Id, bool]] = set()  # and whether it was accepted by then
        self.must_know: set[Id] = set()  # followed tasks that were acknowledged before
        self._jobs_opened = 0
        self._next()

    def _next(self) -> None:
        mean = self.world.plan.submit_seconds
        self.client.later(self.chance.expovariate(1.0 / mean), self._act)

    def _act(self) -> None:
        if self.world.resting or self.client.finished:
            return
        # Where keys are in use, an order is an admin's.
        if self.queue_chance.random() < self.world.plan.orders and not self.world.plan.owners:
            self.order(self.queue_chance.choice(ORDERS))
        choice = self.chance.random()
        if choice < 0.6:
            self.submit()
        elif choice < 0.75:
            self.cancel()
        elif choice < 0.85:
            self.follow()
        elif choice < 0.9:
            self.ask()
        elif self.jobs:
            self.seal(self.chance.choice(list(self.jobs)))
        self._next()

    def rest(self) -> None:
        """No new work; what is open is closed."""
        for job in list(self.jobs):
            self.seal(job)
        orders = self.world.plan.orders and not self.world.plan.owners
        for name in self.world.plan.queues if orders else ():
            self.order("resume_queue", name)

    def order(self, what: str, name: str = "") -> None:
        """Tell a queue something."""
        name = name or self.queue_chance.choice(sorted(self.world.plan.queues))
        request = self._request()
        self.questions.add(request)
        self.world.stats[what] += 1
        self.world.checks.queues.ordered(self.client, request, what, name)
        self.client.machine.query(request, what, {"name": name}, self.client.now)

    @property
    def waits_for(self) -> list[str]:
        """What has not happened yet that the program waits for."""
        client, truth = self.client, self.world.truth
        mine = client.session
        missing = [
            task.name
            for task in truth.unsettled.values()
            if task.id[0] == mine and not task.refused
        ]
        missing += [f"reply to {request}" for request in self.unanswered]
        missing += [f"the seal of {name}" for name in client.machine.jobs.unsealed]
        for request, tasks in self.follows.items():
            info = client.replies.get(request)
            if isinstance(info, JobInfo) and not info.error:
                wanted = tasks | client.followed.get(request, set())
                missing += [
                    f"outcome of followed {task[0][:2].hex()}-{task[1]}"
                    for task in wanted
                    if task not in client.heard and task[0] != client.session
                ]
        return missing

    @property
    def unanswered(self) -> set[int]:
        """Its requests without a reply; each new connection sends them once more."""
        return (self.cancels | self.questions | self.follows.keys()) - self.client.replies.keys()

    def is_following(self, task: Id) -> bool:
        """Whether a request asked for this task's outcome."""
        return any(
            task in tasks or task in self.client.followed.get(request, ())
            for request, tasks in self.follows.items()
        )

    # ------------------------------------------------------------ submitting

    def submit(self) -> None:
        """One to four groups in one call, as long as the plan has tasks left."""
        wanted = self.chance.choice((1, 1, 2, 4))
        groups: list[Group] = []
        most = self.world.plan.tasks
        while len(groups) < wanted and self.counter <= most and self.world.budget.takes_more:
            groups.append(self._group())
        if not groups:
            return
        if self.chance.random() < 0.1:
            groups.reverse()
        functions = [f for f in FUNCTIONS if any(group.function == f.hash for group in groups)]
        self.client.machine.submit(groups, functions, self.client.now)

    def _group(self) -> Group:
        chance = self.chance
        packed = chance.random() < 0.3
        count = chance.choice((2, 5, 12)) if packed else chance.choice((1, 1, 2, 6))
        count = min(count, self.world.plan.tasks + 1 - self.counter)
        template = replace(self._template(), **self._needs())
        job = self._job()
        works = [self._work() for _ in range(count)]
        if self.world.plan.nested:
            works, template = self._waiting(works, template)
        keys = self._keys(count) if template.durable and not packed else ()
        function = chance.choice(FUNCTIONS)
        first = self.counter
        self.counter += count
        for i, one in enumerate(works):
            task = (self.client.session, first + i)
            made = Task(task, one, template, function.hash, job, self.client.name, first, packed)
            made.key = keys[i] if keys else None
            self.world.truth.submitted(made)
        write, shares = self.world.files.write, self.client.shares
        payloads = [write(one, shares=shares) for one in ([join(works)] if packed else works)]
        return Group(
            first=first,
            count=count,
            function=function.hash,
            payloads=payloads,
            size=sum(map(len, payloads)),
            packed=packed,
            job=job,
            template=template if template != Template() or chance.random() < 0.5 else None,
            keys=keys,
        )

    def _keys(self, count: int) -> tuple[TaskKey, ...]:
        """Keys of the tasks of a group: a few, which come again, some with another body."""
        chance, most = self.key_chance, self.world.plan.task_keys
        if not most or chance.random() < 0.3:
            return ()
        found = []
        for _ in range(count):
            number = chance.randrange(2 * most)
            unique = number % 2 == 0
            body = b"" if unique else chance.choice((b"same",) * 9 + (b"other",))
            found.append(TaskKey(f"key{number}", unique, body))
        return tuple(found)

    def _template(self) -> Template:
        chance = self.chance
        return Template(
            priority=chance.choice((0, 0, 0, 5, -3)),
            retries=chance.choice((0, 0, 1, 2)),
            backoff=0.1,
            max_losses=chance.choice((3, 3, 1, 0)),
            time_limit=chance.choice((None,) * 5 + (0.5,)) if self.world.plan.deaths else None,
            memory_limit=chance.choice((None, None, 100)) if self.world.plan.deaths else None,
            retry_on=chance.choice(((),) * 8 + (("OSError",), ("ValueError",))),
            never_on=chance.choice(((),) * 8 + (("ValueError",), (TIME_LIMIT,))),
            durable=chance.random() < 0.85,
            result_ttl=chance.choice((None, None, None, 10.0)),
            expires=chance.choice((None, None, None, None, 3.0)),
            delay=chance.choice((None, None, None, None, 0.7)),
            eta=self.world.wall + 0.9 if self.key_chance.random() < 0.05 else None,
            **self._queue(),
        )

    def _needs(self) -> dict[str, Any]:
        """What a group needs of its hosts; what none could have does not wait for ever."""
        plan = self.world.plan
        if not plan.needs or self.need_chance.random() < plan.needless:
            return {}
        resources, labels = self.need_chance.choice(plan.needs)
        found = {"resources": tuple(sorted(resources.items())), "labels": tuple(sorted(labels))}
        return found if plan.has(resources, labels) else {**found, "expires": 3.0}

    def _queue(self) -> dict[str, str]:
        """Where a group waits, if there are several places."""
        plan, chance = self.world.plan, self.queue_chance
        if not plan.queues:
            return {}
        name = chance.choice(sorted({*plan.queues, "default"}))
        key = chance.choice(("", *(f"key{i}" for i in range(plan.keys))))
        return {"queue": "" if name == "default" else name, "concurrency_key": key}

    def _waiting(self, works: list[bytes], template: Template) -> tuple[list[bytes], Template]:
        """Some of the work waits for other tasks; for how long is for no limit to say."""
        chance, share = self.world.nested_chance, self.world.plan.nested
        waits = [chance.random() < share for _ in works]
        template = replace(template, priority=0)
        if any(waits):
            template = replace(template, time_limit=None, memory_limit=None)
        levels = chance.choice((1, 1, 2, 3))
        parent = Work("wait", 0.01, levels).payload()
        return [parent if w else one for one, w in zip(works, waits, strict=True)], template

    def _work(self) -> bytes:
        chance = self.chance
        kind, times = chance.choice(
            (("ok", 0),) * 12 + (DEADLY if self.world.plan.deaths else MILD)
        )
        spread = chance.expovariate(1.0 / self.world.plan.work_seconds)
        if self.queue_chance.random() < self.world.plan.long:
            spread = 1.0 + self.queue_chance.random()
        return Work(kind, min(spread, 3.0), times).payload(chance.choice((0, 0, 10, 60)))

    def _job(self) -> int:
        if self.chance.random() < 0.5:
            return 0
        if not self.jobs or self.chance.random() < 0.3:
            self._jobs_opened += 1
            number = self._jobs_opened
            self.jobs[number] = 0
            name = f"{self.client.name}-{number}"
            self.world.job_names.append(name)
            self.client.machine.open_job(number, name, self.client.now)
        return self.chance.choice(list(self.jobs))

    def seal(self, job: int) -> None:
        del self.jobs[job]
        tasks = self.world.truth.tasks.values()
        count = sum(task.job == job and task.id[0] == self.client.session for task in tasks)
        self.client.machine.seal_job(job, count, self.client.now)

    # ------------------------------------------------------------ asking

    def _request(self) -> int:
        self.requests += 1
        return self.requests

    def cancel(self) -> None:
        """Cancel some tasks, mostly one's own, or stop them."""
        runs = self._some_runs(mine=self.chance.random() < 0.8)
        if not runs:
            return
        grace = None
        if self.world.plan.stops and self.chance.random() < 0.6:
            grace = self.chance.choice((0.0, 0.2, 1.0))
            more = self.chance.choice((self._job_runs, self._running, self._running))
            runs = more() or runs
        for run in runs:
            for task in self.world.truth.run(*run):
                if self.world.owners.may_see(self.client, task):
                    task.cancel_asked = True
        request = self._request()
        self.cancels.add(request)
        self.client.machine.cancel(request, runs, self.client.now, grace)

    def give_up(self) -> None:
        """Cancel what has not ended, once more what is accepted later: the farm knew nothing of it.

        Whoever sees all cancels what those had who are gone, too.
        """
        world, mine = self.world, self.client.session
        living = {client.session for client in (*world.clients, *world.nested) if client.alive}
        is_auditor = self.client is world.clients[-1]
        found = [
            task
            for task in world.truth.tasks.values()
            if task.settled is None and not (task.refused or task.published)
            if task.id[0] == mine or (is_auditor and task.id[0] not in living)
            if (task.id, task.acknowledged) not in self.given_up
        ]
        self.given_up |= {(task.id, task.acknowledged) for task in found}
        for task in found:
            task.cancel_asked = True
        if found:
            request = self._request()
            self.cancels.add(request)
            runs = [(*task.id, 1) for task in found]
            self.client.machine.cancel(request, runs, self.client.now, GRACE_SECONDS)

    def _running(self) -> list[TaskRun]:
        """A few of the tasks that workers seem to be at, whoever submitted them."""
        tasks = self.world.truth.tasks.values()
        found = [(*t.id, 1) for t in tasks if t.handed and not t.settled and not t.published]
        return found[: self.chance.choice((1, 2, 8))]

    def _job_runs(self) -> list[TaskRun]:
        """All tasks of one of the client's open jobs."""
        if not self.jobs:
            return []
        job = self.chance.choice(list(self.jobs))
        tasks = self.world.truth.tasks.values()
        return [(*t.id, 1) for t in tasks if t.job == job and t.id[0] == self.client.session]

    def follow(self) -> None:
        """A job by name, or tasks by id, of any client."""
        request = self._request()
        if self.world.job_names and self.chance.random() < 0.5:
            self.follows[request] = set()
            name = self.chance.choice(self.world.job_names)
            self.followed_jobs[request] = name
            self.client.machine.attach(request, [], name, self.client.now)
            return
        self.follow_tasks(request, self._some_runs(mine=False))

    def follow_tasks(self, request: int, runs: list[TaskRun]) -> None:
        if not runs:
            return
        tasks = {task for run in runs for task in ids(*run)}
        known = self.world.truth.tasks
        self.must_know |= {
            t
            for t in tasks
            if t in known
            and known[t].acknowledged
            and self.world.owners.must_see(self.client, known[t])
        }
        for task in tasks:
            self.client.heard.pop(task, None)
        self.follows[request] = tasks
        self.client.machine.attach(request, runs, "", self.client.now)

    def audit(self) -> None:
        """Follow every acknowledged task of the world, in the order of ids."""
        runs = [
            (*task.id, 1)
            for task in self.world.truth.tasks.values()
            if task.acknowledged and task.durable and task.id[0] != self.client.session
        ]
        self.follow_tasks(self._request(), runs)

    def ask(self) -> None:
        request = self._request()
        self.questions.add(request)
        what = self.chance.choice(QUESTIONS)
        if what == "drain":
            self.world.stats["asked drains"] += 1
            name = f"host{self.chance.randrange(self.world.plan.hosts + 1)}"
            self.client.machine.ask(DrainHost(request, name), self.client.now)
            return
        arguments: dict[str, Any] = {"id": "?"} if what == "task" else {}
        if what in ABOUT_TASKS and (runs := self._some_runs(mine=True)):
            arguments = {"id": str(TaskId(*runs[0][:2]))}
        self.client.machine.query(request, what, arguments, self.client.now)

    def _some_runs(self, *, mine: bool) -> list[TaskRun]:
        tasks = [
            task for task in self.world.truth.tasks if (task[0] == self.client.session) == mine
        ]
        if not tasks:
            return []
        start = self.chance.randrange(len(tasks))
        chosen = tasks[start : start + self.chance.choice((1, 3, 10))]
        return [(session, counter, 1) for session, counter in chosen]


ORDERS = ("pause_queue", "pause_queue", "resume_queue", "purge_queue", "queues")
TIME_LIMIT = "farm.errors.TimeLimitExceeded"
GRACE_SECONDS = 0.2
"""For what is given up while it runs."""
QUESTIONS = (
    *("status", "hosts", "jobs", "tasks", "task", "nonsense"),
    *("explain", "explain", "history", "drain", "stack", "stack", "logs", "logs"),
)
ABOUT_TASKS = ("explain", "stack", "logs")
MILD = (("raise", 1), ("raise", 99))
DEADLY = (*MILD, ("die", 1), ("die", 99), ("hog", 1), ("hog", 99))
