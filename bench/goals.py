"""The goals (docs/performance.md), and how far what was measured is from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Measured = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Goal:
    """``at_most``: smaller is better. The ratio is measured / goal either way."""

    text: str
    measure: str
    field: str
    value: float
    unit: str = ""
    at_most: bool = False

    def met(self, measured: float) -> bool:
        return measured <= self.value if self.at_most else measured >= self.value

    def row(self, measured: float) -> str:
        wanted = f"{'<=' if self.at_most else '>='} {self.value:g} {self.unit}".strip()
        shown = f"{measured:g} {self.unit}".strip()
        verdict = "met" if self.met(measured) else "missed"
        return f"{self.text:<58} {wanted:>14} {shown:>14} {measured / self.value:>7.2f}  {verdict}"


def _most(text: str, measure: str, field: str, value: float, unit: str = "") -> Goal:
    return Goal(text, measure, field, value, unit, at_most=True)


GOALS = (
    _most("pick-up latency, one job each 10 ms, p50", "latency_queue", "p50_ms", 2, "ms"),
    Goal("POST /api/v1/emails to 202", "accept", "per_s", 2000, "/s"),
    _most("the same at 500/s, p99", "accept", "at_500_p99_ms", 50, "ms"),
    _most("GET p99, workers saturated / idle", "http_p99_under_load", "ratio", 1.5, "x"),
    Goal("e-mails on the wire, one process", "end_to_end", "wire_per_s", 1500, "/s"),
    _most("CPU a job, 1,000,000 waiting / 1,000: queue mode", "backlog_queue", "cpu_ratio", 1.2, "x"),
    _most("CPU a job, 1,000,000 waiting / 1,000: direct mode", "backlog_direct", "cpu_ratio", 1.2, "x"),
    _most("admin stats at 1,000,000 rows, p99", "scrape", "stats_p99_ms", 10, "ms"),
    _most("/metrics at 1,000,000 rows, p99", "scrape", "metrics_p99_ms", 10, "ms"),
    _most("search page at 1,000,000 rows, p99, slowest of seven", "scrape", "search_p99_ms", 50, "ms"),
    _most("dashboard at 1,000,000 rows, p95, slowest page", "dashboard", "slowest_p95_ms", 100, "ms"),
    _most("dashboard, first page with all it loads, packed", "dashboard", "first_whole_bytes", 60_000, "bytes"),
    _most("Redis killed to next start in direct mode", "failover", "killed_to_direct_s", 1, "s"),
    _most("Redis hung to next start in direct mode", "failover", "hung_to_direct_s", 1, "s"),
    _most("Redis back to queue mode", "failover", "back_to_queue_s", 5, "s"),
    Goal("direct mode drain / queue mode, best of each", "drain", "direct_to_queue", 0.5, "x"),
    _most("boot to ready", "boot", "ready_s", 1.5, "s"),
    _most("idle memory of the whole gateway", "boot", "idle_rss_mib", 110, "MiB"),
)
WITH_PEERS = (
    Goal("drain, best concurrency / BullMQ", "drain", "bullmq", 1.2, "x"),
    Goal("drain, best concurrency / Procrastinate", "drain", "procrastinate", 30, "x"),
    Goal("submit, 50 in flight / BullMQ", "submit", "bullmq", 1.0, "x"),
    Goal("bulk of 500 / BullMQ", "bulk", "bullmq", 3, "x"),
    _most("pick-up latency p50", "latency", "p50_ms", 2, "ms"),
    _most("pick-up latency p99 / BullMQ", "latency", "bullmq", 1.0, "x"),
)


def derived(measured: Measured) -> Measured:
    """What needs more than one measure, or the worst of several figures."""
    found = {name: dict(fields) for name, fields in measured.items()}
    best = {
        mode: max((f["per_s"] for name, f in measured.items() if name.startswith(f"drain_{mode}")), default=0)
        for mode in ("queue", "direct")
    }
    if all(best.values()):
        found["drain"] = {"direct_to_queue": round(best["direct"] / best["queue"], 2)}
    for fields in found.values():
        for joined, start, end in (
            ("search_p99_ms", "search_", "_p99_ms"),
            ("back_to_queue_s", "", "_back_to_queue_s"),
        ):
            values = [v for name, v in fields.items() if name.startswith(start) and name.endswith(end)]
            if values:
                fields[joined] = max(values)
    return found


def table(goals: tuple[Goal, ...], measured: Measured) -> str:
    """One line for each goal; those that were not measured say so."""
    lines = [f"{'figure':<58} {'goal':>14} {'measured':>14} {'ratio':>7}"]
    for goal in goals:
        value = measured.get(goal.measure, {}).get(goal.field)
        lines.append(f"{goal.text:<58} {'not measured':>29}" if value is None else goal.row(value))
    return "\n".join(lines)
