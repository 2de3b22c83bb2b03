"""``python -m bench [NAME...] [--short]``: each measure as one JSON line on standard output, progress on standard
error."""

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

from bench import engine, gateway
from bench.servers import Stores, stores

_LONGEST_S = 180  # a measure that takes longer hangs
Run = Callable[[Stores], Awaitable[dict[str, Any]]]


def measures(short: bool) -> dict[str, Run]:
    """``short`` proves that each runs; its figures say little."""
    few = 1000 if short else 10_000
    found: dict[str, Run] = {}
    for mode in ("queue", "direct"):
        found[f"submit_{mode}"] = partial(engine.submit, mode=mode, jobs=few // 2)
        for concurrency in (10, 50):
            found[f"drain_{mode}_{concurrency}"] = partial(engine.drain, mode=mode, concurrency=concurrency, jobs=few)
        found[f"latency_{mode}"] = partial(engine.latency, mode=mode, jobs=few // 30)
        found[f"backlog_{mode}"] = partial(engine.backlog, mode=mode, large=few * 10)
    found["boot"] = gateway.boot
    found["accept"] = partial(gateway.accept, mails=few // 2)
    found["end_to_end"] = partial(gateway.end_to_end, mails=few // 4)
    found["scrape"] = partial(gateway.scrape, jobs=few * 10)
    return found


async def _run(names: list[str], short: bool) -> None:
    known = measures(short)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"unknown measure {unknown[0]!r}; known: {', '.join(known)}")
    chosen = names or list(known)
    with stores() as on:
        for position, name in enumerate(chosen, 1):
            print(f"[{position}/{len(chosen)}] {name}", file=sys.stderr, flush=True)
            async with asyncio.timeout(_LONGEST_S):
                measured = await known[name](on)
            print(json.dumps({"measure": name, **measured, "load": round(os.getloadavg()[0], 1)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--short", action="store_true", help="a slice that proves that every measure runs")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    uvloop.run(_run(given.names, given.short))


if __name__ == "__main__":
    main()
