"""``python -m bench [NAME...] [--short]``: each measure as one JSON line on standard output; progress, and at the end a
table of goals, on standard error."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog
import uvloop

from bench import dashboard, engine, gateway, notify, reads, runs, sizing
from bench.goals import GOALS, Measured, derived, table
from bench.servers import Stores, stores

_LONGEST_S = 600  # a measure that takes longer hangs
Run = Callable[[Stores], Awaitable[dict[str, Any]]]


def measures(short: bool) -> dict[str, Run]:
    """``short`` proves that each runs; its figures say little."""
    few = 200 if short else 10_000
    million = few * 10 if short else 1_000_000
    found: dict[str, Run] = {}
    for mode in ("queue", "direct"):
        found[f"submit_{mode}"] = partial(engine.submit, mode=mode, jobs=few)
        found[f"bulk_{mode}"] = partial(engine.bulk, mode=mode, jobs=few * 2)
        for concurrency in (10, 50, 100):
            found[f"drain_{mode}_{concurrency}"] = partial(engine.drain, mode=mode, concurrency=concurrency, jobs=few)
        found[f"latency_{mode}"] = partial(engine.latency, mode=mode, jobs=few // 20)
        found[f"backlog_{mode}"] = partial(engine.backlog, mode=mode, small=1000, large=million, jobs=few // 2)
    found["failover"] = engine.failover
    found["boot"] = partial(gateway.boot, idle_s=0.1 if short else 3)
    found["accept"] = partial(gateway.accept, mails=few // 2)
    found["end_to_end"] = partial(gateway.end_to_end, mails=few // 2)
    found["http_p99_under_load"] = partial(reads.http_under_load, mails=few * 3, requests=few // 20)
    found["scrape"] = partial(reads.scrape, scrapes=20 if short else 200, jobs=million)
    found["dashboard"] = partial(dashboard.dashboard, looks=10 if short else 100, jobs=million)
    found["runs"] = partial(runs.runs, number=few // 10)
    sockets, kills = (20, 1) if short else (1000, 10)
    found["notify"] = partial(notify.notify, mode="queue", sockets=sockets, broadcasts=sockets // 20)
    found["notify_direct"] = partial(notify.notify, mode="direct", sockets=sockets, broadcasts=sockets // 20)
    found["replay"] = partial(notify.replay, kills=kills, per_s=200)
    return found | _sizes(short)


def _sizes(short: bool) -> dict[str, Run]:
    few = 200 if short else 10_000
    found: dict[str, Run] = {}
    for role in ("all", "api", "worker"):
        found[f"sizing_idle_{role}"] = partial(sizing.idle, role=role, seconds=0.2 if short else 10)
    for concurrency in (2, 5, 10, 50):
        found[f"sizing_mails_{concurrency}"] = partial(sizing.mails, concurrency=concurrency, number=few // 2)
    for connections in (1, 10, 50, 200):
        number = few // 5 if connections == 1 else few // 2
        found[f"sizing_http_{connections}"] = partial(sizing.http, connections=connections, number=number)
    found["sizing_redis"] = partial(sizing.redis_memory, few=few // 10, many=few * 10)
    found["sizing_postgres"] = partial(sizing.postgres_size, jobs=few * 10, number=few * 2)
    return found


async def _run(names: list[str], short: bool) -> None:
    known = measures(short)
    chosen, done = _chosen(names, list(known)), Measured()
    with stores(durable=not short) as on:
        for position, name in enumerate(chosen, 1):
            print(f"[{position}/{len(chosen)}] {name}", file=sys.stderr, flush=True)
            async with asyncio.timeout(_LONGEST_S):
                done[name] = await known[name](on)
            print(json.dumps({"measure": name, **done[name], "load": round(os.getloadavg()[0], 1)}), flush=True)
    print(f"\n{table(GOALS, derived(done))}\nAgainst other systems: make bench-peers", file=sys.stderr)


def _chosen(names: list[str], known: list[str]) -> list[str]:
    """Also a word that several begin with, as ``sizing``."""
    found: list[str] = []
    for name in names:
        meant = [one for one in known if one == name] or [one for one in known if one.startswith(f"{name}_")]
        if not meant:
            raise SystemExit(f"unknown measure {name!r}; known: {', '.join(known)}")
        found += meant
    return found or known


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--short", action="store_true", help="a slice that proves that every measure runs")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    uvloop.run(_run(given.names, given.short))


if __name__ == "__main__":
    main()
