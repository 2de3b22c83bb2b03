"""One real gateway with jobs in every state, for a browser: mails that went, were refused, wait; runs of agents."""

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
from gateway.llm.example import example_of
from gateway.services.orchestration.agents import BUILT_IN
from tests.support.eventually import eventually
from tests.support.gateway import Cluster, HoldingSmtp, gateways, running
from tests.support.gateway_process import GatewayProcess
from tests.support.openai_server import Answer as Completion
from tests.support.openai_server import Call, OpenAIServer, openai_server
from tests.support.people import data
from tests.support.run_rows import asks
from tests.support.smtp_server import Answer, Received

SLOTS: Final = 4
HOSTILE: Final = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
"""What an SMTP server says of a mail, and the group and a tag of its job."""
AGENTS: Final = ("developer", "general", "marketer", "researcher")
_NAMES: Final = ("ada", "grace", "alan", "barbara", "edsger", "radia", "donald", "margaret", "linus", "frances")
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

    cluster: Cluster
    process: GatewayProcess
    valkey: EmbeddedValkey
    post: Post
    jobs: dict[str, list[str]] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.process.url}/admin/queues"

    async def send(self, kind: str, to: str, **fields: Any) -> str:
        """The id of its job."""
        body = {"from": "Shop <shop@shop.example>", "to": to, "subject": f"To {to}", "text": "Hello", **fields}
        found = data(await self.process.user.post("/api/v1/emails", json=body), 202)
        self.jobs.setdefault(kind, []).append(found["jobId"])
        return str(found["jobId"])

    async def run(self) -> str:
        """The id of a run that waits for an approval."""
        user = self.process.user
        project = data(await user.post("/api/v1/projects", json={"name": "Shop", "monthlyBudgetCents": 500}), 201)["id"]
        data(await user.put(f"/api/v1/projects/{project}/agents", json={"enabled": list(AGENTS)}))
        body = {"projectId": project, "jobType": "batch"}
        run: str = data(await user.post("/api/v1/orchestration/jobs", json=body), 202)["jobId"]

        async def waits() -> bool:
            found = data(await user.get(f"/api/v1/orchestration/jobs/{run}"))
            assert found["status"] == "awaiting_approval", found["status"]
            return True

        await eventually(waits, 60, "the run does not ask")
        self.runs.append(run)
        return run

    async def code(self, role: str) -> str:
        """One that signs in once."""
        made = data(await self.process.admin.post("/api/v1/admin/logins", json={"role": role}), 201)
        return str(made["code"])

    async def admin(self, method: str, path: str, body: Any = None) -> httpx.Response:
        answer = await self.process.admin.request(method, f"/api/v1/admin{path}", json=body)
        assert answer.is_success, answer.text
        return answer

    async def counts(self) -> dict[str, int]:
        answer = await self.process.admin.get("/api/v1/admin/email/queue?failedLimit=0")
        found: dict[str, int] = data(answer)["stats"]
        return found


@asynccontextmanager
async def world(
    directory: Path,
    database_url: str,
    valkey: EmbeddedValkey,
    *,
    sent: int = 8,
    thinking_s: float = 0.0,
    hostile: bool = True,
) -> AsyncIterator[World]:
    """``sent``: how many mails have gone; ``thinking_s``: how long a model takes, about; ``hostile``: a server answers
    with markup. Its Redis may be killed and started again."""
    settings = {
        "EMAIL_QUEUE_CONCURRENCY": str(SLOTS),
        "EMAIL_BACKOFF_MS": "20",
        "EMAIL_TIMEOUT_MS": "600000",  # what is held is held for the whole session
        "SMTP_TIMEOUT_S": "600",
        "GATEWAY_PROFILES": "chat,deep-research",
        "OPENAI_API_KEY": "sk-of-the-tests",
        "EMAIL_RATE_MAX": "600",
        "EMAIL_RATE_DURATION_MS": "60000",
        "SHUTDOWN_GRACE_S": "1",
    }
    async with (
        running(Post()) as post,
        openai_server() as provider,
        gateways(
            *(directory, database_url, post),
            **settings,
            redis_url=valkey.url,
            OPENAI_BASE_URL=provider.url,
        ) as cluster,
    ):
        _model(provider, thinking_s)
        made = World(cluster, await cluster.start(), valkey, post)
        await _mails_that_ended(made, sent, hostile)
        await _mails_that_did_not(made)
        await _other_queues(made)
        await made.run()
        yield made
        post.answers.set()


async def _mails_that_ended(made: World, sent: int, hostile: bool) -> None:
    if hostile:
        await made.send("hostile", "eve@hostile.example", group=HOSTILE[:40], tags=[{"name": "kind", "value": "odd"}])
    await asyncio.gather(
        *(
            made.send("completed", f"{_name(n)}@example.com", tags=[{"name": "kind", "value": "receipt"}])
            for n in range(sent)
        ),
        *(made.send("failed", f"{_name(n)}@full.example", group="acme") for n in range(4)),
        *(made.send("failed", f"{_name(n)}@gone.example") for n in range(2)),
        made.send("retried", "ada@busy.example"),
    )

    async def ended() -> bool:
        counts = await made.counts()
        return counts["failed"] == 7 + hostile and counts["completed"] == sent

    await eventually(ended, 60, "mails have not ended")


async def _mails_that_did_not(made: World) -> None:
    for number in range(SLOTS):
        await made.send("active", f"{_name(number)}@slow.example")

    async def busy() -> bool:
        return (await made.counts())["active"] == SLOTS

    await eventually(busy, 40, "mails are not under way")
    for number in range(3):
        await made.send("waiting", f"{_name(9 - number)}@slow.example", priority=number)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for number in range(2):
        await made.send("delayed", f"{_name(number)}@tomorrow.example", scheduledAt=tomorrow)
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


def _model(provider: OpenAIServer, thinking_s: float) -> None:
    asked: list[str] = []
    marketer = (BUILT_IN / "marketer.md").read_text("utf-8").split("+++")[2].strip()[:60]

    def answer(call: Call) -> Completion:
        asked.append(call.model)
        mail = asks("send_email", "a draft is ready", to=["team@shop.example"], subject="Plan for May", text="Hello")
        said = example_of(call.schema) | {"actions": [mail] if marketer in call.messages[0]["content"] else []}
        wait_s = thinking_s * (0.6 + 0.3 * (len(asked) % 3))
        return Completion(said, wait_s=wait_s, input_tokens=2400 + 310 * len(asked), output_tokens=420)

    provider.always(answer)


def _name(number: int) -> str:
    return _NAMES[number] if number < len(_NAMES) else f"{_NAMES[number % len(_NAMES)]}-{number // len(_NAMES)}"
