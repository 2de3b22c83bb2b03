"""Real gateway processes scaled by Kubernetes' algorithm over what they show at /metrics, ten times as fast."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
import yaml

from gateway.autoscale.algorithm import Scaler, behavior_of
from gateway.autoscale.controller import Autoscaler, Pass
from gateway.autoscale.fleet import ProcessFleet
from gateway.autoscale.signal import Signal
from gateway.dev_servers import free_port
from tests.support.eventually import eventually
from tests.support.gateway import environment_of, running
from tests.support.gateway_process import bearer, token
from tests.support.modes import LONG
from tests.support.smtp_server import ScriptedSmtp

pytestmark = [pytest.mark.timeout(300)]

FASTER = 10.0
HPA = Path(__file__).resolve().parents[2] / "k8s" / "base" / "hpa.yaml"
MINIMUM, MAXIMUM = 2, 4  # for two cores


class Trial:
    """A fleet under its autoscaler, and what it did."""

    def __init__(self, environment: dict[str, str], signal: Signal) -> None:
        command = [sys.executable, "-m", "gateway", "serve", "--host", "127.0.0.1", "--port", "{port}"]
        spec = yaml.safe_load(HPA.read_text("utf-8"))["spec"]
        behavior = behavior_of(spec)
        assert behavior is not None
        scaler = Scaler(MINIMUM, MAXIMUM, behavior.faster(FASTER))
        self.fleet = ProcessFleet(command, free_port, environment)
        self.autoscaler = Autoscaler(self.fleet, scaler, signal, asyncio.get_running_loop().time)
        self.passes: list[Pass] = []
        self.client = httpx.AsyncClient(headers=bearer(token("admin")), timeout=15, trust_env=False)

    @property
    def sizes(self) -> list[int]:
        return [one.after for one in self.passes]

    async def all_ready(self, number: int) -> bool:
        urls = self.fleet.urls
        return len(urls) == number and all([await self._ready(url) for url in urls])

    async def _ready(self, url: str) -> bool:
        with suppress(httpx.TransportError):
            return (await self.client.get(f"{url}/health/ready")).is_success
        return False

    async def submit(self, number: int) -> None:
        url = self.fleet.urls[0]
        for start in range(0, number, 100):
            mails = [
                {"from": "shop@shop.example", "to": f"{uuid4().hex}@example.com", "subject": "Hello", "text": "Hello"}
                for _ in range(min(100, number - start))
            ]
            answer = await self.client.post(f"{url}/api/v1/emails/batch", json=mails)
            assert answer.is_success, answer.text

    async def passed(self, number: int) -> None:
        """So many further passes with an answer of every replica."""
        goal = len(self.passes) + number
        await eventually(lambda: len(self.passes) >= goal, timeout=60)


@asynccontextmanager
async def trial(database_url: str, smtp: ScriptedSmtp, signal: Signal, **settings: str) -> AsyncIterator[Trial]:
    patient = {"SHUTDOWN_GRACE_S": "60", "LOCK_DURATION_MS": "60000"}  # a busy machine loses no job here
    environment = environment_of(database_url, smtp=(smtp.host, smtp.port), **patient, **settings)
    made = Trial(environment, signal)
    loop = asyncio.create_task(made.autoscaler.run(15 / FASTER, made.passes.append))
    try:
        await eventually(lambda: made.all_ready(MINIMUM), timeout=40, message="the minimum does not come up")
        yield made
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        await made.fleet.close()
        await made.client.aclose()
    # -15: told to end before it had started. No -9: nothing was killed.
    assert set(made.fleet.exits) <= {0, -15}, "a process was killed, or failed"


async def jobs(pool: asyncpg.Pool) -> dict[str, int]:  # type: ignore[type-arg]
    return {row["state"]: row["n"] for row in await pool.fetch("SELECT state, count(*) AS n FROM jobs GROUP BY 1")}


async def test_sixty_constant_jobs_stay_at_the_minimum(database_url: str, pool: asyncpg.Pool) -> None:  # type: ignore[type-arg]
    async with running(ScriptedSmtp()) as smtp, trial(database_url, smtp, Signal.WAITING) as made:
        (await made.client.post(f"{made.fleet.urls[0]}/api/v1/admin/queues/email-queue/pause")).raise_for_status()
        await made.submit(60)
        await made.passed(4)
        assert await jobs(pool) == {"waiting": 60}
        await eventually(lambda: made.passes[-1].wishes == [2], 60, "60 jobs, 50 for each")
        assert set(made.sizes) == {MINIMUM}


# By demand short mails that two replicas send within two minutes start nothing; long ones do.
@pytest.mark.parametrize(
    ("signal", "number", "job_s"), [(Signal.WAITING, 400, 0.5), pytest.param(Signal.DEMAND, 120, 8.0, marks=LONG)]
)
async def test_a_burst_scales_out_and_back_and_no_job_is_lost(
    signal: Signal,
    number: int,
    job_s: float,
    database_url: str,
    pool: asyncpg.Pool,  # type: ignore[type-arg]
) -> None:
    async with running(ScriptedSmtp()) as smtp, trial(database_url, smtp, signal) as made:
        smtp.script.delay_s = job_s
        await made.submit(number)
        await eventually(lambda: max(made.sizes) == MAXIMUM, timeout=60, message="it does not scale out")
        await eventually(lambda: len(smtp.messages) >= number, timeout=90, message="mails are missing")
        smtp.script.delay_s = 0
        await eventually(lambda: made.fleet.size == MINIMUM, timeout=120, message="it does not scale back")
        await eventually(lambda: not made.fleet.draining, timeout=60, message="replicas do not end")
        assert await jobs(pool) == {"completed": number}
        recipients = [recipient for message in smtp.messages for recipient in message.recipients]
        assert len(recipients) == len(set(recipients)) == number, "each mail once"
        assert await pool.fetchval("SELECT count(*) FROM jobs WHERE attempts <> 1 OR stalls <> 0") == 0


@LONG
@pytest.mark.parametrize("signal", [Signal.WAITING, Signal.DEMAND])
async def test_a_burst_that_the_rate_limit_holds_back_does_not_scale(
    signal: Signal,
    database_url: str,
    pool: asyncpg.Pool,  # type: ignore[type-arg]
) -> None:
    limit = {"EMAIL_RATE_MAX": "10", "EMAIL_RATE_DURATION_MS": "1000"}
    async with running(ScriptedSmtp()) as smtp, trial(database_url, smtp, signal, **limit) as made:
        smtp.script.delay_s = 0.1
        await made.submit(10)
        await eventually(lambda: len(smtp.messages) == 10)
        await made.submit(1000)
        await made.passed(8)
        assert (await jobs(pool))["waiting"] > 500, "they still wait"
        assert set(made.sizes) == {MINIMUM}


async def test_long_jobs_survive_that_their_replica_goes(database_url: str, pool: asyncpg.Pool) -> None:  # type: ignore[type-arg]
    async with running(ScriptedSmtp()) as smtp, trial(database_url, smtp, Signal.DEMAND) as made:
        smtp.script.delay_s = 8
        await made.submit(10)
        active: Callable[[], object] = lambda: jobs(pool)  # noqa: E731
        await eventually(lambda: _is(active, {"active": 10}), timeout=40, message="they do not run")
        await made.fleet.scale(1, {})
        (leaving,) = made.fleet.draining
        assert leaving.process.returncode is None
        await eventually(lambda: leaving not in made.fleet.draining, timeout=40)
        assert leaving.process.returncode == 0
        await eventually(lambda: _is(active, {"completed": 10}), timeout=30)
        assert len(smtp.messages) == 10
        assert await pool.fetchval("SELECT count(*) FROM jobs WHERE attempts <> 1 OR stalls <> 0") == 0


async def _is(read: Callable[[], object], wanted: object) -> bool:
    return await read() == wanted  # type: ignore[misc]


async def test_a_process_that_dies_is_started_again(database_url: str) -> None:
    async with running(ScriptedSmtp()) as smtp, trial(database_url, smtp, Signal.DEMAND) as made:
        lost = made.fleet.running[0]
        lost.process.kill()
        await eventually(lambda: lost not in made.fleet.running and made.fleet.size == MINIMUM, timeout=40)
        await eventually(lambda: made.all_ready(MINIMUM), timeout=40)
        made.fleet.exits.remove(-9)


async def test_the_command_runs_processes_and_drains_them(database_url: str, tmp_path: Path) -> None:
    async with running(ScriptedSmtp()) as smtp:
        environment = environment_of(database_url, smtp=(smtp.host, smtp.port), HOST="127.0.0.1")
        port = free_port()
        command = [sys.executable, "-m", "gateway", "autoscale", "--min", "1", "--max", "2", "--base-port", str(port)]
        output = tmp_path / "output"
        with output.open("wb") as file:
            process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=file)
        try:
            async with httpx.AsyncClient(trust_env=False) as client:

                async def ready() -> bool:
                    with suppress(httpx.TransportError):
                        return (await client.get(f"http://127.0.0.1:{port}/health/ready")).is_success
                    return False

                await eventually(ready, timeout=40)
                await eventually(lambda: "0 -> 1 replicas" in output.read_text())
                process.terminate()
                assert await asyncio.wait_for(process.wait(), 30) == 0
                assert not await ready(), "it left a process behind"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
