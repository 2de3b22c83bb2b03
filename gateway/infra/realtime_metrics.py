"""What ``/metrics`` says of channels and their listeners."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

KINDS: Final = ("websocket", "sse")
DROPS: Final = ("buffer_full", "not_json", "too_large")
ENDS: Final = ("slow", "auth", "forbidden", "too_many", "silent", "drain")


class RealtimeMetrics:
    """Counters begin at 0, so that the first event is seen as an increase."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._connections = Gauge(
            "gateway_realtime_connections", "Clients that are connected.", ["kind"], registry=registry
        )
        self._channels = Gauge(
            "gateway_realtime_channels", "Channels that somebody listens to in this process.", registry=registry
        )
        self._published = Counter("gateway_realtime_published", "Messages written to channels.", registry=registry)
        self._sent = Counter("gateway_realtime_sent", "Messages queued for clients as they came.", registry=registry)
        self._replayed = Counter("gateway_realtime_replayed", "Messages queued for clients later.", registry=registry)
        self._gaps = Counter("gateway_realtime_gaps", "Gaps that clients were told of.", registry=registry)
        self._dropped = Counter(
            "gateway_realtime_dropped", "Messages that could not be told, by reason.", ["reason"], registry=registry
        )
        self._ended = Counter(
            "gateway_realtime_ended", "Connections that the gateway ended, by reason.", ["reason"], registry=registry
        )
        for kind in KINDS:
            self._connections.labels(kind)
        for reason in DROPS:
            self._dropped.labels(reason)
        for reason in ENDS:
            self._ended.labels(reason)

    def connected(self, kind: str, change: int) -> None:
        self._connections.labels(kind).inc(change)

    def channels(self, number: int) -> None:
        self._channels.set(number)

    def ended(self, reason: str) -> None:
        self._ended.labels(reason).inc()

    def published(self, messages: int) -> None:
        self._published.inc(messages)

    def sent(self, messages: int) -> None:
        self._sent.inc(messages)

    def replayed(self, messages: int) -> None:
        self._replayed.inc(messages)

    def gaps(self, told: int) -> None:
        self._gaps.inc(told)

    def dropped(self, reason: str, messages: int = 1) -> None:
        self._dropped.labels(reason).inc(messages)
