"""``python -m docs.run_picture``: record a batch run and draw it, ``pictures/batch-run-light.svg`` and ``-dark.svg``.

A real process with a real PostgreSQL runs all seven agents against the model server of the tests; one call fails, and a
click comes in between. What is drawn are the rows' own times.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from gateway.dev_servers import EmbeddedPostgres
from gateway.infra.migrate import migrate
from gateway.llm.example import example_of
from gateway.services.orchestration.agents import BUILT_IN
from tests.support.openai_server import Answer, Call, Failure, broken, openai_server
from tests.support.runs import run_app

PICTURES = Path(__file__).resolve().parent / "pictures"
AGENTS = ("code-review", "designer", "developer", "general", "marketer", "researcher", "seo_writer")
FAILS = "designer"  # once
WIDTH, ROW, LEFT, TOP, RIGHT = 1080, 30, 120, 64, 330
THEMES = {
    "light": {
        "text": "#1f2328",
        "faint": "#656d76",
        "line": "#d0d7de",
        "ok": "#2da44e",
        "bad": "#cf222e",
        "click": "#0969da",
    },
    "dark": {
        "text": "#e6edf3",
        "faint": "#8d96a0",
        "line": "#30363d",
        "ok": "#3fb950",
        "bad": "#f85149",
        "click": "#4493f8",
    },
}
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


@dataclass(frozen=True)
class Bar:
    """A stretch of time in a row, in seconds from the start of the run. ``kind`` is a colour of the theme."""

    row: str
    begin: float
    end: float
    kind: str
    note: str = ""


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # the server's user enters it
        server = EmbeddedPostgres(Path(directory) / "postgres", durable=False)
        server.start()
        try:
            bars, title = asyncio.run(recorded(server.dsn))
        finally:
            server.stop()
    for theme, colours in THEMES.items():
        (PICTURES / f"batch-run-{theme}.svg").write_text(drawn(bars, title, colours), "utf-8")
    return 0


async def recorded(url: str) -> tuple[list[Bar], str]:
    prompt = (BUILT_IN / f"{FAILS}.md").read_text("utf-8").split("+++")[2].strip()[:60]
    failed: list[Any] = []
    chance = random.Random(7)  # noqa: S311  pictures, not secrets

    def answer(call: Call) -> Answer | Failure:
        if prompt in call.messages[0]["content"] and not failed:
            failed.append(call)
            return broken(500)
        said = example_of(call.schema) | {"actions": []}
        tokens = {"input_tokens": chance.randint(2500, 6000), "output_tokens": chance.randint(300, 1200)}
        return Answer(said, wait_s=chance.uniform(0.3, 0.9), **tokens)

    await migrate(url)
    async with openai_server() as provider:
        provider.always(answer)
        settings = {"orchestration_backoff_ms": 600, "orchestration_queue_concurrency": 1}
        async with run_app(url, provider, **settings) as app:
            project = await app.project(agents=AGENTS)
            run = await app.start(project)
            await provider.called(3)
            click = await app.start(project, "single_agent", agentSlug="general", priority=10)
            ended = await app.ended(run, 60)
            clicked = await app.ended(click)
            return bars_of(ended, clicked, await app.job(run)), title_of(ended)


def bars_of(run: dict[str, Any], click: dict[str, Any], job: dict[str, Any]) -> list[Bar]:
    zero = _time(run["createdAt"])

    def at(text: str) -> float:
        return (_time(text) - zero).total_seconds()

    bars = [Bar("queued", 0, at(run["startedAt"]), "faint")]
    for step in run["steps"]:
        usage = step["usage"]
        note = f"{usage['inputTokens']}+{usage['outputTokens']} tokens  {usage['costCents']:.3f} ct"
        if step["attempts"] > 1:
            note += f"  attempt {step['attempts']}"
        bars.append(Bar(step["agentSlug"], at(step["startedAt"]), at(step["finishedAt"]), "ok", note))
    asked, began, over = (at(click[name]) for name in ("createdAt", "startedAt", "finishedAt"))
    bars += [Bar("a click", asked, began, "faint"), Bar("a click", began, over, "click", "priority 10: general")]
    for error in job["errors"]:
        failed = error["kind"] == "error"
        moment = at(error["at"])
        word = "a step failed: 600 ms back-off, then that step alone" if failed else "made way for the click, uncounted"
        bars.append(Bar("the batch", moment, moment + 0.05, "bad" if failed else "click", word))
    return bars


def title_of(run: dict[str, Any]) -> str:
    result, usage = run["result"], run["usage"]
    return (
        f"batch run: {result['agentsSucceeded']} of {result['agentsExecuted']} agents, "
        f"{result['suggestionsCreated']} suggestions, {result['tasksCreated']} tasks, "
        f"{usage['inputTokens']}+{usage['outputTokens']} tokens, {usage['costCents']:.2f} US cents, "
        f"{result['durationMs'] / 1000:.1f} s"
    )


def drawn(bars: list[Bar], title: str, colours: dict[str, str]) -> str:
    rows = list(dict.fromkeys(bar.row for bar in bars))
    longest = max(bar.end for bar in bars)
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = TOP + ROW * len(rows) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="{FONT}" font-size="12">',
        _text(12, 24, title, colours["text"]),
    ]
    for second in range(int(longest) + 1):
        x = LEFT + second * scale
        parts.append(f'<path d="M{x:.1f} {TOP - 14}V{height - 14}" stroke="{colours["line"]}"/>')
        parts.append(_text(x, TOP - 20, f"{second} s", colours["faint"], "middle"))
    for bar in bars:
        y = TOP + ROW * rows.index(bar.row)
        x, width = LEFT + bar.begin * scale, max(3.0, (bar.end - bar.begin) * scale)
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 12}" rx="3" fill="{colours[bar.kind]}"/>'
        )
        parts.append(_text(x + width + 6, y + 13, bar.note, colours["faint"]))
    parts += [_text(LEFT - 10, TOP + ROW * at + 13, row, colours["text"], "end") for at, row in enumerate(rows)]
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, fill: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" fill="{fill}" text-anchor="{anchor}">{escape(text)}</text>'


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


if __name__ == "__main__":
    sys.exit(main())
