"""How each queue went, by the minute: what the charts of the dashboard show.

Each replica adds what it saw end; the elected leader notes how many jobs wait. Nothing else depends on it: a replica
that is killed takes at most ``ADD_S`` of its numbers along, and while the ledger is away they wait in memory.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import Final

import asyncpg
import msgspec
import structlog

from gateway.infra.postgres import LEDGER_ERRORS
from gateway.jobs.duties import HOUR_S, Duty, in_batches
from gateway.jobs.events import Event, JobSettled, JobStalled
from gateway.jobs.job import JobState
from gateway.jobs.store import SQL, Row

log = structlog.get_logger(__name__)

ADD_S: Final = 10.0
LEVELS_S: Final = 20.0
KEPT_S: Final = 8 * 86_400.0
# Upper ends in seconds; the last class has none. Rows hold one number for each, so their order is for good.
BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14_400)
_CLASSES: Final = len(BOUNDS) + 1


def _none() -> list[int]:
    return [0] * _CLASSES


@dataclass(slots=True)
class _Seen:
    completed: int = 0
    failed: int = 0
    retried: int = 0
    waits: list[int] = field(default_factory=_none)
    runs: list[int] = field(default_factory=_none)

    def add(self, other: _Seen) -> None:
        self.completed += other.completed
        self.failed += other.failed
        self.retried += other.retried
        self.waits = [a + b for a, b in zip(self.waits, other.waits, strict=True)]
        self.runs = [a + b for a, b in zip(self.runs, other.runs, strict=True)]


class Step(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A stretch of time that begins ``at``. ``completed`` and ``failed`` jobs and ``retried`` attempts ended in it;
    ``waiting``, ``active`` and ``delayed`` are the most that were seen."""

    at: datetime
    completed: int
    failed: int
    retried: int
    waiting: int
    active: int
    delayed: int


class Times(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Seconds that attempts waited and ran, within the accuracy of ``BOUNDS``; None: none ended in this step."""

    at: datetime
    wait_p50: float | None
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None


class History:
    """A component; ``on_event`` is told what happens to jobs."""

    name = "history"

    def __init__(self, pool: asyncpg.Pool[Row]) -> None:
        self._pool = pool
        self._seen: defaultdict[str, _Seen] = defaultdict(_Seen)
        self._adding: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def on_event(self, event: Event) -> None:
        if isinstance(event, JobStalled):
            if event.state is JobState.FAILED:  # at the limit of stalls; nobody knows how long its attempt ran
                self._seen[event.queue].failed += 1
            return
        if not isinstance(event, JobSettled) or event.state is None or event.kind in ("snoozed", "interrupted"):
            return
        seen = self._seen[event.job.queue]
        match event.state:
            case JobState.COMPLETED:
                seen.completed += 1
            case JobState.FAILED:
                seen.failed += 1
            case JobState.WAITING | JobState.DELAYED:
                seen.retried += 1
        seen.waits[bisect_left(BOUNDS, event.wait_s)] += 1
        seen.runs[bisect_left(BOUNDS, event.run_s)] += 1

    async def start(self) -> None:
        self._stopping.clear()
        self._adding = asyncio.create_task(self._add_again_and_again(), name="history")

    async def stop(self) -> None:
        """Adds what is left. One that adds at this moment is not cut: what it holds would be lost."""
        if self._adding is not None:
            self._stopping.set()
            await self._adding
            self._adding = None

    async def _add_again_and_again(self) -> None:
        stopping = False
        while not stopping:
            with suppress(TimeoutError):
                async with asyncio.timeout(ADD_S):
                    await self._stopping.wait()
            stopping = self._stopping.is_set()
            await self.add()

    async def add(self) -> None:
        """Write down what was seen since the last time. While the ledger is away it is kept for the next."""
        seen, self._seen = self._seen, defaultdict(_Seen)
        if not seen:
            return
        names = sorted(seen)
        each = [seen[name] for name in names]
        try:
            await self._pool.execute(
                SQL["history_add"],
                names,
                [one.completed for one in each],
                [one.failed for one in each],
                [one.retried for one in each],
                [msgspec.json.encode(one.waits).decode() for one in each],
                [msgspec.json.encode(one.runs).decode() for one in each],
            )
        except LEDGER_ERRORS as error:
            log.debug("history_not_written", error=str(error))
            for name, one in seen.items():
                self._seen[name].add(one)

    async def levels(self) -> None:
        """For the leader, every ``LEVELS_S``: note how many jobs the queues have."""
        await self._pool.execute(SQL["history_levels"])

    def duty(self) -> Duty:
        async def prune() -> int:
            return await in_batches(self._pool, SQL["history_prune"], KEPT_S)

        return Duty("prune history", "Forgets the numbers of the charts after 8 days.", HOUR_S, prune)

    async def steps(self, queues: Sequence[str], range_s: float, step_s: float) -> dict[str, list[Step]]:
        """By queue, oldest first. ``step_s`` is a multiple of 60."""
        found: dict[str, list[Step]] = {queue: [] for queue in queues}
        for row in await self._pool.fetch(SQL["history_read"], list(queues), range_s, step_s):
            found[row["queue"]].append(Step(**{name: row[name] for name in Step.__struct_fields__}))
        return found

    async def times(self, queue: str, range_s: float, step_s: float) -> list[Times]:
        return [
            Times(
                at=row["at"],
                wait_p50=quantile(row["waits"], 0.5),
                wait_p95=quantile(row["waits"], 0.95),
                run_p50=quantile(row["runs"], 0.5),
                run_p95=quantile(row["runs"], 0.95),
            )
            for row in await self._pool.fetch(SQL["history_times"], queue, range_s, step_s)
        ]


def quantile(numbers: Sequence[int], q: float) -> float | None:
    """Of attempts by class, as Prometheus' ``histogram_quantile`` estimates it: even inside of a class, and the last
    bound for whatever is longer. None: there are none."""
    total = sum(numbers)
    if not total:
        return None
    wanted = q * total
    upto = list(accumulate(numbers))
    place = bisect_left(upto, wanted)
    if place >= len(BOUNDS):
        return float(BOUNDS[-1])
    low = BOUNDS[place - 1] if place else 0.0
    before = upto[place - 1] if place else 0
    return low + (BOUNDS[place] - low) * (wanted - before) / numbers[place]
