"""Renewing leases while PostgreSQL goes away and comes back."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import pytest
from structlog.testing import capture_logs

from gateway.dev_servers import free_port
from gateway.infra.postgres import open_pool
from gateway.jobs.policy import StallPolicy
from tests.support.engine import replica
from tests.support.proxy import Proxy

pytestmark = pytest.mark.fault


async def test_an_outage_is_two_lines_however_often_the_leases_could_not_be_renewed(database_url: str) -> None:
    parts = urlsplit(database_url)
    host, port = parts.hostname or "", parts.port or 0
    async with Proxy(host, port) as link:
        far = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[0] + f"@127.0.0.1:{link.port}"))
        pool = await open_pool(far, min_size=1, max_size=3)
        with capture_logs() as lines:
            # Its own rounds are far apart, and patient with a busy machine.
            async with replica(pool, None, stalls=StallPolicy(lease_ms=180_000, renew_ms=60_000)) as one:
                await one.leases._keep()
                link.lead("127.0.0.1", free_port())
                link.cut()
                tried = link.accepted
                for _ in range(6):
                    await one.leases._keep()
                assert link.accepted > tried
                link.lead(host, port)
                await one.leases._keep()
        await pool.close()
    assert [line["event"] for line in lines if line["event"].startswith("renewal_")] == [
        "renewal_waits_for_ledger",
        "renewal_recovered",
    ]
