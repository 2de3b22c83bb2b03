"""Which log is used now: that in Redis while Redis dispatches, else that in the ledger. Both have the same messages and
the same kind of positions; who changes from one to the other sees a gap."""

from __future__ import annotations

from collections.abc import Callable

from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.events import BrokerChanged, Event, Events
from gateway.realtime.event_log import Deliver, EventLog
from gateway.realtime.ledger_log import LedgerLog
from gateway.realtime.redis_log import RedisLog


class Logs:
    """A component. ``redis`` None: none is set."""

    name = "realtime logs"

    def __init__(self, ledger: LedgerLog, redis: RedisLog | None, dispatcher: Dispatcher, events: Events) -> None:
        self.ledger = ledger
        self.redis = redis
        self._dispatcher = dispatcher
        self._watchers: list[Callable[[], None]] = []
        events.subscribe(self._on_event)

    @property
    def current(self) -> EventLog:
        return self.redis if self.redis is not None and self._dispatcher.up else self.ledger

    async def start(self) -> None:
        await self.ledger.start()
        if self.redis is not None:
            await self.redis.start()

    async def stop(self) -> None:
        if self.redis is not None:
            await self.redis.stop()
        await self.ledger.stop()

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call this when Redis was lost or came back."""
        self._watchers.append(changed)

    def deliver_to(self, deliver: Deliver, broken: Callable[[], None]) -> None:
        """``broken``: what was delivered lately may not be all."""
        self.ledger.deliver = deliver
        if self.redis is not None:
            self.redis.deliver, self.redis.broken = deliver, broken

    def _on_event(self, event: Event) -> None:
        if isinstance(event, BrokerChanged) and self.redis is not None and not _first_contact(event):
            for changed in self._watchers:
                changed()


def _first_contact(event: BrokerChanged) -> bool:
    """Redis was found when this replica started: nothing was lost."""
    return event.mode == "queue" and event.down_s is None
