"""Procrastinate as a contestant (see ``bench.contestant`` for what it says and hears). It runs in an environment of its
own and imports nothing of ours: ``python procrastinate_app.py ACTION JOBS CONCURRENCY POSTGRES_URL REDIS_URL``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import sys
import time
from typing import Any

import procrastinate

TEXT = "x" * 170
_POOL = 25


class Contestant:
    def __init__(self, postgres_url: str) -> None:
        connector = procrastinate.PsycopgConnector(conninfo=postgres_url, min_size=4, max_size=_POOL)
        self.app = procrastinate.App(connector=connector)
        self.task = self.app.task(queue="bench", name="noop")(self._perform)
        self.started: list[int] = []
        self.waits_ms: list[float] = []
        self.first = 0.0
        self.all_started = asyncio.Event()
        self.wanted = 0

    async def _perform(self, n: int, text: str, asked: float | None = None) -> None:
        now = time.time()
        self.first = self.first or now
        self.started.append(n)
        if asked is not None:
            self.waits_ms.append((now - asked) * 1000)
        if len(self.started) == self.wanted:
            self.all_started.set()

    async def submit(self, jobs: int) -> None:
        numbers = iter(range(jobs))

        async def producer() -> None:
            for n in numbers:
                await self.task.defer_async(n=n, text=TEXT)

        await asyncio.gather(*(producer() for _ in range(50)))

    async def bulk(self, jobs: int) -> None:
        for first in range(0, jobs, 500):
            await self.task.batch_defer_async(*({"n": n, "text": TEXT} for n in range(first, min(jobs, first + 500))))

    async def tick(self, jobs: int) -> None:
        loop, calls = asyncio.get_running_loop(), []
        start = loop.time()
        for n in range(jobs):
            await asyncio.sleep(max(0, start + n * 0.01 - loop.time()))
            calls.append(asyncio.create_task(self.task.defer_async(n=n, text=TEXT, asked=time.time())))
        await asyncio.gather(*calls)

    async def work(self, jobs: int, concurrency: int, *, until_empty: bool) -> dict[str, Any]:
        self.wanted = jobs
        worker = asyncio.create_task(
            self.app.run_worker_async(
                queues=["bench"], concurrency=concurrency, wait=not until_empty, install_signal_handlers=False
            )
        )
        if until_empty:
            await worker  # ends when nothing waits and nothing runs
        else:
            await self.all_started.wait()
        took_s = time.time() - self.first
        assert len(self.started) == len(set(self.started)) == jobs
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        if until_empty:
            return {"s": took_s}
        ordered = sorted(self.waits_ms)
        return {f"p{p}_ms": ordered[min(jobs - 1, jobs * p // 100)] for p in (50, 99)}


async def _main(action: str, jobs: str, concurrency: str, postgres_url: str, _redis_url: str) -> None:
    made = Contestant(postgres_url)
    async with made.app.open_async():
        if action == "setup":
            await made.app.schema_manager.apply_schema_async()
        if action in {"submit", "bulk"}:
            await made.submit(50)
        print(json.dumps({"ready": True}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        cpu, start = time.process_time(), time.perf_counter()
        measured: dict[str, Any] = {}
        if action in {"drain", "listen"}:
            measured = await made.work(int(jobs), int(concurrency), until_empty=action == "drain")
        elif action != "setup":
            await {"submit": made.submit, "tick": made.tick}.get(action, made.bulk)(int(jobs))
        measured.setdefault("s", time.perf_counter() - start)
        measured["cpu_s"] = time.process_time() - cpu
        measured["rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(measured), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # that its application lives in the main module
    asyncio.run(_main(*sys.argv[1:]))
