"""Where acts of a rehearsal are played: customers, a ledger, a mail server, a Prometheus; and what comes of each."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import asyncpg

from tests.fault.rehearsal_load import Balancer, Mailbox, Told, customers, fate
from tests.support.eventually import eventually
from tests.support.prometheus import JOB, Prometheus, impatient_rules, prometheus

CUSTOMERS: Final = 6
STEPS: Final = 14
NEVER: Final = frozenset({"GatewayDown", "NoActiveWorkers", "GatewayWithoutPostgres"})
_BAR: Final = 28  # characters


@dataclass
class Figures:
    """Of one act. ``longest_mail_s``: from the 202 to the mail server; ``charged``: jobs that counted a second attempt
    or a stall; ``direct_s``: the longest time that a replica took jobs from PostgreSQL because Redis was away;
    ``scrapes_missed`` of ``scrapes`` found nobody, at one replica for ``longest_gap_s`` at most; ``load``: of the
    machine, over one minute."""

    act: str
    seconds: float = 0.0
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    doubled: int = 0
    charged: int = 0
    open_jobs: int = 0
    longest_request_s: float = 0.0
    longest_mail_s: float = 0.0
    direct_s: float = 0.0
    replaced: int = 0
    scrapes: int = 0
    scrapes_missed: int = 0
    longest_gap_s: float = 0.0
    slowest_scrape_s: float = 0.0
    alerts: list[str] = field(default_factory=list)
    load: float = 0.0
    ok: bool = False


class Progress:
    """A bar on standard error, drawn over itself on a terminal, else one line for each step."""

    def __init__(self) -> None:
        self._done = 0
        self._began = time.monotonic()
        self.acts: list[Figures] = []

    def step(self, what: str) -> None:
        self._done += 1
        full = _BAR * self._done // STEPS
        bar = f"[{'#' * full}{'.' * (_BAR - full)}] {time.monotonic() - self._began:4.0f} s  {what}"
        sys.stderr.write(f"\r{bar:<100}" if sys.stderr.isatty() else f"{bar}\n")
        sys.stderr.flush()

    def act(self, figures: Figures) -> None:
        """It is over: its line goes to standard output."""
        self.acts.append(figures)
        self.step(f"{figures.act}: {'ok' if figures.ok else 'NOT OK'}")
        sys.stderr.write("\n" if sys.stderr.isatty() else "")
        sys.stdout.write(f"{json.dumps(asdict(figures))}\n")
        sys.stdout.flush()


@dataclass
class Stage:
    """Where acts are played."""

    ledger: asyncpg.Connection[asyncpg.Record]
    mailbox: Mailbox
    prometheus: Prometheus
    scrape_s: float
    progress: Progress

    async def play(
        self, figures: Figures, balancer: Balancer, story: Callable[[Told], Awaitable[None]], size: int = 200
    ) -> Figures:
        """``story`` happens while customers send."""
        began, since = time.time(), datetime.now(UTC)
        async with balancer.watching(), customers(balancer, CUSTOMERS, size) as told:
            await eventually(lambda: len(told.accepted) > CUSTOMERS, 20, "no mail is accepted")
            await story(told)
            seen = len(told.accepted)
            await eventually(lambda: len(told.accepted) > seen + CUSTOMERS * 5, 30, "no further mail is accepted")
        for name, value in asdict(await fate(self.ledger, self.mailbox, told, since)).items():
            setattr(figures, name, round(value, 2))
        figures.accepted, figures.refused = len(told.accepted), dict(told.refused)
        figures.longest_request_s = round(told.longest_request_s, 2)
        await self.seen(figures, began)
        bad = (figures.lost, figures.doubled, figures.charged, figures.open_jobs, *figures.refused)
        figures.ok = not any(bad) and not NEVER & set(figures.alerts)
        return figures

    async def seen(self, figures: Figures, since: float) -> None:
        """What Prometheus saw from then until now."""
        now = time.time()
        gap = 0
        for _, points in await self.prometheus.query_range(f'up{{job="{JOB}"}}', since, now, self.scrape_s):
            run = 0
            for _, up in points:
                run = 0 if up else run + 1
                gap = max(gap, run)
                figures.scrapes_missed += not up
            figures.scrapes += len(points)
        firing = await self.prometheus.query_range('ALERTS{alertstate="firing"}', since, now, self.scrape_s)
        figures.alerts = sorted({labels["alertname"] for labels, _ in firing} | await self.prometheus.firing())
        slowest = await self.prometheus.value(f"max(max_over_time(scrape_duration_seconds[{now - since:.0f}s]))")
        figures.slowest_scrape_s = round(slowest or 0.0, 2)
        figures.longest_gap_s = gap * self.scrape_s
        figures.seconds = round(now - since, 1)
        figures.load = round(os.getloadavg()[0], 1)


@asynccontextmanager
async def stage(
    directory: Path, dsn: str, mailbox: Mailbox, urls: Sequence[str], progress: Progress, scrape_s: float = 0.5
) -> AsyncIterator[Stage]:
    """``urls``: whom Prometheus scrapes."""
    ledger = await asyncpg.connect(dsn)
    targets = [url.removeprefix("http://") for url in urls]
    try:
        async with prometheus(directory, targets, impatient_rules("1s"), f"{int(scrape_s * 1000)}ms") as server:
            reached = f'sum(up{{job="{JOB}"}}) == {len(urls)}'
            await eventually(lambda: server.value(reached), 20, "Prometheus does not reach all")
            await eventually(lambda: _is_quiet(server), 20, "alerts of the time before do not end")
            yield Stage(ledger, mailbox, server, scrape_s, progress)
    finally:
        await ledger.close()


async def _is_quiet(server: Prometheus) -> bool:
    return not await server.firing()
