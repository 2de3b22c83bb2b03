"""All of it in one replica: logs, hub, publisher, and what the engine tells."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from gateway.infra.lifecycle import Component
from gateway.infra.realtime_metrics import RealtimeMetrics
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.events import Events
from gateway.jobs.maintenance import Chore
from gateway.jobs.store import SQL
from gateway.realtime.hub import Hub
from gateway.realtime.ledger_log import PRUNE_S, LedgerLog
from gateway.realtime.logs import Logs
from gateway.realtime.publisher import LogPublisher
from gateway.realtime.queue_events import QueueEvents
from gateway.realtime.redis_log import RedisLog
from gateway.settings import Settings


class Realtime:
    """``components`` start before whatever publishes, and stop after it. Redis is that of the queues: while it is away
    jobs and messages go by the ledger together."""

    def __init__(
        self,
        settings: Settings,
        pool: asyncpg.Pool[asyncpg.Record],
        dispatcher: Dispatcher,
        events: Events,
        metrics: RealtimeMetrics,
    ) -> None:
        most, keep_s = settings.realtime_replay_messages, settings.realtime_replay_s
        self._events = events
        self._ledger = LedgerLog(pool, most=most, keep_s=keep_s)
        redis = None
        if (target := settings.queue_redis) is not None:
            redis = RedisLog(target, lambda: pool.fetchval(SQL["ledger_id"]), most=most, keep_s=keep_s)
        logs = Logs(self._ledger, redis, dispatcher, events)
        self.hub = Hub(logs, metrics)
        self.publisher = LogPublisher(logs, metrics)
        self.components: tuple[Component, ...] = (logs, self.publisher, self.hub)

    @property
    def chore(self) -> Chore:
        return Chore("prune messages", PRUNE_S, self._ledger.prune)

    def tell_of(self, queues: Collection[str], follow: Collection[str]) -> None:
        """Tell on channels what happens to these queues (see ``QueueEvents``)."""
        self.components = (*self.components, QueueEvents(self.publisher, self._events, queues, follow))
