"""Since when Redis does not answer, for the banner."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.jobs.events import BrokerChanged, Event


class RedisHistory:
    """Subscribe ``on_event``. ``down_since`` None: it answers, as far as this replica knows."""

    def __init__(self) -> None:
        self.down_since: datetime | None = None
        self.reason: str | None = None

    def on_event(self, event: Event) -> None:
        if not isinstance(event, BrokerChanged):
            return
        away = event.mode == "direct"
        self.down_since = datetime.now(UTC) if away else None
        self.reason = event.reason if away else None
