"""HELLO, silence and goodbye: which connection speaks for which session or host."""

from collections.abc import Collection
from itertools import islice

from farm.core.admission import Admission
from farm.core.cancels import Cancels
from farm.core.delivery import Deliveries
from farm.core.fingerprint import PACKAGES_MAX, host_labels, why_unusable
from farm.core.following import Following
from farm.core.hello import is_overtaken, why_python_differs, why_refused
from farm.core.hosts import TROUBLE_CHARS_MAX, Host
from farm.core.ledger import Ledger
from farm.core.port import Peer
from farm.core.recovery import Recovery
from farm.core.reports import Reports
from farm.core.rights import Rights, why_not_admin
from farm.core.sessions import Session
from farm.protocol.messages import (
    PROTOCOL_VERSION,
    Answer,
    Beat,
    Bye,
    ClientHello,
    ClientWelcome,
    Drain,
    DrainHost,
    HostHello,
    HostWelcome,
    Rejected,
)
from farm.protocol.parts import Claim
from farm.protocol.records import HostJoined
from farm.resources import SLOTS, thousandths

__all__ = ["Connections"]

ASKED = "somebody asked for it"
ID_BYTES = 16
NEVER = float("inf")
LOOK_AT_CLIENTS_SECONDS = 10.0
"""Clients may be many, so those that fell silent are looked for this often only."""


class Connections:
    """Binds connections to sessions and hosts, and ends leases of hosts that stay silent."""

    def __init__(
        self,
        ledger: Ledger,
        admission: Admission,
        deliveries: Deliveries,
        following: Following,
        reports: Reports,
        recovery: Recovery,
        cancels: Cancels,
    ) -> None:
        self._ledger = ledger
        self._rights = Rights(ledger)
        self._admission = admission
        self._deliveries = deliveries
        self._following = following
        self._reports = reports
        self._recovery = recovery
        self._cancels = cancels
        self.due_for_clients = 0.0
        """When to look for silent ones, if there is an event at all."""
        self.due_for_hosts = NEVER
        """No lease ends before this: whatever a host says only puts its end off."""
        self.due = 0.0
        """The earlier of both."""
        self.has_hosts = False
        """Whether any host was connected, or held a lease, when they were last looked at."""

    # ------------------------------------------------------------ hello

    def _reject(self, peer: Peer, code: str, message: str, *, retry: bool = False) -> None:
        self._ledger.counters["rejected"] += 1
        self._ledger.port.send(peer, Rejected(code, message, retry))
        self._ledger.port.close(peer)

    def _bar(self, peer: Peer) -> bool:
        """Somebody poses as what its key is not for: it is counted, and told nothing."""
        self._ledger.counters["posing"] += 1
        self._ledger.port.close(peer)
        return False

    def _is_acceptable(self, peer: Peer, hello: ClientHello | HostHello, now: float) -> bool:
        ledger = self._ledger
        if peer in ledger.peers:
            self.on_closed(peer, now)
            self._reject(peer, "hello", "HELLO was said twice on one connection")
            return False
        if (refused := why_refused(ledger, hello)) is not None:
            self._reject(peer, refused.code, refused.message)
            return False
        return not is_overtaken(ledger, hello)

    def on_client_hello(self, peer: Peer, hello: ClientHello, now: float) -> bool:
        """Bind a connection to its session; False if it is refused."""
        who = self._rights.client(self._ledger.port.identity(peer), hello.behalf)
        if who is None:
            return self._bar(peer)
        if not self._is_acceptable(peer, hello, now):
            return False
        if len(hello.session) != ID_BYTES or len(hello.secret) != ID_BYTES:
            self._reject(peer, "hello", "a session and its secret have 16 bytes each")
            return False
        ledger = self._ledger
        session = ledger.sessions.get(hello.session)
        if session is None:
            session = Session(hello.session, hello.secret, now, who.name)
            ledger.sessions[hello.session] = session
        elif session.secret != hello.secret or session.owner != who.name:
            self._reject(peer, "secret", "the session belongs to another process")
            return False
        if hello.connection <= session.connection:
            self._reject(peer, "replaced", "a newer connection of this session has said HELLO")
            return False
        if session.peer is not None:
            self._unbind(session, "replaced")
        self._deliveries.disconnect(session)
        session.connect(peer, hello.connection, max(1, hello.window_bytes), now)
        session.speak(who)
        ledger.peers[peer] = session
        session.python_differs = why_python_differs(ledger, hello)
        self._welcome_client(peer, session, hello)
        return True

    def _welcome_client(self, peer: Peer, session: Session, hello: ClientHello) -> None:
        ledger, settings = self._ledger, self._ledger.settings
        ledger.port.send(
            peer,
            ClientWelcome(
                PROTOCOL_VERSION,
                settings.farm,
                settings.python,
                ledger.epoch,
                ledger.store,
                ledger.committed,
                ledger.durable,
                settings.beat_seconds,
                settings.payload_bytes_max,
                *self._admission.sessions.first(session),
                queues=ledger.queues.names,
            ),
        )
        self._following.on_pending(session, hello.pending)
        self._deliveries.resume(session)

    def on_host_hello(self, peer: Peer, hello: HostHello, now: float) -> bool:
        """Bind a connection to its host, adopt or drop what it claims; False if refused."""
        ledger = self._ledger
        who = ledger.port.identity(peer)
        if not self._rights.is_host(who):
            return self._bar(peer)
        if not self._is_acceptable(peer, hello, now):
            return False
        expected = self._recovery.owner_of(hello.name)
        why, retry = self._rights.why_not_called(who, hello, expected, now)
        if why:
            self._reject(peer, "name", why, retry=retry)
            return False
        host = ledger.hosts.all.get(hello.name)
        if host is not None and (host.instance, host.owner) != (hello.instance, who.name):
            self._retire(host, "a new agent took its name", now)
            host = None
        if host is not None and hello.connection <= host.connection:
            self._reject(peer, "replaced", "a newer connection of this host has said HELLO")
            return False
        if host is None:
            host = ledger.hosts.all[hello.name] = Host(hello.name, hello.instance, now, who.name)
        elif host.peer is not None:
            self._unbind(host, "replaced")
        host.key = who.key
        self._bind_host(peer, host, hello, now)
        drop = self._recovery.on_claims(host, hello.claims, now)
        self._reports.restore_losses(host, now)
        # Only then: a claim may be of an outcome whose record is not durable yet.
        ledger.after_commit(lambda _now: self._welcome_host(peer, host, drop), now)
        return True

    def _welcome_host(self, peer: Peer, host: Host, drop: list[Claim]) -> None:
        ledger, settings = self._ledger, self._ledger.settings
        if host.peer != peer:
            return
        welcome = HostWelcome(
            PROTOCOL_VERSION,
            settings.farm,
            ledger.epoch,
            ledger.store,
            ledger.committed,
            settings.beat_seconds,
            settings.lease_seconds,
            drop,
            host.unusable,
        )
        ledger.port.send(peer, welcome)
        host.welcomed = True
        if host.draining:  # it may not have heard it
            ledger.port.send(peer, Drain(ASKED))
        self._cancels.tell(host)
        ledger.hosts.update(host)

    def _bind_host(self, peer: Peer, host: Host, hello: HostHello, now: float) -> None:
        ledger = self._ledger
        host.peer = peer
        host.connection = hello.connection
        host.last_seen = now
        self.has_hosts = True
        self.due_for_hosts = min(self.due_for_hosts, now + ledger.settings.lease_seconds)
        self.due = min(self.due, self.due_for_hosts)
        host.slots = host.meter.slots = max(1, hello.slots)
        host.labels = host_labels(hello)
        host.total = {
            name: thousandths(amount) for name, amount in hello.resources.items() if name != SLOTS
        }
        ledger.hosts.refit()
        host.functions.clear()
        host.welcomed = False
        host.window = max(0, hello.window)
        host.trouble = hello.trouble[:TROUBLE_CHARS_MAX]
        host.waiting, host.leaving, host.max_lent = 0, False, hello.max_lent
        self._reports.note_waits(host, [])
        settings = ledger.settings
        host.unusable = why_unusable(hello, settings.python, settings.host_labels, host.labels)
        host.facts = {
            "python": hello.python,
            "farm": hello.farm,
            "pid": hello.pid,
            "address": hello.address,
            "labels": hello.labels,
            "memory_limits": hello.memory_limits,
            "platform": hello.platform,
            "packages": dict(islice(hello.packages.items(), PACKAGES_MAX)),
        }
        ledger.peers[peer] = host
        if not host.joined_ref:
            resources = tuple(sorted(host.total))
            record = HostJoined(host.name, host.instance, resources, host.owner)
            host.joined_ref = ledger.persist(record)
        ledger.hosts.update(host)  # it is given nothing until it is welcomed

    # ------------------------------------------------------------ the end of a connection

    def _unbind(self, owner: Session | Host, code: str) -> None:
        """Close a connection that a newer one replaces."""
        peer = owner.peer
        if peer is not None:
            self._ledger.peers.pop(peer, None)
            self._reject(peer, code, "a newer connection took its place")
            owner.peer = None

    def on_closed(self, peer: Peer, now: float) -> None:
        """A connection is gone; its session waits, its host's leases run on."""
        owner = self._ledger.peers.pop(peer, None)
        if isinstance(owner, Session):
            owner.last_seen = now
            self._deliveries.disconnect(owner)
        elif owner is not None:
            owner.peer = None
            self._ledger.hosts.update(owner)

    def on_bye(self, peer: Peer, now: float) -> None:
        """A peer leaves on purpose; a host that does has given back what it held."""
        owner = self._ledger.peers.get(peer)
        self.on_closed(peer, now)
        self._ledger.port.close(peer)
        if isinstance(owner, Host):
            self._retire(owner, "it left", now)

    def on_revoked(self, keys: Collection[str], now: float) -> None:
        """These keys are good for nothing any more: who came with them is gone, at once."""
        ledger = self._ledger
        for peer, owner in list(ledger.peers.items()):
            if (owner.identity.key if isinstance(owner, Session) else owner.key) in keys:
                self.on_closed(peer, now)
                ledger.port.close(peer)
        for host in [one for one in ledger.hosts.all.values() if one.key in keys]:
            self._retire(host, "its key was revoked", now)

    def on_drain(self, peer: Peer, who: Session, message: DrainHost) -> None:
        """Somebody wants a host to finish what it has and to leave."""
        ledger = self._ledger
        host, data = ledger.hosts.all.get(message.host), None
        if error := why_not_admin(who, "drain a host"):
            pass
        elif host is None:
            error = f"the farm has no host {message.host!r}; `farm hosts` lists those it has"
        elif host.peer is None:
            error = f"host {host.name} is not connected; its tasks go elsewhere by themselves"
        else:
            host.draining = True
            ledger.hosts.update(host)
            ledger.port.send(host.peer, Drain(ASKED))
            data = {"name": host.name, "held": host.held}
        ledger.port.send(peer, Answer(message.request, data, error))

    def on_beat(self, peer: Peer, message: Beat) -> None:
        """A sign of life, echoed."""
        owner = self._ledger.peers.get(peer)
        if isinstance(owner, Host):
            owner.load = message.load or owner.load  # one that only answers says nothing of it
            self._reports.on_running(owner, message.running)
        if message.stamp:
            self._ledger.port.send(peer, Beat(echo=message.stamp))

    def _retire(self, host: Host, cause: str, now: float) -> None:
        """The host has another instance now, or none: end its leases and forget it."""
        if host.peer is not None:
            self._unbind(host, "replaced")
        self._reports.lose_host(host, cause, now)
        self._forget(host, now)

    def _forget(self, host: Host, now: float) -> None:
        ledger = self._ledger
        if ledger.hosts.all.get(host.name) is host:
            del ledger.hosts.all[host.name]
            ledger.hosts.refit()
            ledger.charges.part(host.instance, now)
        ledger.hosts.update(host)
        if host.joined_ref:
            ledger.port.prune([host.joined_ref])
            host.joined_ref = 0
        self._recovery.on_host_gone(host.name, now)

    def on_tick(self, now: float) -> None:
        """End the leases of hosts that were silent for too long."""
        if now >= self.due_for_clients:
            self.due_for_clients = now + LOOK_AT_CLIENTS_SECONDS
            self._close_silent_clients(now)
            self._ledger.charges.drop(now)
            self._ledger.hosts.forget_kinds(now)
        if now >= self.due_for_hosts:
            self._end_leases(now)
            self._plan_look()
        self.due = min(self.due_for_clients, self.due_for_hosts)

    def _end_leases(self, now: float) -> None:
        ledger = self._ledger
        lease = ledger.settings.lease_seconds
        forget = max(ledger.settings.host_ttl, lease)
        for host in list(ledger.hosts.all.values()):
            if now < host.last_seen + lease:  # the very sums that _plan_look says
                continue
            silent = now - host.last_seen
            if host.peer is not None:
                ledger.peers.pop(host.peer, None)
                ledger.port.close(host.peer)
                host.peer = None
            if host.leases:
                self._reports.lose_host(host, f"silent for {silent:.0f} s", now)
            ledger.hosts.update(host)
            if now >= host.last_seen + forget:
                self._forget(host, now)

    def _close_silent_clients(self, now: float) -> None:
        """A client that is silent for as long as a lease has gone; if not, it says HELLO again.

        It loses nothing by this; its open jobs are abandoned until it comes back.
        """
        for session in self._ledger.sessions.values():
            peer = session.peer
            if peer is not None and now - session.last_seen >= self._ledger.settings.lease_seconds:
                self.on_closed(peer, now)
                self._ledger.port.close(peer)

    def _plan_look(self) -> None:
        """Find when the next lease ends, or the next host is forgotten."""
        settings = self._ledger.settings
        lease, forget = settings.lease_seconds, max(settings.host_ttl, settings.lease_seconds)
        self.has_hosts = False
        self.due_for_hosts = NEVER
        for host in self._ledger.hosts.all.values():
            present = host.peer is not None or bool(host.leases)
            self.has_hosts = self.has_hosts or present
            due = host.last_seen + (lease if present else forget)
            self.due_for_hosts = min(self.due_for_hosts, due)

    def extend(self, gap: float) -> None:
        """The coordinator itself was away: nobody's lease runs in that time."""
        for host in self._ledger.hosts.all.values():
            host.last_seen += gap

    def on_stopping(self) -> None:
        """Tell every peer that the coordinator goes down."""
        for peer in list(self._ledger.peers):
            self._ledger.port.send(peer, Bye("the coordinator is going down"))
