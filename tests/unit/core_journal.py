"""The journal of a core under test, and the promises that rest on what is committed."""

from farm.model import Ending
from farm.protocol import messages as m
from farm.protocol import records as r
from farm.ranges import RangeSet


class Disk:
    """What is committed."""

    def __init__(self):
        self.records = {}
        self.functions = {}
        self.released = []
        self.commit = 0

    def apply(self, change):
        match change:
            case ("append", ref, data):
                assert ref > self.commit, "refs only grow"
                self.records[ref] = data
                self.commit = ref
            case ("delete", refs):
                for ref in refs:
                    del self.records[ref]
            case ("release", names):
                for name in names:
                    assert name not in self.released, f"{name} is released twice"
                    self.released.append(name)
            case ("put", digest, name, data):
                self.functions[digest] = (name, data)
            case ("drop", digests):
                for digest in digests:
                    del self.functions[digest]

    def read(self, ref):
        data = self.records.get(ref)
        return None if data is None else r.decode_record(data)


class Promises:
    """What was ever committed; says whether a message keeps its promises."""

    def __init__(self):
        self.accepted = {}  # session -> RangeSet
        self.floors = {}  # session -> counters below it are known without a record
        self.ended = {}  # (session, counter) -> least attempt that may run
        self.outcomes = {}  # (session, counter) -> ending
        self.same = {}  # (session, counter) -> of the task that has its key

    def note(self, record):
        match record:
            case r.Submitted():
                for one in record.groups:
                    known = self.accepted.setdefault(record.session, RangeSet())
                    known.add(one.first, one.first + one.count)
                    for i in range(one.count if one.same else 0):
                        first = (one.same[0], one.same[1] + i)
                        self.same[record.session, one.first + i] = first
            case r.AttemptsEnded():
                for end in record.entries:
                    for counter in range(end.first, end.first + end.count):
                        key = (end.session, counter)
                        assert self.ended.get(key, 1) <= end.attempt, "attempts only grow"
                        self.ended[key] = end.attempt
            case r.Finished():
                for result in record.entries:
                    for counter in range(result.first, result.first + result.count):
                        key = (result.session, counter)
                        assert key not in self.outcomes, f"{key} ended twice"
                        self.outcomes[key] = result.ending

    def check(self, core, message, owner):
        match message:
            case m.Accepted():
                floor = self.floors.get(owner.id, 0)
                for first, count in message.runs:
                    for a, b in owner.volatile.gaps(max(first, floor), first + count):
                        known = self.accepted.get(owner.id, RangeSet())
                        assert known.overlap(a, b) == [(a, b)], "acknowledged before the commit"
            case m.Results():
                for result in message.entries:
                    self._check_result(core, result)
            case m.Assign():
                for grant in message.grants:
                    self._check_grant(core, grant)

    def _check_result(self, core, result):
        if result.ending in {Ending.UNKNOWN, Ending.DELIVERED}:
            return
        session = core.ledger.sessions[result.session]
        for a, b in session.accepted.overlap(result.first, result.first + result.count):
            for counter in range(a, b):
                if self._is_said(session, counter):
                    continue
                key = (result.session, counter)
                published = self.outcomes.get(key, self.outcomes.get(self.same.get(key)))
                assert published == result.ending, "published before, or against, the commit"

    def _is_said(self, session, counter):
        """Whether a task counts as accepted for its client's word alone, and is in no journal."""
        known = self.accepted.get(session.id, RangeSet())
        return counter < self.floors.get(session.id, 0) and counter not in known

    def _check_grant(self, core, grant):
        session = core.ledger.sessions[grant.session]
        for counter in range(grant.first, grant.first + grant.count):
            if counter in session.accepted and not self._is_said(session, counter):
                least = self.ended.get((grant.session, counter), 1)
                assert grant.attempt == least, "dispatched before the end of the last attempt"
                assert (grant.session, counter) not in self.outcomes, "dispatched after its end"
