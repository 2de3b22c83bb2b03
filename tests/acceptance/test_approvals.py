"""What agents want to do: people decide over HTTP, other processes do it, mail and GitHub servers see it once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from email import message_from_bytes
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support.acting import PATH, USER, Acting, acting
from tests.support.dev_process import gateway as gateway_command
from tests.support.eventually import eventually
from tests.support.gateway_process import GatewayProcess, token
from tests.support.github_data import Act, Call, Reply
from tests.support.modes import WITH_REDIS, WITH_REDIS_ALWAYS, WITHOUT_REDIS, WITHOUT_REDIS_ALWAYS
from tests.support.run_rows import RunRow, asks, project_row, run_row
from tests.support.smtp_server import ScriptedSmtp

MAIL = asks("send_email", to=["ada@example.com"], subject="Release 2", text="It is out.\nSee the notes.")
ISSUE = asks("open_issue", title="A slow test", body="It takes a **minute**")


def comment(number: int, body: str = "Fixed by #8") -> dict[str, Any]:
    return asks("comment_issue", number=number, body=body)


@pytest.fixture
async def team(
    tmp_path: Path,
    database_url: str,
    pool: asyncpg.Pool[asyncpg.Record],
    smtp: ScriptedSmtp,
    mode_redis_url: str | None,
) -> AsyncIterator[Acting]:
    async with acting(tmp_path, database_url, pool, smtp, mode_redis_url) as made:
        yield made


async def decide(gateway: GatewayProcess, action: dict[str, Any], word: str = "approve", **body: Any) -> dict[str, Any]:
    answer = await gateway.user.post(f"{PATH}/approvals/{action['id']}/{word}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


async def job_has_failed(gateway: GatewayProcess, action: dict[str, Any], attempts: int) -> bool:
    """What became of an action is written before its job ends."""
    job = (await gateway.admin.get(f"/api/v1/admin/jobs/{action['jobId']}")).json()["data"]
    return (job["state"], job["attempts"]) == ("failed", attempts)


async def lift_limits(gateway: GatewayProcess, team: Acting, **limits: Any) -> None:
    for action in ("comment_issue", "open_issue", "create_task", "send_email"):
        body = {"projectId": str(team.project_id), "action": action, "cooldownSeconds": 0, "maxPerHour": 100, **limits}
        answer = await gateway.user.post(f"{PATH}/action-configs", json={"maxPerDay": 100, **body})
        assert answer.status_code == 201, answer.text


@WITH_REDIS_ALWAYS
async def test_approved_actions_are_done_and_the_run_is_complete(team: Acting, smtp: ScriptedSmtp) -> None:
    gateway = await team.start()
    number = team.repository.add_issue("It breaks")
    task = asks("create_task", title="Update the lock file", detail="", priority=8)
    run = await team.answered(task, MAIL, comment(number), ISSUE)
    pending = (await gateway.user.get(f"{PATH}/approvals?status=pending&projectId={team.project_id}")).json()["data"]
    assert [one["action"] for one in pending] == ["open_issue", "comment_issue", "send_email"]
    assert await team.pool.fetchval("SELECT count(*) FROM jobs WHERE state IN ('active', 'waiting')") <= 1
    for action in pending:
        decided = await decide(gateway, action, comment="go on")
        assert (decided["status"] in ("approved", "executing", "executed"), decided["decidedBy"]) == (True, USER)

    actions = await team.ended(run, gateway.user)

    assert [action["status"] for action in actions] == ["executed"] * 4
    (message,) = await eventually(lambda: smtp.messages, 10)
    assert (message.envelope_from, message.recipients) == ("agents@shop.example", ["ada@example.com"])
    parsed = message_from_bytes(message.data)
    assert parsed["Subject"] == "Release 2"
    mail = (await gateway.user.get(f"/api/v1/emails/{actions[1]['outcome']['emailId']}")).json()["data"]
    assert (mail["referenceType"], mail["referenceId"]) == ("orchestration_action", actions[1]["id"])
    (said,) = team.repository.comments[number]
    assert said["body"].startswith("Fixed by #8")
    assert actions[2]["outcome"] == {"url": said["html_url"]}
    opened = team.repository.issues[-1]
    assert (opened["title"], actions[3]["outcome"]) == ("A slow test", {"url": opened["html_url"]})
    (row,) = (await gateway.user.get(f"{PATH}/tasks?projectId={team.project_id}")).json()["data"]
    assert (row["title"], row["priority"], row["runId"]) == ("Update the lock file", 8, str(run.id))
    trail = await team.pool.fetch("SELECT actor, subject, detail FROM admin_audit WHERE action = 'action.approve'")
    assert {row["subject"] for row in trail} == {action["id"] for action in pending}
    assert {row["actor"] for row in trail} == {USER}


@WITHOUT_REDIS
async def test_what_is_rejected_is_not_done(team: Acting, smtp: ScriptedSmtp) -> None:
    gateway = await team.start()
    run = await team.answered(MAIL, ISSUE)
    for action in await team.actions(run, gateway.user):
        await decide(gateway, action, "reject", comment="not now")

    actions = await team.ended(run, gateway.user)

    assert [(action["status"], action["reason"]) for action in actions] == [("rejected", "rejected: not now")] * 2
    assert (smtp.messages, team.hub.writes()) == ([], [])
    assert await team.pool.fetchval("SELECT count(*) FROM jobs") == 0
    assert await team.pool.fetchval("SELECT count(*) FROM admin_audit WHERE action = 'action.reject'") == 2


@WITHOUT_REDIS
async def test_a_person_may_change_the_arguments(team: Acting, smtp: ScriptedSmtp) -> None:
    gateway = await team.start()
    run = await team.answered(MAIL)
    (action,) = await team.actions(run, gateway.user)
    path = f"{PATH}/approvals/{action['id']}/approve"
    for wrong, field in (({"to": ["nobody"]}, "subject"), ({**MAIL["arguments"], "to": ["a"]}, "'a' is no bare")):
        refused = await gateway.user.post(path, json={"editedArguments": wrong})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid_arguments")
        assert field in refused.json()["error"]["message"]
    assert (await gateway.user.post(path, json={"editedArguments": "x"})).status_code == 400
    assert (await gateway.user.post(path, json={"edited": {}})).status_code == 400

    edited = {**MAIL["arguments"], "to": ["bob@example.com"]}
    await decide(gateway, action, editedArguments=edited)

    (action,) = await team.ended(run, gateway.user)
    assert (action["arguments"], action["proposed"]) == (edited, MAIL["arguments"])
    (message,) = await eventually(lambda: smtp.messages, 10)
    assert message.recipients == ["bob@example.com"]


@WITHOUT_REDIS_ALWAYS
async def test_of_many_who_decide_at_once_one_does(team: Acting) -> None:
    first, second = await team.start(), await team.start()
    run = await team.answered(ISSUE)
    (action,) = await team.actions(run, first.user)
    urls = [f"{PATH}/approvals/{action['id']}/{word}" for word in ("approve", "reject")]

    answers = await asyncio.gather(
        *(gateway.user.post(url, json={}) for url in urls for gateway in (first, second) for _ in range(4))
    )

    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 15}
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 409} == {"already_decided"}
    (action,) = await team.ended(run, first.user)
    done = 1 if action["status"] == "executed" else 0
    assert len(team.hub.writes()) == done
    assert await team.pool.fetchval("SELECT count(*) FROM admin_audit WHERE action LIKE 'action.%'") == 1
    assert await team.pool.fetchval("SELECT count(*) FROM jobs WHERE task = 'orchestration.act'") == done


@WITH_REDIS
async def test_approvals_survive_a_restart_and_hold_no_slot(team: Acting) -> None:
    first = await team.start()
    run = await team.answered(ISSUE)
    (action,) = await team.actions(run, first.user)
    first.kill()
    second = await team.start()
    workers = (await second.admin.get("/api/v1/admin/queues/orchestration-queue")).json()["data"]
    assert workers["counts"]["active"] == 0

    await decide(second, action)

    (action,) = await team.ended(run, second.user)
    assert action["status"] == "executed"


@WITHOUT_REDIS_ALWAYS
async def test_a_kill_between_githubs_answer_and_ours_does_not_double(team: Acting, mode: str) -> None:
    """A comment in one mode, an issue in the other."""
    number = team.repository.add_issue("It breaks")
    held: list[Call] = []

    def done_and_silent(call: Call) -> Act | None:
        if call.method != "POST" or held:
            return None
        held.append(call)
        call.status = team.hub._reply(call).status
        return Act.HANG

    team.hub.rule = done_and_silent
    doomed = await team.start()
    run = await team.answered(comment(number) if mode == "queue" else ISSUE)
    (action,) = await team.actions(run, doomed.user)
    await decide(doomed, action)
    await eventually(lambda: held, 30, "GitHub was not asked")
    doomed.kill()
    team.cluster.retire(doomed)

    other = await team.start()
    (action,) = await team.ended(run, other.user, 40)

    assert action["status"] == "executed"
    written = [*team.repository.comments.get(number, []), *team.repository.issues[1:]]
    assert [one["html_url"] for one in written] == [action["outcome"]["url"]]
    assert len(team.hub.writes()) == 1


@WITH_REDIS_ALWAYS
async def test_a_kill_in_the_middle_of_many_approvals_loses_and_doubles_nothing(
    team: Acting, smtp: ScriptedSmtp
) -> None:
    doomed, other = await team.start(), await team.start()
    await lift_limits(doomed, team)
    runs = [await run_row(team.pool, team.project_id) for _ in range(4)]
    for n, run in enumerate(runs):
        mails = [asks("send_email", to=[f"u{n}-{m}@example.com"], subject="s", text="t") for m in range(3)]
        await team.answered(*mails, run=run)
    actions = [action for run in runs for action in await team.actions(run, other.user)]

    async def approve(action: dict[str, Any]) -> None:
        with contextlib.suppress(httpx.TransportError):
            await doomed.user.post(f"{PATH}/approvals/{action['id']}/approve", json={})

    approving = asyncio.gather(*(approve(action) for action in actions))
    await eventually(lambda: len(smtp.messages) >= 2, 30, "nothing was sent")
    doomed.kill()
    team.cluster.retire(doomed)
    await approving
    for action in actions:  # those whose answer was lost are decided already
        answer = await other.user.post(f"{PATH}/approvals/{action['id']}/approve", json={})
        assert answer.status_code in (200, 409)

    for run in runs:
        ended = await team.ended(run, other.user, 40)
        assert [action["status"] for action in ended] == ["executed"] * 3
    await eventually(lambda: len({m.recipients[0] for m in smtp.messages}) == 12, 20, "mails are missing")
    made = await team.pool.fetch("SELECT to_addresses FROM emails")
    assert sorted(row["to_addresses"][0] for row in made) == sorted(action["arguments"]["to"][0] for action in actions)


@WITH_REDIS_ALWAYS
async def test_limits_hold_over_both_replicas_when_it_comes_to_doing(team: Acting) -> None:
    first, second = await team.start(), await team.start()
    numbers = [team.repository.add_issue(f"Issue {n}") for n in range(8)]
    await lift_limits(first, team)
    run = await team.answered(*(comment(number) for number in numbers))
    configs = (await first.user.get(f"{PATH}/action-configs?projectId={team.project_id}")).json()["data"]
    config = next(one for one in configs if one["action"] == "comment_issue")
    body = {"cooldownSeconds": 0, "maxPerHour": 3}
    assert (await first.user.put(f"{PATH}/action-configs/{config['id']}", json=body)).status_code == 200

    actions = await team.actions(run, first.user)
    await asyncio.gather(*(decide((first, second)[n % 2], action) for n, action in enumerate(actions)))

    async def counted() -> bool:
        found = Counter(action["status"] for action in await team.actions(run, first.user))
        assert found == {"executed": 3, "approved": 5}
        jobs = await team.pool.fetch("SELECT state, attempts FROM jobs WHERE task = 'orchestration.act'")
        assert Counter(job["state"] for job in jobs) == {"completed": 3, "delayed": 5}
        return True

    await eventually(counted, 40)
    assert sum(len(said) for said in team.repository.comments.values()) == 3
    waits = await team.pool.fetch("SELECT run_at - now() AS wait FROM jobs WHERE state = 'delayed'")
    assert all(3400 < row["wait"].total_seconds() <= 3600 for row in waits)


@WITHOUT_REDIS
async def test_the_cooldown_holds_when_it_comes_to_doing(team: Acting) -> None:
    gateway = await team.start()
    run = await team.answered(ISSUE, asks("open_issue", title="Another", body="b"))
    for action in await team.actions(run, gateway.user):
        await decide(gateway, action)

    async def one_waits() -> bool:
        found = Counter(action["status"] for action in await team.actions(run, gateway.user))
        assert found == {"executed": 1, "approved": 1}
        assert await team.pool.fetchval("SELECT count(*) FROM jobs WHERE state = 'delayed'") == 1
        return True

    await eventually(one_waits, 30)
    wait = await team.pool.fetchval("SELECT run_at - now() FROM jobs WHERE state = 'delayed'")
    assert 840 < wait.total_seconds() <= 900
    assert len(team.hub.writes()) == 1


@WITHOUT_REDIS
async def test_what_was_switched_off_meanwhile_is_refused(team: Acting) -> None:
    gateway = await team.start()
    run = await team.answered(ISSUE)
    body = {"projectId": str(team.project_id), "action": "open_issue", "enabled": False}
    assert (await gateway.user.post(f"{PATH}/action-configs", json=body)).status_code == 201
    (action,) = await team.actions(run, gateway.user)
    await decide(gateway, action)

    (action,) = await team.ended(run, gateway.user)

    assert (action["status"], action["reason"]) == ("refused", "its kind was switched off after the approval")
    assert team.hub.writes() == []


@WITHOUT_REDIS
async def test_what_github_refuses_fails_with_its_reason(team: Acting) -> None:
    gateway = await team.start()
    run = await team.answered(comment(404))
    (action,) = await team.actions(run, gateway.user)
    await decide(gateway, action)

    (action,) = await team.ended(run, gateway.user)

    assert action["status"] == "failed"
    assert "issue 404" in action["reason"]
    await eventually(lambda: job_has_failed(gateway, action, 1))


@WITHOUT_REDIS
async def test_what_may_pass_is_tried_again_as_the_queue_says(team: Acting) -> None:
    gateway = await team.start()
    await lift_limits(gateway, team)
    number = team.repository.add_issue("It breaks")
    left = [Reply(502)] * 2
    team.hub.rule = lambda call: left.pop() if call.method == "POST" and left else None
    run = await team.answered(comment(number))
    await decide(gateway, (await team.actions(run, gateway.user))[0])
    (action,) = await team.ended(run, gateway.user)
    assert (action["status"], len(team.repository.comments[number])) == ("executed", 1)

    team.hub.rule = lambda call: Reply(502) if call.method == "POST" else None
    run = await team.answered(ISSUE)
    await decide(gateway, (await team.actions(run, gateway.user))[0])
    (action,) = await team.ended(run, gateway.user)
    assert action["status"] == "failed"
    assert action["reason"].endswith("GitHub may have done it all the same")
    await eventually(lambda: job_has_failed(gateway, action, 3))


@WITHOUT_REDIS
async def test_a_mail_that_cannot_be_sent_fails_with_its_reason(team: Acting) -> None:
    gateway = await team.start(SMTP_FROM_EMAIL="")
    run = await team.answered(MAIL)
    await decide(gateway, (await team.actions(run, gateway.user))[0])

    (action,) = await team.ended(run, gateway.user)

    assert action["status"] == "failed"
    assert "no default sender is set (SMTP_FROM_EMAIL)" in action["reason"]


@WITHOUT_REDIS
async def test_an_action_ends_when_somebody_takes_its_job_away(team: Acting) -> None:
    gateway = await team.start()
    run = await team.answered(ISSUE, comment(1))
    assert (await gateway.admin.post("/api/v1/admin/queues/orchestration-queue/pause")).status_code == 200
    actions = [await decide(gateway, action) for action in await team.actions(run, gateway.user)]
    cancelled, deleted = (f"/api/v1/admin/jobs/{action['jobId']}" for action in actions)
    assert (await gateway.admin.post(f"{cancelled}/cancel", json={"reason": "stop"})).is_success
    assert (await gateway.admin.post(f"{deleted}/cancel", json={})).is_success
    assert (await gateway.admin.delete(deleted)).is_success

    found = await team.ended(run, gateway.user)

    assert [action["status"] for action in found] == ["failed", "failed"]
    assert found[0]["reason"].startswith("its job cancelled: stop")
    assert found[1]["reason"].startswith("its job ")


@WITHOUT_REDIS
async def test_what_waits_when_its_run_is_cancelled_is_no_failure(team: Acting) -> None:
    gateway = await team.start()
    run = await team.answered(ISSUE)
    queue = "/api/v1/admin/queues/orchestration-queue"
    assert (await gateway.admin.post(f"{queue}/pause")).status_code == 200
    (action,) = await team.actions(run, gateway.user)
    job = (await decide(gateway, action))["jobId"]
    assert (await gateway.user.post(f"{PATH}/jobs/{run.id}/cancel", json={})).is_success
    assert (await gateway.admin.post(f"{queue}/resume")).is_success

    async def over() -> bool:
        return str((await gateway.admin.get(f"/api/v1/admin/jobs/{job}")).json()["data"]["state"]) == "cancelled"

    await eventually(over, 20, "its job is not cancelled")
    assert team.hub.writes() == []


@WITHOUT_REDIS
async def test_nobody_decides_in_time(team: Acting) -> None:
    gateway = await team.start()
    run = await team.answered(ISSUE)
    (action,) = await team.actions(run, gateway.user)
    await team.pool.execute("UPDATE actions SET expires_at = now()")
    late = await gateway.user.post(f"{PATH}/approvals/{action['id']}/approve", json={})
    assert (late.status_code, late.json()["error"]["code"]) == (409, "approval_expired")

    (action,) = await team.ended(run, gateway.user, 30)

    assert (action["status"], action["reason"]) == ("expired", "nobody decided in time")
    late = await gateway.user.post(f"{PATH}/approvals/{action['id']}/reject", json={})
    assert (late.status_code, late.json()["error"]["code"]) == (409, "approval_expired")


@WITHOUT_REDIS
async def test_who_may_see_and_decide(team: Acting) -> None:
    gateway = await team.start()
    foreign = RunRow(*await _foreign(team))
    own = await team.answered(ISSUE)
    await team.answered(ISSUE, run=foreign)
    (theirs,) = await team.actions(foreign, gateway.admin)
    assert await team.actions(foreign, gateway.user) == []
    assert {one["runId"] for one in (await gateway.user.get(f"{PATH}/approvals")).json()["data"]} == {str(own.id)}
    for method, path in (("GET", ""), ("POST", "/approve"), ("POST", "/reject")):
        answer = await gateway.user.request(method, f"{PATH}/approvals/{theirs['id']}{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), answer.text
    assert (await gateway.user.get(f"{PATH}/approvals?projectId={foreign.project_id}")).status_code == 404

    await team.pool.execute("INSERT INTO project_members VALUES ($1, $2, 'member')", foreign.project_id, USER)
    assert [one["id"] for one in await team.actions(foreign, gateway.user)] == [theirs["id"]]
    for word in ("approve", "reject"):
        answer = await gateway.user.post(f"{PATH}/approvals/{theirs['id']}/{word}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_owner")

    answer = await gateway.admin.post(f"{PATH}/approvals/{theirs['id']}/reject")
    assert (answer.status_code, answer.json()["data"]["status"]) == (200, "rejected")
    for path in ("no-id", "0198c1d2-0000-7000-8000-000000000000"):
        assert (await gateway.admin.get(f"{PATH}/approvals/{path}")).status_code == 404
    for query in ("status=odd", "projectId=x", "limit=0", "limit=9999", "cursor=y", "colour=red"):
        assert (await gateway.user.get(f"{PATH}/approvals?{query}")).status_code == 400, query


async def _foreign(team: Acting) -> tuple[Any, ...]:
    run = await run_row(team.pool, await project_row(team.pool, owner="bob"))
    return run.id, run.project_id, run.step_id


@WITHOUT_REDIS
async def test_the_command_line_lists_and_decides(team: Acting, tmp_path: Path) -> None:
    running = await team.start()
    address = {"GATEWAY_URL": running.url, "GATEWAY_TOKEN": token("user")}

    async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(partial(gateway_command, "approvals", *arguments, cwd=tmp_path, **address))

    nothing = await run("list")
    assert (nothing.returncode, nothing.stderr.strip()) == (5, "nothing to approve")
    wanted = await team.answered(MAIL, ISSUE, comment(7))
    listed = json.loads((await run("list", "--json")).stdout)
    assert [one["action"] for one in listed] == ["comment_issue", "open_issue", "send_email"]
    lines = (await run("list", "--run", str(wanted.id))).stdout.splitlines()
    assert lines[0].split("\t") == ["id", "status", "agent", "action", "risk", "what", "asked", "expires"]
    assert [line.split("\t")[5] for line in lines[1:]] == [
        *("#7: Fixed by #8", "A slow test", "ada@example.com: Release 2"),
    ]
    said, issue, mail = (one["id"] for one in listed)

    shown = dict(line.split("\t", 1) for line in (await run("show", mail)).stdout.splitlines())
    assert (shown["status"], shown["  subject"]) == ("pending", "Release 2")
    rejected = json.loads((await run("reject", said, "--comment", "no", "--json")).stdout)
    assert (rejected["status"], rejected["comment"]) == ("rejected", "no")
    (tmp_path / "other.json").write_text(json.dumps({"title": "Another title", "body": "b"}))
    approved = await run("approve", issue, "--arguments", "other.json", "--comment", "go")
    assert approved.returncode == 0, approved.stderr
    assert (await run("approve", mail)).returncode == 0
    again = await run("approve", mail)
    assert (again.returncode, "it can be decided once" in again.stderr) == (1, True)
    assert (await run("show", "no-id")).returncode == 5

    await team.ended(wanted, running.user)
    assert team.repository.issues[-1]["title"] == "Another title"
    executed = json.loads((await run("list", "--status", "executed", "--json")).stdout)
    assert {one["id"] for one in executed} == {issue, mail}
