"""``python -m bench.peers``: this engine beside BullMQ (Node) and Procrastinate (PostgreSQL), in alternating rounds.

Same servers, same payload of about 200 bytes, a handler that does nothing, one worker process each. Every case runs
over all contestants one after the other, the first one rotating, so that a ratio compares neighbours in time. JSON
lines on standard output: each measurement, then the ratios of the rounds and their median; a table of goals on standard
error. The peers are installed into a temporary directory at run time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from bench.contestant import COMMAND
from bench.goals import WITH_PEERS, Measured, table
from bench.process import Contestant
from bench.servers import Stores, fresh_database, fresh_ledger, stores
from gateway import __version__

OURS, BULLMQ, PROCRASTINATE = "gateway", "bullmq", "procrastinate"
_HERE = Path(__file__).parent / "contestants"
_CONCURRENCIES = (10, 50, 100)
CASES = ("submit", "bulk", *(f"drain_{c}" for c in _CONCURRENCIES), "latency")
Line = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """``share``: of the jobs of a measure, for those that would take too long over all of them."""

    name: str
    version: str
    command: tuple[str, ...]
    share: float = 1.0
    setup: bool = False


def bullmq(directory: Path) -> Peer:
    """Raises ``SystemExit`` when there is no Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise SystemExit(
            "BullMQ needs node and npm, and they are not on PATH. Without it: --only gateway,procrastinate"
        )
    quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    subprocess.run([npm, "install", *quiet, "--prefix", directory, "bullmq", "ioredis"], check=True, stdout=sys.stderr)
    versions = [
        f"{name} {json.loads((directory / 'node_modules' / name / 'package.json').read_text())['version']}"
        for name in ("bullmq", "ioredis")
    ]
    script = str(_HERE / "bullmq.mjs")
    return Peer(BULLMQ, ", ".join(versions), (node, script, str(directory)))


def procrastinate(directory: Path, uv: str) -> Peer:
    """Raises ``SystemExit`` when there is no uv."""
    if shutil.which(uv) is None:
        raise SystemExit(f"Procrastinate needs uv, and {uv} is not there: make bench-peers brings its own")
    python = str(directory / "bin" / "python")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, directory], check=True)
    packages = ("procrastinate", "psycopg[binary,pool]")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *packages], check=True)
    ask = "from importlib.metadata import version; print(version('procrastinate') + ', psycopg ' + version('psycopg'))"
    answered = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True)
    version = f"{PROCRASTINATE} {answered.stdout.strip()}"
    command = (python, str(_HERE / "procrastinate_app.py"))
    return Peer(PROCRASTINATE, version, command, share=0.05, setup=True)


@asynccontextmanager
async def _fresh(on: Stores, peer: Peer) -> AsyncIterator[tuple[str, str]]:
    """Empty stores with the contestant's schema; answers their addresses."""
    async with (fresh_ledger if peer.name == OURS else fresh_database)(on) as url:
        if peer.setup:
            await _one(peer, "setup", 0, 1, (url, on.redis_url))
        yield url, on.redis_url


async def _one(peer: Peer, action: str, jobs: int, concurrency: int, urls: tuple[str, str]) -> Line:
    async with Contestant.started(peer.command, action, jobs, concurrency, *urls) as process:
        await process.go()
        return await process.answer()


async def measure(on: Stores, peer: Peer, case: str, jobs: int) -> Line:
    """One case for one contestant: rate and CPU per job in microseconds, or latency in milliseconds."""
    jobs = max(100, int(jobs * peer.share))
    action, _, concurrency = case.partition("_")
    async with _fresh(on, peer) as urls:
        if action == "latency":
            return await _latency(peer, min(500, jobs), urls)
        if action == "drain":
            await _one(peer, "fill", jobs, 1, urls)
        async with Contestant.started(peer.command, action, jobs, concurrency or 1, *urls) as process:
            before = on.cpu_s
            await process.go()
            answer = await process.answer()
            postgres, valkey = (after - earlier for after, earlier in zip(on.cpu_s, before, strict=True))
    each = {"own_cpu_us": answer["cpu_s"], "postgres_cpu_us": postgres, "redis_cpu_us": valkey}
    cost = {name: round(seconds / jobs * 1e6) for name, seconds in each.items()}
    cost["cpu_us"] = sum(cost.values())
    return {"jobs": jobs, "per_s": round(jobs / answer["s"]), **cost, "rss_mib": answer["rss_mib"]}


async def _latency(peer: Peer, jobs: int, urls: tuple[str, str]) -> Line:
    async with (
        Contestant.started(peer.command, "listen", jobs, 10, *urls) as worker,
        Contestant.started(peer.command, "tick", jobs, 1, *urls) as producer,
    ):
        await worker.go()
        await asyncio.sleep(0.5)  # its slots wait
        await producer.go()
        answer = await worker.answer()
        await producer.answer()
    return {"jobs": jobs, **{name: round(answer[name], 2) for name in ("p50_ms", "p99_ms")}}


@dataclass(frozen=True)
class Plan:
    """``jobs``: of each case."""

    rounds: int
    jobs: int
    cases: tuple[str, ...] = CASES


async def _rounds(on: Stores, peers: list[Peer], plan: Plan) -> list[Line]:
    lines = []
    for number in range(plan.rounds):
        for case in plan.cases:
            for position in range(len(peers)):
                peer = peers[(number + position) % len(peers)]
                print(f"[round {number + 1}/{plan.rounds}] {case} {peer.name}", file=sys.stderr, flush=True)
                found = await measure(on, peer, case, plan.jobs)
                line = {"round": number + 1, "measure": case, "contestant": peer.name, "version": peer.version}
                lines.append({**line, **found, "load": round(os.getloadavg()[0], 1)})
                print(json.dumps(lines[-1]), flush=True)
    return lines


def compared(lines: list[Line]) -> list[Line]:
    """For each case and peer, and for the best concurrency of each: our figure divided by theirs, round by round
    (a rate: more is better; CPU and latency: less)."""
    figures: dict[tuple[str, str, str], dict[int, float]] = {}
    for line in lines:
        for field in ("per_s", "cpu_us", "p50_ms", "p99_ms"):
            if field not in line:
                continue
            cases = [line["measure"], *(["drain"] if line["measure"].startswith("drain_") else [])]
            for case in cases:
                rounds = figures.setdefault((case, line["contestant"], field), {})
                best = max if field == "per_s" else min
                rounds[line["round"]] = best(rounds.get(line["round"], line[field]), line[field])
    return [
        _ratios(case, field, figures[case, OURS, field], peer, theirs)
        for (case, peer, field), theirs in figures.items()
        if peer != OURS and (case, OURS, field) in figures
    ]


def _ratios(case: str, field: str, mine: dict[int, float], peer: str, theirs: dict[int, float]) -> Line:
    ratios = [round(mine[number] / theirs[number], 2) for number in sorted(mine)]
    return {"measure": case, "field": field, "against": peer, "ratios": ratios, "median": statistics.median(ratios)}


def _for_table(lines: list[Line], ratios: list[Line]) -> Measured:
    found: Measured = {}
    for ratio in ratios:
        if ratio["field"] in {"per_s", "p99_ms"}:
            found.setdefault(ratio["measure"], {})[ratio["against"]] = ratio["median"]
    p50 = [line["p50_ms"] for line in lines if line["measure"] == "latency" and line["contestant"] == OURS]
    if p50:
        found.setdefault("latency", {})["p50_ms"] = statistics.median(p50)
    return found


async def _run(peers: list[Peer], plan: Plan) -> None:
    with stores() as on:
        lines = await _rounds(on, peers, plan)
    ratios = compared(lines)
    for ratio in ratios:
        print(json.dumps(ratio), flush=True)
    print(f"\n{table(WITH_PEERS, _for_table(lines, ratios))}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=20_000, help="of each measure; Procrastinate gets a twentieth")
    parser.add_argument("--only", default=f"{OURS},{BULLMQ},{PROCRASTINATE}", help="contestants, with commas")
    parser.add_argument("--cases", default=",".join(CASES), help="what to measure, with commas")
    parser.add_argument("--uv", default="uv", help="the program that makes Procrastinate's environment")
    given = parser.parse_args()
    chosen = given.only.split(",")
    with tempfile.TemporaryDirectory(prefix="gateway-peers-") as name:
        directory = Path(name)
        peers = [Peer(OURS, f"{OURS} {__version__}", COMMAND)]
        if BULLMQ in chosen:
            peers.append(bullmq(directory / "node"))
        if PROCRASTINATE in chosen:
            peers.append(procrastinate(directory / "python", given.uv))
        uvloop.run(_run(peers, Plan(given.rounds, given.jobs, tuple(given.cases.split(",")))))


if __name__ == "__main__":
    main()
