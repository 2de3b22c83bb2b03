"""Renewing the leases of what runs here, and ending what is no longer ours."""

from __future__ import annotations

import asyncio
import time

import structlog

from gateway.infra.postgres import LEDGER_ERRORS, is_unavailable
from gateway.jobs.executor import Executor
from gateway.jobs.policy import StallPolicy
from gateway.jobs.store import Store

log = structlog.get_logger(__name__)


class LeaseKeeper:
    """A component. One statement renews every running attempt of this replica.

    What the answer leaves out was taken over: its local task is cancelled and settles nothing (invariant B). When the
    ledger does not answer nobody can take over through it either, so running work goes on; ``Attempt.still_held`` tells
    tasks that the lease has run out before they do something irrevocable.
    """

    name = "lease keeper"

    def __init__(self, executor: Executor, store: Store, policy: StallPolicy) -> None:
        self._executor = executor
        self._store = store
        self._policy = policy
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._loop = asyncio.create_task(self._keep(), name=self.name)

    async def stop(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
            self._loop = None

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._policy.renew_ms / 1000)
            try:
                await self.renew()
            except LEDGER_ERRORS as error:
                if is_unavailable(error):
                    log.warning("renewal_waits_for_ledger", running=len(self._executor.running), error=str(error))
                else:  # the next renewal may succeed; without this loop every running job would stall
                    log.error("renewal_failed", exc_info=error)

    async def renew(self) -> None:
        held = list(self._executor.running)
        if not held:
            return
        asked = time.monotonic()
        kept = await self._store.renew(held)
        for key in held:
            attempt = self._executor.running.get(key)
            if attempt is None:
                continue
            if key in kept:
                attempt.lease_ends = asked + self._policy.lease_ms / 1000
            else:
                log.warning("lease_lost", job_id=str(key[0]), queue=attempt.job.queue, fence=key[1])
                attempt.cancel("lost")
