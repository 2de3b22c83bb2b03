"""A late event loop: shown, and a reason to get no traffic, as long as it lasts."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import httpx
import pytest

from gateway.infra.loop_lag import LagWatch, LoopLag
from tests.support.eventually import eventually
from tests.support.web import serving, settings_for


def late_after(looks: list[tuple[float, float]], *, max_s: float = 1.0) -> list[bool]:
    """Whether it is late after each look, given as seconds since the one before and its lag."""
    watch, now, found = LagWatch(max_s, hold_s=5.0), 0.0, []
    for passed, lag in looks:
        now += passed
        watch.see(now, lag)
        found.append(watch.late)
    return found


def test_lateness_must_last_and_calm_must_last() -> None:
    looks = [(1.5, 1.2)] * 5 + [(0.5, 0.1)] * 12
    assert late_after(looks) == [False] * 4 + [True] * 10 + [False] * 3


@pytest.mark.parametrize("looks", [
    [(20.0, 19.7), *[(0.5, 0.0)] * 20],  # one stall, however long
    [(1.5, 1.2), (1.5, 1.2), *[(0.5, 0.1)] * 5] * 10,  # never for 5 s
    [(1.2, 0.95)] * 20,  # below
], ids=["stall", "short", "below"])  # fmt: skip
def test_other_delays_are_not_lateness(looks: list[tuple[float, float]]) -> None:
    assert not any(late_after(looks))


def test_looks_between_two_stalls_do_not_hide_them() -> None:
    assert late_after([(1.5, 1.2), (0.3, 0.0)] * 4)[-1]


def test_it_does_not_flap_where_it_hovers_at_the_limit() -> None:
    hovering = [(1.25, lag) for lag in (1.05, 0.95, 1.05, 0.9) * 20]
    found = late_after(hovering)
    assert sum(one != other for one, other in pairwise(found)) == 1


async def test_a_late_replica_is_not_ready_until_it_is_on_time(database_url: str) -> None:
    async with serving(settings_for(database_url)) as (client, runtime):
        own = runtime.loop_lag
        await own.stop()
        runtime.loop_lag = LoopLag(runtime.metrics.event_loop_lag, max_s=0.2, hold_s=0.6)
        await runtime.loop_lag.start()
        assert (await client.get("/health/ready")).status_code == 200
        async with _busy():
            await eventually(lambda: _is_overloaded(client), 30)
            live = await client.get("/health/live")
            health = await client.get("/health")
            lag = await client.get("/metrics")
        assert live.status_code == 200, "a restart would help nobody"
        assert (health.status_code, "overloaded" in health.json()["checks"]["traffic"]) == (200, True)
        shown = re.search(r"^gateway_event_loop_lag_seconds (\S+)$", lag.text, re.MULTILINE)
        assert shown is not None and float(shown[1]) > 0.2
        await eventually(lambda: _answer(client, 200), 30)
        await runtime.loop_lag.stop()


async def test_zero_is_never_too_late(database_url: str) -> None:
    async with serving(settings_for(database_url, ready_loop_lag_max_ms=0)) as (_, runtime):
        await eventually(lambda: b"gateway_event_loop_lag_seconds 0.0\n" not in runtime.metrics.text())
        assert runtime.loop_lag.problem is None


@asynccontextmanager
async def _busy() -> AsyncIterator[None]:
    """Something blocks the loop again and again meanwhile."""

    async def block() -> None:
        while True:
            for _part in range(3):
                time.sleep(0.15)  # noqa: ASYNC251  what this is about
            await asyncio.sleep(0.01)

    blocking = asyncio.create_task(block())
    try:
        yield
    finally:
        blocking.cancel()


async def _answer(client: httpx.AsyncClient, status: int) -> httpx.Response | None:
    answer = await client.get("/health/ready")
    return answer if answer.status_code == status else None


async def _is_overloaded(client: httpx.AsyncClient) -> bool:
    """Not ready for this reason: a busy loop is late for others too."""
    answer = await client.get("/health/ready")
    said = r"overloaded: the event loop is up to \d+\.\d s late \(READY_LOOP_LAG_MAX_MS\)"
    assert answer.status_code == 503
    assert answer.json()["status"] == "not_ready"
    return re.fullmatch(said, answer.json()["reason"]) is not None
