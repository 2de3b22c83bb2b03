"""``/admin/queues``: what happens, why something waits, and what fails."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from litestar import Response, get

from gateway.access import Scope
from gateway.feature import Platform, ThePlatform
from gateway.jobs.job import QueueCounts
from gateway.jobs.records import Replica
from gateway.jobs.waiting import Hindrance, QueueFacts, takes_jobs, why_queue
from gateway.pages import Banner
from gateway.web.dashboard.charts import last_hour
from gateway.web.dashboard.drawing import Chart
from gateway.web.dashboard.failures import Failure, grouped
from gateway.web.dashboard.frame import Page, PageRequest, TheDashboard, respond
from gateway.web.dashboard.look import duration
from gateway.web.dashboard.store import FAILURES_READ, failures_lately, queues_facts
from gateway.web.deadline import within

READ_S: Final = 2.0  # for what a page reads: PostgreSQL that is silent for longer is said to be
GROUPS_SHOWN: Final = 20


class QueueRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``slots`` of all live replicas that take its jobs; ``state``: running, idle or paused."""

    name: str
    state: str
    counts: QueueCounts
    slots: int
    paused: bool
    paused_until: datetime | None
    pause_reason: str | None
    oldest_waiting_s: float | None
    why_waiting: list[Hindrance]


@get("/", opt={"access": Scope.ADMIN_READ, "session": True, "query": ("done",)}, include_in_schema=False)
async def overview(request: PageRequest, platform: ThePlatform, dashboard: TheDashboard) -> Response[Any]:
    names = platform.engine.registry.queue_names

    async def read() -> tuple[list[Replica], list[QueueRow], list[Failure], dict[str, Chart]]:
        replicas = await platform.engine.replicas()
        rows = await queue_rows(platform, replicas)
        return replicas, rows, await failures_lately(platform.pool, names), await last_hour(platform, names)

    replicas, rows, failures, hour = await within(READ_S, read())
    page = Page(
        template="overview.html",
        title="Overview",
        place="overview",
        data={
            "queues": rows,
            "totals": _totals(rows, replicas, failures),
            "failures": grouped(failures)[:GROUPS_SHOWN],
            "replicas": replicas,
        },
        banners=[banner for row in rows for banner in banners_of(row)],
        topics=[f"queue:{name}" for name in names],
        extra={"hour": hour},
    )
    return respond(request, dashboard, page)


async def queue_rows(platform: Platform, replicas: Sequence[Replica]) -> list[QueueRow]:
    """Every declared queue, with two statements however many there are."""
    registry = platform.engine.registry
    counts = await platform.engine.all_counts()
    found = await queues_facts(platform.pool, [registry.queue(name) for name in registry.queue_names])
    rows = []
    for name in registry.queue_names:
        if name in found:
            slots = sum(replica.slots[name]["slots"] for replica in replicas if takes_jobs(replica, name))
            rows.append(_row(name, counts[name], slots, found[name]))
    return rows


def _row(name: str, counts: QueueCounts, slots: int, read: dict[str, Any]) -> QueueRow:
    known = {key: value for key, value in read.items() if key in QueueFacts.__struct_fields__}
    facts = QueueFacts(waiting=counts.waiting, active=counts.active, slots=slots, **known)
    return QueueRow(
        name=name,
        state="paused" if facts.paused else "running" if counts.open else "idle",
        counts=counts,
        slots=slots,
        paused=facts.paused,
        paused_until=facts.paused_until if facts.paused else None,
        pause_reason=facts.pause_reason if facts.paused else None,
        oldest_waiting_s=read["oldest_waiting_s"],
        why_waiting=why_queue(facts) if counts.waiting or facts.paused else [],
    )


def banners_of(row: QueueRow) -> list[Banner]:
    """What somebody should know of a queue before its numbers."""
    waits = "Nothing waits" if not row.counts.waiting else _waits(row)
    if row.paused:
        until = f" until {row.paused_until:%Y-%m-%d %H:%M:%S} UTC" if row.paused_until else ""
        reason = f' Reason: "{row.pause_reason}".' if row.pause_reason else ""
        return [Banner(kind="status", title=f"{row.name} is paused{until}.", text=f"{reason} {waits}.".strip())]
    if not row.slots and row.counts.waiting:
        return [Banner(kind="alert", title=f"No replica works on {row.name}.", text=f"{waits}.")]
    return []


def _waits(row: QueueRow) -> str:
    number = row.counts.waiting
    oldest = f", the oldest for {duration(row.oldest_waiting_s)}" if row.oldest_waiting_s is not None else ""
    return f"{number:,} {'job waits' if number == 1 else 'jobs wait'}{oldest}"


def _totals(rows: Sequence[QueueRow], replicas: Sequence[Replica], failures: Sequence[Failure]) -> dict[str, Any]:
    ages = [row.oldest_waiting_s for row in rows if row.oldest_waiting_s is not None]
    return {
        "waiting": sum(row.counts.waiting for row in rows),
        "active": sum(row.counts.active for row in rows),
        "delayed": sum(row.counts.delayed for row in rows),
        "slots": sum(row.slots for row in rows),
        "failed_lately": len(failures),
        "failed_more": len(failures) >= FAILURES_READ,
        "oldest_waiting_s": max(ages, default=None),
        "replicas": len(replicas),
    }
