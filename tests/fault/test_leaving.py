"""A machine that is told to go in two minutes, and stops that may last hours."""

from __future__ import annotations

import pytest

from tests.fault.test_processes import hang_once_at_rcpt, kinds
from tests.support.eventually import eventually
from tests.support.gateway import Cluster, HoldingSmtp
from tests.support.gateway_process import GatewayProcess
from tests.support.modes import LONG, WITH_REDIS, WITHOUT_REDIS

pytestmark = pytest.mark.fault

HAND_BACK_S = 15  # before the machine goes (gateway/jobs/presence.py)


@LONG
@WITHOUT_REDIS
async def test_what_cannot_end_in_time_is_handed_back_before_the_machine_goes(
    cluster: Cluster, smtp: HoldingSmtp
) -> None:
    leaving = await cluster.start(SHUTDOWN_GRACE_S="28800")
    smtp.script.rule = hang_once_at_rcpt
    held = await cluster.submit_many(2, leaving)
    await eventually(lambda: all(smtp.script.seen["rcpt", mail.recipient] for mail in held))
    other = await cluster.start(SHUTDOWN_GRACE_S="28800")
    [gone] = [
        one for one in (await other.admin.get("/api/v1/admin/workers")).json()["data"] if one["pid"] == leaving.pid
    ]
    path = f"/api/v1/admin/workers/{gone['id']}/drain"
    assert (await other.admin.post(f"{path}?withinS=0")).status_code == 400
    answer = await other.admin.post(f"{path}?withinS={HAND_BACK_S + 1}")
    assert answer.json()["data"] == {"id": gone["id"], "draining": True, "withinS": HAND_BACK_S + 1}
    await cluster.all_delivered(HAND_BACK_S)
    assert await leaving.status("/health/ready") == 503
    assert await leaving.status("/health/live") == 200
    for mail in held:
        job = await cluster.job(mail)
        assert (job["state"], job["attempts"], job["stalls"], kinds(job)) == ("completed", 1, 0, ["interrupted"])
    assert cluster.duplicates() == []
    leaving.terminate()
    assert await leaving.exit_code(10) == 0, "nothing is left to wait for, whatever the grace is"


@LONG
@WITH_REDIS
async def test_a_stop_waits_hours_for_a_job_if_it_may_and_ends_with_it(cluster: Cluster, smtp: HoldingSmtp) -> None:
    stopping = await cluster.start(SHUTDOWN_GRACE_S="28800")
    smtp.answers.clear()
    mail = await cluster.submit(stopping)
    await smtp.wait_for(1)
    stopping.terminate()
    await eventually(lambda: _not_ready(stopping))
    assert '"grace_s": 28800' in stopping.log or '"grace_s":28800' in stopping.log
    smtp.answers.set()
    assert await stopping.exit_code(10) == 0
    cluster.retire(stopping)
    await cluster.start()
    assert (await cluster.job(mail))["state"] == "completed"
    assert cluster.duplicates() == []


async def _not_ready(process: GatewayProcess) -> bool:
    return await process.status("/health/ready") == 503
