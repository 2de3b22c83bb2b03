"""One real gateway with jobs in every state, for a browser: mails that went, that were refused, that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from gateway.dev_servers import EmbeddedValkey
from tests.support.eventually import eventually
from tests.support.gateway import HoldingSmtp, gateways, running
from tests.support.gateway_process import GatewayProcess
from tests.support.people import data
from tests.support.smtp_server import Answer, Received

SLOTS: Final = 4
HOSTILE: Final = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
"""What an SMTP server says of a mail, and the group and a tag of its job."""
_REFUSED: Final = {
    "full.example": (550, "5.2.2 Mailbox is full"),
    "gone.example": (550, "5.1.1 The account does not exist"),
    "busy.example": (451, "4.7.1 Greylisted, try again in 5 minutes"),
    "hostile.example": (550, HOSTILE),
}


class Post(HoldingSmtp):
    """Refuses by the recipient's domain, and holds what goes to ``slow.example`` until it is told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.script.rule = _answer

    async def keep(self, message: Received) -> None:
        if any("@slow.example" in one for one in message.recipients):
            await super().keep(message)
        else:
            self.messages.append(message)


def _answer(phase: str, subject: str, _seen: int) -> Answer | None:
    return _REFUSED.get(subject.rpartition("@")[2]) if phase == "rcpt" else None


@dataclass
class World:
    """``jobs``: by what became of them."""

    process: GatewayProcess
    valkey: EmbeddedValkey
    post: Post
    jobs: dict[str, list[str]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.process.url}/admin/queues"

    async def send(self, kind: str, to: str, **fields: Any) -> str:
        """The id of its job."""
        body = {"from": "Shop <shop@shop.example>", "to": to, "subject": f"To {to}", "text": "Hello", **fields}
        found = data(await self.process.user.post("/api/v1/emails", json=body), 202)
        self.jobs.setdefault(kind, []).append(found["jobId"])
        return str(found["jobId"])

    async def admin(self, method: str, path: str, body: Any = None) -> httpx.Response:
        answer = await self.process.admin.request(method, f"/api/v1/admin{path}", json=body)
        assert answer.is_success, answer.text
        return answer

    async def counts(self) -> dict[str, int]:
        answer = await self.process.admin.get("/api/v1/admin/email/queue?failedLimit=0")
        found: dict[str, int] = data(answer)["stats"]
        return found


@asynccontextmanager
async def world(directory: Path, database_url: str, valkey: EmbeddedValkey, *, sent: int = 8) -> AsyncIterator[World]:
    """``sent``: how many mails have gone. Its Redis may be killed and started again."""
    settings = {
        "EMAIL_QUEUE_CONCURRENCY": str(SLOTS),
        "EMAIL_BACKOFF_MS": "20",
        "GATEWAY_PROFILES": "chat,deep-research",
        "OPENAI_API_KEY": "sk-never-asked",
        "SHUTDOWN_GRACE_S": "1",
    }
    async with (
        running(Post()) as post,
        gateways(directory, database_url, post, redis_url=valkey.url, **settings) as cluster,
    ):
        made = World(await cluster.start(), valkey, post)
        await _mails_that_ended(made, sent)
        await _mails_that_did_not(made)
        await _other_queues(made)
        yield made
        post.answers.set()


async def _mails_that_ended(made: World, sent: int) -> None:
    await asyncio.gather(
        *(
            made.send("completed", f"customer-{n}@example.com", tags=[{"name": "kind", "value": "receipt"}])
            for n in range(sent)
        ),
        *(made.send("failed", f"customer-{n}@full.example", group="acme") for n in range(4)),
        *(made.send("failed", f"customer-{n}@gone.example") for n in range(2)),
        made.send("retried", "ada@busy.example"),
        made.send("hostile", "eve@hostile.example", group=HOSTILE[:40], tags=[{"name": "kind", "value": "odd"}]),
    )

    async def ended() -> bool:
        counts = await made.counts()
        return counts["failed"] == 8 and counts["completed"] == sent

    await eventually(ended, 30, "mails have not ended")


async def _mails_that_did_not(made: World) -> None:
    for number in range(SLOTS):
        await made.send("active", f"customer-{number}@slow.example")

    async def busy() -> bool:
        return (await made.counts())["active"] == SLOTS

    await eventually(busy, 20, "mails are not under way")
    for number in range(3):
        await made.send("waiting", f"later-{number}@slow.example", priority=number)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for number in range(2):
        await made.send("delayed", f"customer-{number}@tomorrow.example", scheduledAt=tomorrow)
    cancelled = await made.send("cancelled", "bob@example.com", scheduledAt=tomorrow)
    await made.admin("POST", f"/jobs/{cancelled}/cancel", {"reason": "the order was withdrawn"})


async def _other_queues(made: World) -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await made.admin("POST", "/queues/deep-research/pause", {"until": until, "reason": "the model's quota is used up"})
    for number in range(2):
        question = {"message": f"Why is the sky blue? ({number})"}
        data(await made.process.user.post("/api/deep-research/start", json=question), 202)
    for name, when in (
        ("nightly-report", {"cron": "30 2 * * *", "timeZone": "Europe/Berlin"}),
        ("ping", {"everyS": 90}),
    ):
        args = {"queueId": "018f2f6e-7c1c-7000-8000-000000000000"}
        await made.admin("PUT", f"/schedules/{name}", {"task": "email.send", "args": args, **when})
    await made.admin("POST", "/schedules/ping/pause", {"reason": "holidays"})
