"""What a replica needs, and what waiting and ended work takes in the stores: the tables of docs/operations.md."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import asyncpg
import redis

from bench.cost import Measure, cost
from bench.gateway import MAIL, Gateway, backlog_of, gateway, none_left, resume
from bench.http_load import flood, percentile, request
from bench.rig import Rig, rig
from bench.servers import Stores, cpu_s

_BATCH = 100  # mails of one request
_RATE = {"EMAIL_RATE_MAX": "1000000"}


async def idle(on: Stores, *, role: str, seconds: float) -> Measure:
    """A replica that has nothing to do. ``cpu_share`` and ``postgres_cpu_share``: of one core."""
    async with gateway(on, GATEWAY_ROLE=role) as made:
        await asyncio.sleep(min(seconds, 3))  # what it does once after its start
        before, started = (cpu_s(made.pid), on.cpu_s[0]), time.perf_counter()
        await asyncio.sleep(seconds)
        took = time.perf_counter() - started
        shares = [(now - then) / took for now, then in zip((cpu_s(made.pid), on.cpu_s[0]), before, strict=True)]
        names = ("cpu_share", "postgres_cpu_share")
        return {"role": role, "rss_mib": made.rss_mib, **{n: round(s, 3) for n, s in zip(names, shares, strict=True)}}


async def mails(on: Stores, *, concurrency: int, number: int) -> Measure:
    """From the resume of a queue of so many mails to the last one sent, with as many SMTP connections as slots.
    ``per_core_s``: mails per second of one core of the replica's process, PostgreSQL's CPU not counted."""
    slots = {"EMAIL_QUEUE_CONCURRENCY": str(concurrency), "SMTP_POOL_SIZE": str(concurrency)}
    async with gateway(on, **slots, **_RATE) as made:
        ledger = await asyncpg.connect(made.ledger)
        await backlog_of(made, number)
        before = made.rss_mib
        with cost(on, number, of=made.pid) as measured:
            await resume(made)
            await none_left(ledger)
        await ledger.close()
        return {"concurrency": concurrency, **_per_core(measured), "rss_before_mib": before, "peak_mib": _peak(made)}


async def http(on: Stores, *, connections: int, number: int) -> Measure:
    """POST /api/v1/emails to its 202, and GET of one mail, as fast as so many connections can. No workers."""
    async with gateway(on, DISABLE_BACKGROUND_WORKERS="true") as made:
        post = request("POST", "/api/v1/emails", made.token, MAIL)
        await flood(made.port, post, 200, connections, 202)
        with cost(on, number, of=made.pid) as posted:
            _, each = await flood(made.port, post, number, connections, 202)
        ledger = await asyncpg.connect(made.ledger)
        mail = await ledger.fetchval("SELECT id FROM emails LIMIT 1")
        await ledger.close()
        get = request("GET", f"/api/v1/emails/{mail}", made.token)
        with cost(on, number, of=made.pid) as got:
            await flood(made.port, get, number, connections, 200)
        return {
            "connections": connections,
            **{f"post_{name}": value for name, value in _per_core(posted).items()},
            "post_p99_ms": percentile(each, 0.99),
            **{f"get_{name}": value for name, value in _per_core(got).items()},
            "peak_mib": _peak(made),
        }


async def redis_memory(on: Stores, *, few: int, many: int) -> Measure:
    """What waiting jobs take in Redis, of arguments of any size: it holds their ids."""
    async with rig(on, mode="queue") as made:
        with redis.Redis.from_url(on.redis_url) as client:
            empty = _used(client)
            await made.submit_bulk(few)
            after_few = _used(client)
            await made.submit_bulk(many - few)
            return {
                "jobs": many,
                "empty_kib": empty // 1024,
                f"{few}_waiting_kib": (after_few - empty) // 1024,
                f"{many}_waiting_kib": (_used(client) - empty) // 1024,
            }


async def postgres_size(on: Stores, *, jobs: int, number: int) -> Measure:
    """MiB of the database, with indexes and dead rows, for 100,000 of each: of ``jobs`` with 200 bytes of arguments and
    of ``number`` mails of 200 characters."""
    async with rig(on, mode="queue", concurrency=50) as made:
        size = await _size(made)
        await made.submit_bulk(jobs)
        waiting = await _size(made) - size
        await made.worker.start()
        await made.until(jobs)
        ended = await _size(made) - size
    async with gateway(on, EMAIL_QUEUE_CONCURRENCY="50", SMTP_POOL_SIZE="10", **_RATE) as replica:
        ledger = await asyncpg.connect(replica.ledger)
        size = await ledger.fetchval(_SIZE)
        await flood(replica.port, request("POST", "/api/v1/admin/queues/email/pause", replica.token), 1, 1, 200)
        body = json.dumps([json.loads(MAIL)] * _BATCH).encode()
        batch = request("POST", "/api/v1/emails/batch", replica.token, body)
        await flood(replica.port, batch, max(1, number // _BATCH), 4, 202)
        accepted = await ledger.fetchval(_SIZE) - size
        await resume(replica)
        await none_left(ledger)
        sent = await ledger.fetchval(_SIZE) - size
        mails_in = await ledger.fetchval("SELECT count(*) FROM emails")
        await ledger.close()
    found = {"jobs_waiting": (waiting, jobs), "jobs_ended": (ended, jobs)}
    found |= {"mails_accepted": (accepted, mails_in), "mails_sent": (sent, mails_in)}
    return {f"{name}_mib": round(of / each * 100_000 / 2**20) for name, (of, each) in found.items()}


_SIZE = "SELECT pg_database_size(current_database())"


async def _size(made: Rig) -> int:
    found: int = await made.pool.fetchval(_SIZE)
    return found


def _used(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


def _per_core(measured: Measure) -> Measure:
    each = measured["worker_cpu_us"]
    return {
        "per_s": measured["per_s"],
        "cpu_us": each,
        "postgres_cpu_us": measured["postgres_cpu_us"],
        "redis_cpu_us": measured["redis_cpu_us"],
        "per_core_s": round(1e6 / each) if each else 0,
    }


def _peak(made: Gateway) -> int:
    status = Path(f"/proc/{made.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024
