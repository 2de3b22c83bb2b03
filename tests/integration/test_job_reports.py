"""What jobs report of themselves, where people read it: the page of a job and the JSON API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.access import Role
from gateway.jobs.registry import Task, TaskContext
from gateway.realtime.channel import Channel, Topic
from tests.support.eventually import eventually
from tests.support.pages import PAGES, Dashboard, Document, dashboard, token_for
from tests.support.realtime import Ear

QUEUE = "/queue/email-queue"


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Dashboard]:
    """Its workers work."""
    async with dashboard(database_url, gateway_role="all") as made:
        made.sign_in()
        yield made


async def test_progress_and_log_are_on_the_page_and_in_the_api(board: Dashboard) -> None:
    async def perform(_args: dict[str, Any], context: TaskContext) -> None:
        await context.progress(40, "sends <b>2</b> of 5")
        context.log("token=abc <img src=x onerror=alert(1)> at https://u:hunter2@host/")
        raise RuntimeError("no luck")

    board.runtime.engine.registry.add_task(Task("test.report", "email-queue", dict, perform))
    job = await board.submit({"n": 1}, task="test.report", max_attempts=1)

    async def told() -> Document:
        page = await board.page(f"{QUEUE}/{job}")
        assert "40 %" in page.text
        assert "•••@host" in page.text
        return page

    page = await eventually(told)
    page.sound()
    assert [(bar["max"], bar["value"]) for bar in page.all("progress")] == [("100", "40")]
    for words in ("sends <b>2</b> of 5", "<img src=x onerror=alert(1)> at https://u:•••@host/"):
        assert words in page.text
    assert "hunter2" not in page.text
    caller = {"Authorization": f"Bearer {token_for(board.settings, Role.VIEWER)}"}
    board.http.cookies.clear()
    answer = (await board.http.get(f"/api/v1/admin/jobs/{job}", headers=caller)).json()["data"]
    assert {name: answer["progress"][name] for name in ("stage", "percent", "attempt")} == {
        "stage": "sends <b>2</b> of 5",
        "percent": 40,
        "attempt": 1,
    }
    assert [(line["attempt"], "hunter2" in line["text"]) for line in answer["logs"]] == [(1, False)]
    assert answer["logsDropped"] == 0


async def test_who_listens_hears_that_there_is_something_new(board: Dashboard) -> None:
    """On the queue's channel for open pages, and with its numbers on the job's, where no feature tells them itself."""
    go_on = asyncio.Event()

    async def perform(_args: dict[str, Any], context: TaskContext) -> None:
        await go_on.wait()
        await context.progress(40, "half")

    board.runtime.engine.registry.add_task(Task("test.told", "email-queue", dict, perform))
    job = await board.submit(task="test.told")
    ear = Ear()
    for channel in (Channel(Topic.QUEUE, "email-queue"), Channel(Topic.JOB, job)):
        await ear.join(board.runtime.realtime, channel)
    go_on.set()
    await eventually(lambda: [one for one in ear.told if one["type"] == "queue:jobs" and one["reported"]])
    (progress,) = await eventually(lambda: [one for one in ear.told if one["type"] == "job:progress"])
    assert (progress["jobId"], progress["progress"]) == (job, {"stage": "half", "percent": 40})


async def test_a_job_that_reported_nothing_says_so(board: Dashboard) -> None:
    board.runtime.engine.registry.add_task(Task("test.silent", "email-queue", dict, _silent))
    job = await board.submit(task="test.silent")
    page = await board.page(f"{QUEUE}/{job}")
    page.sound()
    assert not page.all("progress")
    answer = await board.http.get(f"{PAGES}{QUEUE}/{job}", headers={"Accept": "application/json"})
    told = answer.json()["data"]["job"]
    assert (told["progress"], told["logs"], told["logsDropped"]) == (None, [], 0)


async def _silent(_args: dict[str, Any], _context: TaskContext) -> None:
    """Says nothing."""
