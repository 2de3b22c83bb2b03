"""Whose word is believed for where a request comes from: a proxy that TRUSTED_PROXIES names, and nobody else."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.gateway import gateways
from tests.support.gateway_process import GatewayProcess
from tests.support.modes import WITHOUT_REDIS
from tests.support.smtp_server import ScriptedSmtp

FIRST, SECOND = "203.0.113.7", "203.0.113.8"


async def sign_in_wrong(gateway: GatewayProcess, said: str) -> int:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as browser:
        headers = {"X-Forwarded-For": said, "Origin": gateway.url}
        return (await browser.post("/admin/queues/login", data={"token": "wrong"}, headers=headers)).status_code


@WITHOUT_REDIS
async def test_tries_are_counted_by_the_address_that_a_trusted_proxy_names(
    tmp_path: Path, database_url: str, smtp: ScriptedSmtp, mode: str
) -> None:
    async with gateways(tmp_path, database_url, smtp) as cluster:
        behind = await cluster.start(GATEWAY_ROLE="api", TRUSTED_PROXIES="127.0.0.1")
        assert [await sign_in_wrong(behind, FIRST) for _ in range(6)] == [403] * 5 + [429]
        assert await sign_in_wrong(behind, SECOND) == 403
        direct = await cluster.start(GATEWAY_ROLE="api", TRUSTED_PROXIES="10.0.0.0/8")
        assert [await sign_in_wrong(direct, FIRST) for _ in range(5)] == [403] * 5
        assert await sign_in_wrong(direct, SECOND) == 429, "who says where it comes from gets new tries"
