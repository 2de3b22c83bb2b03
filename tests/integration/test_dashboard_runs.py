"""Runs on pages: what happened, what it cost, what may be done, and that what models wrote stays text and bounded.

One gateway for the module, with the labelled demonstration instead of models; the tests' rows stand beside each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from gateway.access import Role
from gateway.infra.uuid7 import uuid7
from gateway.masking import CONTENT_MASK
from gateway.services.orchestration.budgets import Budgets, BudgetWatch
from tests.support.eventually import eventually
from tests.support.pages import PAGES, Dashboard, Document
from tests.support.run_rows import project_row
from tests.support.web import serving, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

_NOW = datetime.now(UTC) - timedelta(minutes=1)
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)> \u202egpj.exe \x07"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(shared_database_url: str) -> AsyncIterator[Dashboard]:
    settings = settings_for(shared_database_url, orchestration_rate_max=100_000)
    async with serving(settings, demo=True) as (http, runtime):
        yield Dashboard(http, runtime)


@pytest.fixture
def board(gateway: Dashboard) -> Dashboard:
    gateway.sign_in()
    return gateway


class Rows:
    """A run as the runner leaves it, with steps that a test says."""

    def __init__(self, board: Dashboard) -> None:
        self.pool = board.pool

    async def run(self, project: UUID | None = None, **fields: Any) -> UUID:
        values = {
            "id": uuid7(),
            "project_id": project or await project_row(self.pool),
            "job_type": "batch",
            "triggered_by": "manual",
            "status": "completed",
        } | fields
        return await self._insert("runs", values)

    async def step(self, run: UUID, position: int = 0, **fields: Any) -> UUID:
        values = {
            "id": uuid7(),
            "run_id": run,
            "position": position,
            "kind": "agent",
            "agent_slug": "critic",
            "status": "completed",
        } | fields
        return await self._insert("run_steps", values)

    async def _insert(self, table: str, values: dict[str, Any]) -> UUID:
        places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
        await self.pool.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", *values.values())
        made: UUID = values["id"]
        return made


@pytest.fixture
def rows(board: Dashboard) -> Rows:
    return Rows(board)


def _after(seconds: float) -> datetime:
    return _NOW + timedelta(seconds=seconds)


def runs_on(page: Document) -> set[str]:
    return {link.rpartition("/")[2] for link in page.links() if link.startswith(f"{PAGES}/runs/")}


async def demonstrated(board: Dashboard, **body: Any) -> str:
    """A run that has ended; nobody was asked."""
    project = await project_row(board.pool, repository=None)
    answer = await board.http.post(
        "/api/v1/orchestration/jobs",
        json={"projectId": str(project), "jobType": "single_agent", "agentSlug": "code-review", **body},
        headers={"Authorization": "Bearer dev"},
    )
    assert answer.status_code == 202, answer.text
    run: str = answer.json()["data"]["jobId"]

    async def ended() -> bool:
        status = await board.pool.fetchval("SELECT status FROM runs WHERE id = $1::uuid", run)
        assert status in ("completed", "awaiting_approval"), status
        return True

    await eventually(ended, 30, "the demonstration has not ended")
    return run


async def test_a_demonstrated_run_is_shown_as_one(board: Dashboard) -> None:
    run = await demonstrated(board, context={"request": "look at pull request 12"})
    page = await board.page(f"/runs/{run}")
    page.sound()
    for words in ("Demonstration.", "code-review", "look at pull request 12", "Shop", "1 of 1 steps"):
        assert words in page.text
    assert "$0.00" not in page.text
    assert f"{PAGES}/queue/orchestration-queue/{run}" in page.links()
    assert "code-review for Shop orchestration.run" in (await board.page("/queue/orchestration-queue")).text

    async def reported() -> Document:  # half a second after the run's end
        job = await board.page(f"/queue/orchestration-queue/{run}")
        assert "1 of 1 steps" in job.text
        assert [(bar["max"], bar["value"]) for bar in job.all("progress")] == [("1", "1")]
        return job

    job = await eventually(reported)
    assert f"{PAGES}/runs/{run}" in job.links()
    job.sound()
    listed = await board.page("/runs")
    listed.sound()
    assert run in runs_on(listed)
    raw = await board.http.get(f"{PAGES}/runs/{run}/steps/0")
    assert raw.json()
    assert "attachment" in raw.headers["content-disposition"]


async def test_filters_live_in_the_address(board: Dashboard, rows: Rows) -> None:
    project = await project_row(board.pool)
    failed = await rows.run(project, status="failed", error="boom")
    single = await rows.run(project, job_type="single_agent", agent_slug="lonely")
    stepped = await rows.run(project)
    await rows.step(stepped, agent_slug="lonely")
    for query, expected in {
        "": {failed, single, stepped},
        "status=failed": {failed},
        "type=single_agent": {single},
        "agent=lonely": {single, stepped},
        "agent=lonely&type=batch": {stepped},
        "status=cancelled": set(),
    }.items():
        page = await board.page(f"/runs?project={project}&{query}")
        page.sound()
        assert runs_on(page) == {str(one) for one in expected}, query
    assert {str(single), str(stepped)} <= runs_on(await board.page("/runs?agent=lonely"))


@pytest.mark.parametrize("query", ["status=lost", "project=42", "type=x", "cursor=x", "agent=%00", "from=1"])
async def test_an_address_that_means_nothing_is_refused(board: Dashboard, query: str) -> None:
    page = await board.page(f"/runs?{query}", 400)
    assert query.partition("=")[0] in page.text


@pytest.mark.parametrize("path", ["42", str(UUID(int=7)), f"{UUID(int=7)}/steps/0", f"{UUID(int=7)}/steps/x"])
async def test_a_run_that_is_not_there_is_a_page_too(board: Dashboard, path: str) -> None:
    (await board.page(f"/runs/{path}", 404)).sound()


async def test_lists_go_on_with_a_cursor_and_keep_their_filter(board: Dashboard, rows: Rows) -> None:
    project = await project_row(board.pool)
    made = [await rows.run(project, status="failed") for _ in range(51)]
    first = await board.page(f"/runs?project={project}&status=failed")
    older = next(link for link in first.links() if "cursor=" in link)
    assert f"project={project}" in older
    assert "status=failed" in older
    assert runs_on(await board.page(older.removeprefix(PAGES))) == {str(made[0])}


async def test_a_run_with_failed_agents_is_never_simply_completed(board: Dashboard, rows: Rows) -> None:
    run = await rows.run(error="1 of 2 steps failed: critic: boom")
    await rows.step(run, 0, agent_slug="fine")
    await rows.step(run, 1, status="failed", error="boom", error_kind="timeout")
    page = await board.page(f"/runs/{run}")
    assert "Completed with errors" in page.text
    assert "1 failed" in page.text
    assert "boom" in page.text
    assert f"{PAGES}/runs/{run}/retry" in page.actions()
    listed = await board.page("/runs?status=completed")
    assert "Completed with errors 1 of 2 failed" in listed.text


@pytest.mark.parametrize(
    ("model", "micros", "words"),
    [
        ("own-model", 0, "cost unknown"),
        (None, 0, "cost unknown"),
        ("gpt-5-mini", 0, "cost unknown"),
        ("gpt-5-mini", 41_000, "$0.041"),
        ("gpt-5-mini", 3, "$0.000003"),
        ("free-model-2026-01-01", 0, "free"),
    ],
)
async def test_cost_is_told_exactly_or_said_to_be_unknown(
    board: Dashboard, rows: Rows, model: str | None, micros: int, words: str
) -> None:
    await board.pool.execute(
        "INSERT INTO model_prices (model, provider, input_micros, output_micros, valid_from) "
        "VALUES ('free-model', 'openai', 0, 0, '2026-01-01') ON CONFLICT DO NOTHING"
    )
    spent = {"input_tokens": 18_204, "output_tokens": 2_113, "cost_micros": micros}
    project = await project_row(board.pool)
    run = await rows.run(project, **spent)
    await rows.step(run, model=model, started_at=_NOW, calls=2, **spent)
    for path in (f"/runs/{run}", f"/runs?project={project}", f"/usage?project={project}"):
        page = await board.page(path)
        page.sound()
        assert words in page.text, path
        assert "18,204" in page.text
        assert "$0.00 " not in page.text


async def test_what_is_spent_of_a_budget_is_a_meter(board: Dashboard, rows: Rows) -> None:
    run = await rows.run(budget_micros=500_000, cost_micros=41_000, input_tokens=1)
    await board.pool.execute(
        "UPDATE projects SET monthly_budget_micros = 2000000 WHERE id = (SELECT project_id FROM runs WHERE id = $1)",
        run,
    )
    page = await board.page(f"/runs/{run}")
    page.sound()
    assert "$0.041 of $0.50 (8 %)" in page.text
    assert "of $2.00" in page.text
    meter = page.all("meter")[0]
    assert (meter["value"], meter["max"]) == ("41000", "500000")


async def test_budgets_stand_on_the_page_of_usage_the_most_spent_first(board: Dashboard, rows: Rows) -> None:
    shares = {"Calm": 100, "Near": 850, "Gone": 1000, "None": None}
    for name, cents in shares.items():
        project = await project_row(board.pool)
        run = await rows.run(project)
        await rows.step(run, started_at=datetime.now(UTC), cost_micros=(cents or 5) * 10_000)
        budget = None if cents is None else 10_000_000
        change = "UPDATE projects SET name = $2, monthly_budget_micros = $3 WHERE id = $1"
        await board.pool.execute(change, project, f"{name} <b>shop</b>", budget)
    await BudgetWatch(Budgets(board.pool)).tell()
    page = await board.page("/usage")
    page.sound()
    listed = page.text[page.text.index("Budgets of this month") : page.text.index("By day, project and model")]
    places = [
        listed.index(words) for words in ("Gone", "$10.00 of $10.00 (100 %)", "Near", "$8.50 of $10.00 (85 %)", "Calm")
    ]
    assert places == sorted(places)
    assert "None <b>" not in listed
    data = (await board.http.get(f"{PAGES}/usage", headers={"accept": "application/json"})).json()["data"]
    told = {row["project"].split()[0]: row["toldAt"] is not None for row in data["budgets"]}
    assert told.items() >= {"Gone": True, "Near": True, "Calm": False}.items()
    assert "Budgets of this month" not in (await board.page(f"/usage?project={project}")).text


async def test_steps_stand_beside_each_other_in_time(board: Dashboard, rows: Rows) -> None:
    run = await rows.run(started_at=_NOW, finished_at=_after(10))
    await rows.step(run, 0, started_at=_NOW, finished_at=_after(2.5), attempts=2)
    await rows.step(run, 1, started_at=_after(2.5), finished_at=_after(10))
    await rows.step(run, 2, taken_from=uuid7())
    page = await board.page(f"/runs/{run}")
    page.sound()
    drawn = [(bar["x"], bar["width"]) for bar in page.all("rect") if bar.get("class") == "part"]
    assert drawn == [("0.0%", "25.0%"), ("25.0%", "75.0%")]
    assert [svg.get("aria-label") for svg in page.all("svg") if svg.get("role") == "img"] == [
        "from 0 ms, for 2.5 s",
        "from 2.5 s, for 7.5 s",
    ]
    assert "taken over from an earlier run" in page.text


async def test_what_models_wrote_is_text(board: Dashboard, rows: Rows) -> None:
    project = await project_row(board.pool)
    await board.pool.execute("UPDATE projects SET name = $2 WHERE id = $1", project, HOSTILE.replace("\x07", ""))
    run = await rows.run(project, error=HOSTILE, context={"request": HOSTILE}, user_id="<b>ann</b>", dedupe_key="<i>")
    await rows.step(run, 0, output={"summary": HOSTILE}, model="<u>m</u>", error=HOSTILE)
    await rows.step(run, 1, status="refused", refusal=HOSTILE, partial_text=HOSTILE, agent_slug="<s>")
    for path in (f"/runs/{run}", f"/runs?project={project}", "/usage", f"/runs?agent={'%3Cs%3E'}"):
        page = await board.page(path)
        page.sound()
        assert not {"img", "b", "i", "u", "s"} & {name for name, _ in page.elements if name != "img"}, path
        assert not [image for image in page.all("img") if image.get("src") == "x"]
        assert "\u202e" not in page.text
        assert "\x07" not in page.text


async def test_much_output_is_cut_and_whole_elsewhere(board: Dashboard, rows: Rows) -> None:
    deep: Any = "end"
    for _ in range(500):
        deep = [deep]
    run = await rows.run()
    await rows.step(run, 0, output={"summary": "x" * 5_000_000})
    await rows.step(run, 1, output={"deep": deep})
    await rows.step(run, 2, status="failed", partial_text="y" * 200_000)
    answer = await board.http.get(f"{PAGES}/runs/{run}")
    assert answer.status_code == 200
    assert len(answer.text) < 60_000
    assert "5,000,015 characters" in Document.of(answer.text).text
    whole = await board.http.get(f"{PAGES}/runs/{run}/steps/0")
    assert whole.json() == {"summary": "x" * 5_000_000}
    assert whole.headers["content-security-policy"].startswith("sandbox")
    words = await board.http.get(f"{PAGES}/runs/{run}/steps/2")
    assert (words.headers["content-type"], len(words.text)) == ("text/plain; charset=utf-8", 200_000)


async def test_secrets_of_what_agents_were_told_are_masked(board: Dashboard, rows: Rows) -> None:
    run = await rows.run(status="running", context={"request": "all words", "apiKey": "hunter2"})
    for kind in ("text/html", "application/json"):
        answer = await board.http.get(f"{PAGES}/runs/{run}", headers={"Accept": kind})
        assert ("all words" in answer.text, "hunter2" in answer.text) == (True, False), kind


async def test_viewers_see_figures_and_no_words(board: Dashboard, rows: Rows) -> None:
    run = await rows.run(status="running", context={"request": "hidden words"}, input_tokens=321)
    await rows.step(run, 0, output={"summary": "hidden words"})
    await rows.step(run, 1, status="refused", refusal="hidden words", partial_text="hidden words")
    board.sign_in(Role.VIEWER)
    page = await board.page(f"/runs/{run}")
    page.sound()
    assert "321" in page.text
    assert "hidden words" not in page.text
    assert page.actions() == []
    answer = await board.http.get(f"{PAGES}/runs/{run}", headers={"Accept": "application/json"})
    assert answer.json()["data"]["context"] == CONTENT_MASK
    assert "hidden words" not in answer.text
    assert (await board.http.get(f"{PAGES}/runs/{run}/steps/0")).status_code == 403
    assert (await board.http.get(f"{PAGES}/events?topics=run:{run}")).status_code == 403
    assert (await board.http.get(f"{PAGES}/events?topics=job:{run}")).status_code == 403
    for change in ("cancel", "retry"):
        assert (await board.press(f"/runs/{run}/{change}")).status_code == 403
