"""``make autoscale-demo``: watch real processes being scaled, ten times as fast as a cluster would."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import structlog

from gateway.autoscale.controller import Pass
from gateway.autoscale.signal import Signal
from gateway.dev_servers import EmbeddedPostgres
from gateway.infra.migrate import migrate
from tests.acceptance.test_autoscale import FASTER, MAXIMUM, MINIMUM, Trial, trial
from tests.support.eventually import eventually
from tests.support.gateway import running
from tests.support.smtp_server import ScriptedSmtp

BURST = 600
QUIET = {"LOG_LEVEL": "error"}  # thousands of lines of the replicas would hide these few


class Story:
    """Prints a line for each pass."""

    def __init__(self, made: Trial, smtp: ScriptedSmtp) -> None:
        self._made = made
        self._smtp = smtp
        self._told = len(made.passes)
        self.sent = 0

    async def until(self, title: str, done: object, timeout: float = 180) -> None:
        print(f"\n{title}")
        task = asyncio.create_task(eventually(done, timeout, title))  # type: ignore[arg-type]
        while not task.done():
            await asyncio.wait([task], timeout=0.1)
            for seen in self._made.passes[self._told :]:
                self._line(seen)
            self._told = len(self._made.passes)
        await task

    def _line(self, seen: Pass) -> None:
        left = self.sent - len(self._smtp.messages)
        bar = "#" * seen.after + "+" * len(self._made.fleet.draining)
        wishes = " ".join("?" if wish is None else str(wish) for wish in seen.wishes)
        clock = (seen.at - self._made.passes[0].at) * FASTER
        print(f"  {clock:6.0f} s  open mails {left:5}  wished {wishes:6}  replicas {seen.after} {bar}")


async def main() -> None:
    structlog.configure(processors=[_drop])
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedPostgres(Path(directory))
        server.start()
        try:
            await migrate(server.dsn)
            await _acts(server.dsn)
        finally:
            server.stop()


def _drop(logger: object, name: str, event: object) -> dict[str, object]:
    raise structlog.DropEvent


async def _acts(dsn: str) -> None:
    print(
        f"{MINIMUM} to {MAXIMUM} replicas, seconds as a cluster would count them; + is a replica that finishes its jobs"
    )
    async with running(ScriptedSmtp()) as smtp, trial(dsn, smtp, Signal.WAITING, **QUIET) as made:
        story, url = Story(made, smtp), made.fleet.urls[0]
        (await made.client.post(f"{url}/api/v1/admin/queues/email-queue/pause")).raise_for_status()
        await made.submit(60)
        story.sent = 60
        goal = len(made.passes) + 8
        await story.until("60 mails that do not get fewer: nothing happens", lambda: len(made.passes) >= goal)
        smtp.script.delay_s = 0.5
        (await made.client.post(f"{url}/api/v1/admin/queues/email-queue/resume")).raise_for_status()
        await made.submit(BURST)
        story.sent += BURST
        await story.until(f"{BURST} mails of half a second: out", lambda: len(smtp.messages) >= story.sent)
        smtp.script.delay_s = 0
        await story.until("and back", lambda: made.fleet.size == MINIMUM and not made.fleet.draining)
    limit = QUIET | {"EMAIL_RATE_MAX": "10", "EMAIL_RATE_DURATION_MS": "1000"}
    async with running(ScriptedSmtp()) as smtp, trial(dsn, smtp, Signal.WAITING, **limit) as made:
        story = Story(made, smtp)
        await made.submit(10)
        await made.submit(1000)
        story.sent = 1010
        goal = len(made.passes) + 10
        await story.until("1000 mails, ten a second allowed: nothing happens", lambda: len(made.passes) >= goal)


if __name__ == "__main__":
    asyncio.run(main())
