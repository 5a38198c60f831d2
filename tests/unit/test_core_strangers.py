"""Whatever peers say, the core raises nothing, keeps its promises and comes to rest."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from farm.model import State
from farm.protocol import messages as m
from tests.unit import core_strangers as strangers
from tests.unit.core_harness import F, Rig, ended


class Strangers(RuleBasedStateMachine):
    """Two clients and two hosts that say anything, a journal that may stop anywhere."""

    def __init__(self):
        super().__init__()
        self.rig = Rig(
            max_tasks=60, max_bytes=400, session_bytes=300, payload_bytes_max=200, grant_tasks=5,
            resident_result_bytes=20, result_ttl=20.0, session_ttl=30.0,
        )  # fmt: skip
        self.leases = {name: [] for name in strangers.HOSTS}
        self.all_come()

    def all_come(self):
        for name in strangers.NAMES:
            self.rig.client(name)
        for name in strangers.HOSTS:
            self.rig.host(name, window=6, commit=False)
        self.listen()

    def say(self, name, side, message):
        message = strangers.over_the_wire(message, side)
        peer = self.rig.peers.get(name)
        if message is not None and peer is not None:
            self.rig.say(peer, message, tick=False)
            self.listen()

    def listen(self):
        for peer, message in self.rig.take():
            name = peer.split("#")[0]
            if isinstance(message, m.Assign) and name in self.leases:
                self.leases[name] += [(message.epoch, grant) for grant in message.grants]
                self.leases[name] = self.leases[name][-12:]

    @rule(
        name=st.sampled_from(strangers.NAMES),
        window=st.sampled_from([0, 3, 1000]),
        pending=st.lists(st.tuples(strangers.counters, strangers.odd_counts), max_size=2),
        knows=st.booleans(),
    )
    def hello(self, name, window, pending, knows):
        self.rig.client(name, window_bytes=window, pending=pending, function=knows)
        self.listen()

    @rule(name=st.sampled_from(strangers.NAMES), message=strangers.from_client)
    def client_says(self, name, message):
        self.say(name, "client", message)

    @rule(
        name=st.sampled_from(strangers.NAMES),
        groups=st.lists(strangers.groups(), min_size=1, max_size=3),
    )
    def client_submits(self, name, groups):
        self.say(name, "client", m.Submit(groups))
        self.rig.tick()
        self.listen()

    @rule(data=st.data(), name=st.sampled_from(strangers.HOSTS), slots=st.integers(0, 4))
    def host_hello(self, data, name, slots):
        claims = data.draw(strangers.claims(self.leases[name]))
        instance = data.draw(st.sampled_from([name.encode().ljust(16)] * 6 + [b"new" * 5]))
        self.rig.host(
            name, slots=slots, window=slots + 2, claims=claims, instance=instance, commit=False
        )
        self.listen()

    @rule(data=st.data(), name=st.sampled_from(strangers.HOSTS))
    def host_reports(self, data, name):
        self.say(name, "host", data.draw(strangers.reports(self.leases[name])))

    @rule(name=st.sampled_from(strangers.HOSTS))
    def host_works(self, name):
        done = [ended(grant, epoch=epoch) for epoch, grant in self.leases[name]]
        self.say(name, "host", m.Report(1, 6, done))
        self.commit()

    @rule(name=st.sampled_from(strangers.HOSTS), knows=st.booleans())
    def host_says_more(self, name, knows):
        self.say(name, "host", m.NeedFunction(F.hash if knows else b"?"))

    @rule(name=st.sampled_from(strangers.HOSTS))
    def host_leaves(self, name):
        self.say(name, "host", m.Bye())

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.6, 5.0, 31.0]))
    def time_passes(self, seconds):
        self.rig.tick(seconds)
        self.listen()

    @rule()
    def commit(self):
        self.rig.commit()
        self.rig.answer_loads()
        self.listen()

    @rule(part=st.integers(1, 6))
    def commit_a_part(self, part):
        self.rig.commit_part(part)
        self.listen()

    @rule(name=st.sampled_from(strangers.NAMES + strangers.HOSTS))
    def cut(self, name):
        if name in self.rig.peers:
            self.rig.drop(self.rig.peers[name])

    @rule(
        written=st.integers(0, 9),
        after=st.sampled_from([0.1, 10.0]),
        pending=st.lists(st.tuples(strangers.counters, strangers.odd_counts), max_size=2),
    )
    def crash(self, written, after, pending):
        self.rig.reload(commit=written, after=after)
        self.rig.peers = {}
        for name in strangers.NAMES:
            self.rig.client(name, pending=pending)

    @invariant()
    def it_serves(self):
        assert self.rig.stopped is None

    def teardown(self):
        """Honest peers come: everything that was accepted ends, and nothing is left reserved."""
        rig = self.rig
        for name in strangers.HOSTS:
            if name in rig.peers:
                rig.drop(rig.peers[name])
        clients = [rig.client(name, window_bytes=1 << 20) for name in strangers.NAMES]
        rig.sleep(40)
        host = rig.host("honest", slots=100, window=100, quiet=False)
        for number in range(1, 60):
            rig.sleep(4)
            rig.answer_loads()
            rig.report(
                host,
                number=number,
                window=100,
                ended=[ended(g, epoch=rig.epoch) for g in rig.grants(host)],
            )
            for client in clients:
                rig.say(client, m.Taken(10_000))
            if not rig.ledger.open_tasks and number > 6:
                break
        assert (rig.ledger.open_tasks, rig.ledger.open_bytes) == (0, 0)
        for session in rig.ledger.sessions.values():
            for batch in session.batches:
                assert all(s > State.LEASED for s in batch.states)
            assert not session.resident_bytes
        assert not rig.core.cancels.waiting


TestStrangers = Strangers.TestCase
TestStrangers.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestStrangers.pytestmark = [pytest.mark.timeout(120)]
