"""What ``/metrics`` says of HTTP requests. Labels are bounded: the application's routes, the methods of RFC 9110."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

UNMATCHED: Final = "unmatched"
"""Route of a request that no route takes, or that was refused before one was looked for."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER_METHOD: Final = "other"
_UNANSWERED: Final = "none"  # the client left, or the process ended, before there was a status
_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)  # few: each is a series for every route


class HttpMetrics:
    """Counters of one process."""

    def __init__(self, into: CollectorRegistry) -> None:
        self._requests = Counter(
            "gateway_http_requests",
            "HTTP requests that ended, by class of their status (2xx, ...; none: no answer).",
            ["method", "route", "status"],
            registry=into,
        )
        self._duration = Histogram(
            "gateway_http_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=into,
        )
        self._routes: dict[tuple[str, str], _Route] = {}

    def ended(self, method: str, route: str, status: int | None, seconds: float) -> None:
        """``route`` is a template such as ``/api/v1/emails/{email_id}``, never a path; ``status`` None: no answer."""
        found = self._routes.get((method, route))
        if found is None:
            found = self._declared(method, route)
        found.ended(f"{status // 100}xx" if status else _UNANSWERED, seconds)

    def _declared(self, method: str, route: str) -> _Route:
        if method not in _METHODS:
            return self._routes.get((_OTHER_METHOD, route)) or self._declare(_OTHER_METHOD, route)
        return self._declare(method, route)

    def _declare(self, method: str, route: str) -> _Route:
        made = self._routes[method, route] = _Route(self._requests, self._duration, method, route)
        return made


class _Route:
    """Finding a metric by its labels costs more than counting, so each is found once."""

    def __init__(self, requests: Counter, duration: Histogram, method: str, route: str) -> None:
        self._requests = requests
        self._labels = (method, route)
        self._duration = duration.labels(method, route)
        # A counter that begins at 0 shows its first event as an increase; of failures that event matters.
        self._statuses = {status: requests.labels(method, route, status) for status in ("2xx", "5xx")}

    def ended(self, status: str, seconds: float) -> None:
        counter = self._statuses.get(status)
        if counter is None:
            counter = self._statuses[status] = self._requests.labels(*self._labels, status)
        counter.inc()
        self._duration.observe(seconds)
