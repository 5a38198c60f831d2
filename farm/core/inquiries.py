"""Questions and orders of clients, also those that the store or a host has to answer."""

from farm.core.ledger import Ledger
from farm.core.lookups import Lookups
from farm.core.port import Peer
from farm.core.queries import Pending, Queries
from farm.core.questions import Questions, Running
from farm.core.queue_orders import Order
from farm.core.sessions import Session
from farm.protocol.messages import Answer, Query
from farm.protocol.records import Record

__all__ = ["Inquiries"]


class Inquiries:
    """Answers queries, each once. What waits for the store is bounded by what clients ask."""

    def __init__(
        self, ledger: Ledger, queries: Queries, lookups: Lookups, questions: Questions
    ) -> None:
        self._ledger = ledger
        self._queries = queries
        self._lookups = lookups
        self._questions = questions
        self._waiting: dict[int, list[tuple[Peer, int, Pending]]] = {}

    def on_query(self, peer: Peer, who: Session, message: Query, now: float) -> None:
        """A client asks."""
        what, arguments = message.what, message.arguments
        try:
            if self._lookups.ask(peer, who, message, now):
                return
            data = self._queries.answer(what, arguments, now, who)
            if isinstance(data, Order):
                self._carry_out(peer, message.request, data, now)
                return
            if isinstance(data, Running):
                self._questions.ask(peer, message.request, data, now)
                return
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            self._ledger.port.send(peer, Answer(message.request, None, str(error)))
            return
        if not isinstance(data, Pending):
            self._ledger.port.send(peer, Answer(message.request, data))
            return
        waiting = self._waiting.setdefault(data.ref, [])
        waiting.append((peer, message.request, data))
        if len(waiting) == 1:
            self._ledger.port.load(data.ref)

    def _carry_out(self, peer: Peer, request: int, order: Order, now: float) -> None:
        """Do what somebody has ordered; answer when it is durable."""

        def act(now: float) -> None:
            data = order.act(now)
            self._ledger.after_commit(lambda _now: self._answer(peer, Answer(request, data)), now)

        if not order.knowing:
            act(now)
        elif not self._ledger.when_known(act, now):
            raise ValueError("too many orders wait until it is known what runs; ask again")

    def _answer(self, peer: Peer, answer: Answer) -> None:
        if peer in self._ledger.peers:
            self._ledger.port.send(peer, answer)

    def on_loaded(self, ref: int, record: Record | None) -> None:
        """A record was read back; None if it is gone."""
        for peer, request, pending in self._waiting.pop(ref, ()):
            try:
                answer = Answer(request, pending.finish(record))
            except ValueError as error:
                answer = Answer(request, None, str(error))
            self._ledger.port.send(peer, answer)
