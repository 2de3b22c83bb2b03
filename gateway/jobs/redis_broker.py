"""The broker with Redis: an ordered set of ready ids per queue, a wake-up, and a note while starting is in vain.

Nothing here is a record. Limits and pauses are decided by the ledger when it is asked to claim; ``hold`` only spares
the asking. Keys carry the ledger's id, so two ledgers may share a Redis, and ``{queue}`` as hash tag: in a cluster all
keys of a queue are in one slot, each call touches the keys of one queue only, and no pipeline or transaction is used.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog

from gateway.infra.luafiles import load_lua
from gateway.infra.postgres import LEDGER_ERRORS
from gateway.infra.redis import REDIS_ERRORS, RedisClient, Script
from gateway.jobs.broker import BrokerDown, Fetched
from gateway.jobs.job import PRIORITY_MAX, Inserted
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.store import Store

log = structlog.get_logger(__name__)

LUA = load_lua("gateway.jobs")

BLOCK_S = 5.0  # longest wait for a wake-up; the blocking client's socket timeout must be longer
HOLD_MS = 1000  # how long a pause without end is remembered before the ledger is asked again
HOLD_MAX_MS = 5000  # a hold outlives a change of the limit, or a lost resume, by no more than this
_BAND = 1e14  # seq stays below it for centuries; ten bands of it stay exact in a double
_CHUNK = 500  # jobs told in one script: bounds how long it holds Redis

LOOK_S = 5.0  # how often an idle queue asks the ledger although Redis says that nothing is ready


class RedisBroker:
    """``commands`` answers or fails within a second; ``blocking`` is used for the wake-up alone and carries no payload,
    so an answer lost on a dead connection loses nothing.

    ``queues``: those that ``ping`` looks after, each where its keys are.
    """

    mode = "queue"

    def __init__(
        self, store: Store, commands: RedisClient, blocking: RedisClient, ledger_id: UUID, queues: Sequence[str] = ()
    ) -> None:
        self._store = store
        self._commands: Any = commands  # its types are those of the blocking library too: each answer would be a union
        self._blocking: Any = blocking
        self._prefix = f"gw:{ledger_id.hex[:12]}"
        self._probes = [self.key(queue, "probe") for queue in queues] or [f"{self._prefix}:probe"]
        self._look_at: dict[str, float] = {}
        self._offer = Script(commands, LUA["offer"])
        self._fetch = Script(commands, LUA["fetch"])
        self._release = Script(commands, LUA["release"])

    def key(self, queue: str, part: str) -> str:
        """``part``: ready, wake, hold, told or probe (see ``lua/``, ``mark_told`` and ``ping``)."""
        return f"{self._prefix}:{{{queue}}}:{part}"

    async def offer(self, jobs: Sequence[Inserted]) -> None:
        await self.tell(jobs)

    async def tell(self, jobs: Sequence[Inserted]) -> int:
        """As ``offer``; answers how many of them Redis did not know."""
        unknown = 0
        by_queue: dict[str, list[Inserted]] = {}
        for job in jobs:
            by_queue.setdefault(job.queue, []).append(job)
        try:
            for queue, members in by_queue.items():
                keys = [self.key(queue, "ready"), self.key(queue, "wake")]
                for start in range(0, len(members), _CHUNK):
                    part = members[start : start + _CHUNK]
                    args = [value for job in part for value in (_score(job), str(job.id))]
                    unknown += int(await self._offer(keys=keys, args=args))
        except REDIS_ERRORS as error:
            raise BrokerDown(str(error)) from error
        return unknown

    async def fetch(self, policy: QueuePolicy, limit: int) -> Fetched:
        queue = policy.name
        try:
            held_ms, why, *members = await self._fetch(
                keys=[self.key(queue, "ready"), self.key(queue, "wake"), self.key(queue, "hold")], args=[limit]
            )
        except REDIS_ERRORS as error:
            raise BrokerDown(str(error)) from error
        if held_ms:
            return Fetched(jobs=[], retry_after_s=held_ms / 1000, paused=why == b"paused")
        ids = _ids(members)
        if not ids:
            return await self._look(policy, limit)
        fetched = await self._store.claim_ids(policy, ids)
        if fetched.paused or fetched.retry_after_s is not None:
            try:
                await self._hold(queue, ids, fetched)
            except (BrokerDown, *LEDGER_ERRORS) as error:
                # What was claimed is ours and must run; the others are found again by the relay and by the look.
                log.info("hold_not_set", queue=queue, error=str(error))
        return fetched

    async def _look(self, policy: QueuePolicy, limit: int) -> Fetched:
        """Redis knows of nothing. Now and then the ledger is asked itself: notifications are hints, polling is the
        guarantee, also when nobody is left who could relay."""
        now = time.monotonic()
        if now < self._look_at.get(policy.name, 0.0):
            return Fetched(jobs=[])
        self._look_at[policy.name] = now + LOOK_S
        return await self._store.claim_due(policy, limit)

    async def _hold(self, queue: str, ids: list[UUID], fetched: Fetched) -> None:
        """The ledger lets no more start: put the others back in line and spare all replicas the asking."""
        claimed = {job.id for job in fetched.jobs}
        left = await self._store.still_waiting([job_id for job_id in ids if job_id not in claimed])
        wait_ms = HOLD_MS if fetched.retry_after_s is None else max(1, int(fetched.retry_after_s * 1000))
        try:
            why = "paused" if fetched.paused else "limited"
            await self._commands.set(self.key(queue, "hold"), why, px=min(wait_ms, HOLD_MAX_MS))
        except REDIS_ERRORS as error:
            raise BrokerDown(str(error)) from error
        if left:
            await self.offer(left)

    async def wait(self, queue: str, timeout_s: float) -> None:
        try:
            await self._blocking.blpop([self.key(queue, "wake")], timeout=max(0.05, min(timeout_s, BLOCK_S)))
        except REDIS_ERRORS as error:
            raise BrokerDown(str(error)) from error

    async def wake(self, queue: str) -> None:
        try:
            await self._release(keys=[self.key(queue, "hold"), self.key(queue, "wake")], args=[])
        except REDIS_ERRORS as error:
            raise BrokerDown(str(error)) from error

    async def ping(self) -> None:
        """Raises ``BrokerDown`` when Redis does not answer in time, or cannot be written to.

        All queues go direct together: with a cluster that is when the node of any of them is away.
        """
        try:
            for probe in self._probes:
                # A write: a replica after a failover, or a full server, answers PING and takes no job.
                await self._commands.set(probe, "1", px=60_000)
        except REDIS_ERRORS as error:
            raise BrokerDown(str(error)) from error

    async def ready(self, queue: str) -> tuple[int, bool]:
        """How many ids Redis has, and whether it was told the whole queue since it last forgot (``mark_told``)."""
        try:
            count = await self._commands.zcard(self.key(queue, "ready"))
            told = await self._commands.exists(self.key(queue, "told"))
        except REDIS_ERRORS as error:
            raise BrokerDown(str(error)) from error
        return int(count), bool(told)

    async def mark_told(self, queue: str) -> None:
        """Remember that the whole queue was told. The mark is lost with everything else: its absence means a flush."""
        try:
            await self._commands.set(self.key(queue, "told"), "1")
        except REDIS_ERRORS as error:
            raise BrokerDown(str(error)) from error


def _ids(members: Sequence[bytes]) -> list[UUID]:
    """The ready set is nobody's record: what is no id in it is dropped."""
    ids = []
    for member in members:
        try:
            ids.append(UUID(member.decode()))
        except ValueError:
            log.warning("stray_member_dropped", member=repr(member[:80]))
    return ids


def _score(job: Inserted) -> float:
    return (PRIORITY_MAX - job.priority) * _BAND + job.seq
