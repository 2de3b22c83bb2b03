"""Customers behind a small load balancer, and what became of their mails."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Final

import asyncpg
import httpx

from tests.support.eventually import eventually
from tests.support.gateway_process import bearer, token
from tests.support.smtp_server import Received, ScriptedSmtp

PROBE_S: Final = 0.2
PAUSE_S: Final = 0.05  # of a customer between two mails
SETTLE_S: Final = 60.0
_numbers = count(1)


class Balancer:
    """Gives requests in turn to the addresses that called themselves ready when it last asked, as a proxy does.

    It never repeats a request: what a replica refuses is refused.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = tuple(urls)
        self.ready: tuple[str, ...] = ()
        self.in_flight: Counter[str] = Counter()
        self.why = ""  # somebody was not ready, the last time that somebody was not
        self._turns = count()

    def pick(self) -> str | None:
        return self.ready[next(self._turns) % len(self.ready)] if self.ready else None

    def has_left(self, url: str) -> bool:
        return url not in self.ready and not self.in_flight[url]

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
            task = asyncio.create_task(self._watch(http))
            try:
                await eventually(lambda: len(self.ready) == len(self.urls), 20, "not every address is ready")
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _watch(self, http: httpx.AsyncClient) -> None:
        while True:
            answers = await asyncio.gather(*(_unready(http, url) for url in self.urls))
            self.ready = tuple(url for url, why in zip(self.urls, answers, strict=True) if not why)
            self.why = next(filter(None, answers), self.why)
            await asyncio.sleep(PROBE_S)


async def _unready(http: httpx.AsyncClient, url: str) -> str:
    """Why it is not ready; empty if it is. Over a connection of its own: one that was kept may lead to a process that
    has left the shared port and finishes its jobs."""
    try:
        answer = await http.get(f"{url}/health/ready", headers={"Connection": "close"})
    except httpx.TransportError as error:
        return type(error).__name__
    return "" if answer.is_success else answer.text[:200]


@dataclass
class Told:
    """What customers were told. ``accepted``: ``time.monotonic()`` of the 202, by recipient; ``refused``: whatever was
    no 202, by what it was."""

    accepted: dict[str, float] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    longest_request_s: float = 0.0


@asynccontextmanager
async def customers(balancer: Balancer, number: int, size: int) -> AsyncIterator[Told]:
    """So many send mails of ``size`` characters until the block ends and each has its last answer."""
    told, over = Told(), asyncio.Event()
    async with httpx.AsyncClient(headers=bearer(token("user")), timeout=30, trust_env=False) as http:

        async def customer() -> None:
            while not over.is_set():
                await _send(http, balancer, told, "x" * size)
                await asyncio.sleep(PAUSE_S)

        async with asyncio.TaskGroup() as group:
            for _ in range(number):
                group.create_task(customer())
            try:
                yield told
            finally:
                over.set()


async def _send(http: httpx.AsyncClient, balancer: Balancer, told: Told, text: str) -> None:
    url = balancer.pick()
    if url is None:
        told.refused[f"no replica is ready: {balancer.why}"] += 1
        return
    recipient = f"customer-{next(_numbers)}@example.com"
    body = {"from": "shop@shop.example", "to": recipient, "subject": "Rehearsal", "text": text}
    balancer.in_flight[url] += 1
    began = time.monotonic()
    try:
        answer = await http.post(f"{url}/api/v1/emails", json=body)
    except httpx.TransportError as error:
        told.refused[type(error).__name__] += 1
        return
    finally:
        balancer.in_flight[url] -= 1
    ended = time.monotonic()
    told.longest_request_s = max(told.longest_request_s, ended - began)
    if answer.status_code == 202:
        told.accepted[recipient] = ended
    else:
        told.refused[str(answer.status_code)] += 1


class Mailbox(ScriptedSmtp):
    """Keeps who was sent to and when, not what."""

    async def keep(self, message: Received) -> None:
        await super().keep(message._replace(data=b""))

    def arrivals(self) -> dict[str, list[float]]:
        """``time.monotonic()`` of each message, by recipient."""
        found: dict[str, list[float]] = {}
        for message in self.messages:
            for recipient in message.recipients:
                found.setdefault(recipient, []).append(message.at)
        return found


@dataclass(frozen=True)
class Fate:
    """What became of accepted mails. ``charged``: jobs that counted a second attempt or a stall; ``open_jobs``: those
    that have not completed."""

    lost: int
    doubled: int
    charged: int
    open_jobs: int
    longest_mail_s: float


async def fate(ledger: asyncpg.Connection[asyncpg.Record], mailbox: Mailbox, told: Told, since: datetime) -> Fate:
    """Of the mails that were accepted ``since`` then. Waits until all have arrived and all jobs have ended, for
    ``SETTLE_S`` at most."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        arrived = mailbox.arrivals()
        open_jobs = await ledger.fetchval("SELECT count(*) FROM jobs WHERE state <> 'completed'")
        if (arrived.keys() >= told.accepted.keys() and not open_jobs) or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    charged = "SELECT count(*) FROM jobs WHERE created_at >= $1 AND (attempts > 1 OR stalls > 0)"
    return Fate(
        lost=sum(one not in arrived for one in told.accepted),
        doubled=sum(len(arrived.get(one, ())) > 1 for one in told.accepted),
        charged=await ledger.fetchval(charged, since),
        open_jobs=open_jobs,
        longest_mail_s=max((arrived[one][0] - at for one, at in told.accepted.items() if one in arrived), default=0.0),
    )
