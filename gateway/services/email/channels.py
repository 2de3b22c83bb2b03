"""Who may listen to ``job:{id}`` of a mail's job: whose mail it is, and those who see all."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from gateway.access import Principal
from gateway.infra.sqlfiles import load_sql

SQL = load_sql(__package__)


class MailChannels:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def may_listen(self, principal: Principal, job_id: str) -> bool:
        """Raises what asyncpg raises when the ledger is away."""
        try:
            job = UUID(job_id)
        except ValueError:
            return False
        owner = await self._pool.fetchval(SQL["owner_of_job"], job)
        return owner is not None and (principal.sees_all or owner == principal.id)
