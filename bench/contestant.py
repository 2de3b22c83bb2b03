"""This engine as a contestant: ``python -m bench.contestant ACTION JOBS CONCURRENCY POSTGRES_URL REDIS_URL``.

Every contestant speaks so (``bench.peers``): it prints ``{"ready": true}`` when all is set up, waits for a line on
standard input, acts, prints what it measured, and ends when its standard input does. Actions: ``submit`` (50 in
flight), ``bulk`` (of 500), ``fill`` (the same without warming up), ``drain``; ``listen`` works until it saw that many
jobs and prints their waits, ``tick`` submits one each 10 ms.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time

import structlog
import uvloop

from bench.cost import Measure
from bench.http_load import percentiles
from bench.process import Contestant
from bench.rig import Rig, connected

_WARM = 200  # submits before the measured ones: connections are open, statements prepared
COMMAND = (sys.executable, "-m", "bench.contestant")


async def paced(postgres_url: str, redis_url: str, jobs: int) -> Measure:
    """Waits of jobs that one process submits, one each 10 ms, and another performs."""
    async with (
        Contestant.started(COMMAND, "listen", jobs, 10, postgres_url, redis_url) as worker,
        Contestant.started(COMMAND, "tick", jobs, 1, postgres_url, redis_url) as producer,
    ):
        await worker.go()
        await producer.go()
        measured = await worker.answer()
        await producer.answer()
        return {name: measured[name] for name in ("jobs", "p50_ms", "p99_ms")}


def waits(each_ms: list[float]) -> Measure:
    return {"jobs": len(each_ms), **percentiles(each_ms)}


async def _act(made: Rig, action: str, jobs: int) -> Measure:
    if action in {"drain", "listen"}:
        await made.worker.start()
        await made.until(jobs)
        assert made.started == len(made.begun) == jobs
        took_s = time.time() - min(made.begun.values())
        return {"s": took_s} if action == "drain" else waits(made.waits_ms)
    call = {"submit": made.submit, "tick": made.submit_paced}.get(action, made.submit_bulk)
    started = time.perf_counter()
    await call(jobs)
    return {"s": time.perf_counter() - started}


async def _main(action: str, jobs: str, concurrency: str, postgres_url: str, redis_url: str) -> None:
    async with connected(postgres_url, redis_url, concurrency=int(concurrency)) as made:
        if action in {"submit", "bulk"}:
            await made.submit(_WARM)
        print(json.dumps({"ready": True}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        cpu = time.process_time()
        measured = await _act(made, action, int(jobs))
        measured["cpu_s"] = time.process_time() - cpu
        measured["rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(measured), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    uvloop.run(_main(*sys.argv[1:]))
