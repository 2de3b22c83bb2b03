"""Who may do what to whose mails: each kind of caller against each verb."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.eventually import eventually
from tests.support.mail_app import MailApp, from_now, mail_app

# Verb, path after the mail's id, body, what the mail is first, and the answer to those who may.
VERBS: dict[str, tuple[str, str, Any, str, int]] = {
    "show": ("GET", "", None, "scheduled", 200),
    "events": ("GET", "/events", None, "scheduled", 200),
    "reschedule": ("PATCH", "", {"scheduledAt": from_now(days=2)}, "scheduled", 200),
    "cancel": ("POST", "/cancel", None, "scheduled", 200),
    "resend": ("POST", "/resend", {"to": "elsewhere@example.com"}, "delivered", 202),
}
READS = {"show", "events"}
# Of ann's mails. "watcher" is an API key with emails:send and admin:read.
MAY = {
    "ann": set(VERBS),
    "bob": set(),
    "viewer": READS,
    "watcher": set(),  # without emails:read it may read no mail at all
    "operator": set(VERBS),
    "admin": set(VERBS),
}


@pytest.fixture
async def app(pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path) -> AsyncIterator[MailApp]:
    async with mail_app(pool, tmp_path) as running:
        yield running


async def mail_of_ann(app: MailApp, status: str) -> str:
    if status == "scheduled":
        return await app.send(scheduledAt=from_now(days=1))
    mail_id = await app.send(test=status)
    await app.replica.work()
    await eventually(lambda: app.has_status(mail_id, status))
    return mail_id


@pytest.mark.parametrize("verb", list(VERBS))
@pytest.mark.parametrize("caller", list(MAY))
async def test_seeing_a_mail_is_not_changing_it(app: MailApp, caller: str, verb: str) -> None:
    method, path, body, first, success = VERBS[verb]
    mail_id = await mail_of_ann(app, first)
    answer = await app.call(method, f"/emails/{mail_id}{path}", body, user=caller)
    if verb in MAY[caller]:
        assert answer.status_code == success, answer.text
        return
    without_scope = caller == "watcher" and verb in READS
    assert answer.status_code == (403 if without_scope else 404), answer.text
    assert (await app.show(mail_id, "admin"))["status"] == first
    assert await app.pool.fetchval("SELECT count(*) FROM emails") == 1


async def test_own_mails_are_changed_by_everybody_who_may_send(app: MailApp) -> None:
    for caller in ("viewer", "watcher"):
        mail_id = await app.send(caller, scheduledAt=from_now(days=1))
        assert (await app.call("POST", f"/emails/{mail_id}/cancel", user=caller)).status_code == 200


async def test_a_mail_that_has_ended_cannot_be_cancelled_and_says_so(app: MailApp) -> None:
    mail_id = await mail_of_ann(app, "failed")
    answer = await app.call("POST", f"/emails/{mail_id}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "already_finished")
