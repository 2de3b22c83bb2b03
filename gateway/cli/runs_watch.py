"""Following a run: its events as they come, with a bar on a terminal and lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from gateway.cli.client import Client, segment
from gateway.cli.command import invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import console, for_people, harmless, one_line, say

_RECONNECTS_MAX = 30
_WHOLE = 100  # percent: its steps are over
_LOOKS, _LOOK_S = 20, 0.2
_FINAL = ("completed", "failed", "cancelled")
_MARKS = {"completed": "done", "failed": "failed", "refused": "refused", "cancelled": "cancelled", "waiting": "waits"}


class Event(NamedTuple):
    """One server-sent event: its name, and its message."""

    name: str
    message: dict[str, Any]


def watch_run(client: Client, path: str, run_id: str, *, words: bool = False) -> Exit:
    """Show a run until it has ended, or waits for people. Raises CliError as the client does."""
    run = _get(client, path, run_id)
    screen = _Screen(words=words)
    with screen:
        if run["status"] == "awaiting_approval":
            screen.steps(run)
        else:
            for event in events_of(client, f"{path}/{segment(run_id)}/events"):
                if not screen.show(event, lambda: _get(client, path, run_id)):
                    break
        run = _settled(client, path, run_id)
        screen.steps(run)
    return _close(run)


def _settled(client: Client, path: str, run_id: str) -> dict[str, Any]:
    """The run, once it has ended or waits for people; what it still does by itself may take longer than one watches."""
    for _ in range(_LOOKS):
        run = _get(client, path, run_id)
        if run["status"] in _FINAL or (run["status"] == "awaiting_approval" and run["pendingApprovals"]):
            break
        time.sleep(_LOOK_S)
    return run


def events_of(client: Client, path: str) -> Iterator[Event]:
    """From the beginning of the run. A broken connection is opened again where it stopped."""
    last_id: str | None = None
    for _ in range(_RECONNECTS_MAX):
        with client.events(path, last_id) as lines:
            for fields in blocks(lines):
                last_id = fields.get("id", last_id)
                if "data" in fields:
                    yield Event(fields.get("event", "message"), json.loads(fields["data"]))
    raise CliError(
        "the run's events break off again and again; gateway runs show tells how it stands", Exit.UNREACHABLE
    )


def blocks(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Fields of each event of a stream (WHATWG HTML, 9.2.6), as far as ours go."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            yield fields
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


class _Screen:
    """A bar for people, a line for each thing that happens elsewhere, or (``--json``) the messages themselves."""

    def __init__(self, *, words: bool) -> None:
        self._json = invocation().json
        self._words = words and not self._json
        self._shown: set[str] = set()
        bar = for_people(sys.stdout) and not self._json
        columns = (
            *(SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()),
            *(TextColumn("{task.fields[cost]}"), TimeElapsedColumn()),
        )
        self._progress = Progress(*columns, console=console(), transient=True) if bar else None
        self._task = self._progress.add_task("waits", total=100, cost="") if self._progress else None

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, event: Event, look: Any) -> bool:
        """False: there is nothing more to wait for. ``look`` answers the run as it stands."""
        if self._json:
            print(json.dumps(event.message, ensure_ascii=False), flush=True)
        match event.name:
            case "progress":
                progress = event.message["progress"]
                self._bar(str(progress["stage"]), progress["percent"])
                return bool(progress["percent"] < _WHOLE)
            case "step" if event.message["status"] != "running":
                self.steps(look())
            case "token" if self._words:
                self._say(event.message["text"], end="")
            case "gap":
                self.steps(look())
            case "completed" | "failed":
                self.steps(look())
                return False
        return True

    def steps(self, run: Mapping[str, Any]) -> None:
        """Print the steps that have ended since the last look."""
        for step in run["steps"]:
            if step["status"] in _MARKS and step["status"] != "waiting" and step["id"] not in self._shown:
                self._shown.add(step["id"])
                if not self._json:
                    self._say(step_line(step))
        self._bar(run["progress"]["stage"], run["progress"]["percent"], money(run["usage"]["costCents"]))

    def _bar(self, stage: str, percent: int, cost: str | None = None) -> None:
        if self._progress is None or self._task is None:
            return
        self._progress.update(self._task, description=stage, completed=percent)
        if cost is not None:
            self._progress.update(self._task, cost=cost)

    def _say(self, text: str, end: str = "\n") -> None:
        shown = harmless(text)
        if self._progress is not None:
            self._progress.console.print(Text(shown), end=end)
        else:
            print(shown, end=end, flush=True)


def step_line(step: Mapping[str, Any]) -> str:
    """One step in one line: who, how it ended, what it cost, and in a word what came of it."""
    usage, output = step["usage"], step["output"]
    name = step["agentSlug"] or step["kind"]
    told = step["error"] or step["refusal"] or ""
    if isinstance(output, dict):
        told = output.get("summary") or ""
        told = " ".join(told) if isinstance(told, list) else str(told)
    seconds = f"{(step['latencyMs'] or 0) / 1000:.1f}s"
    taken = "taken over" if step["takenFrom"] else f"{seconds}  {usage['inputTokens']}+{usage['outputTokens']} tokens"
    line = f"{name:<14} {_MARKS.get(step['status'], step['status']):<9} {taken}  {money(usage['costCents'])}  {told}"
    return one_line(line).rstrip()[:200]


def money(us_cents: float) -> str:
    """US cents as dollars, with as many digits as small sums need."""
    dollars = us_cents / 100
    return f"${dollars:.2f}" if dollars >= 1 or dollars == 0 else f"${dollars:.4f}"


def _get(client: Client, path: str, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"{path}/{segment(run_id)}")["data"]
    return found


def _close(run: Mapping[str, Any]) -> Exit:
    if not invocation().json:
        result, usage = run["result"] or {}, run["usage"]
        made = f"{run['suggestionsCreated']} suggestions, {run['tasksCreated']} tasks"
        say(f"{run['status']}: {made}, {money(usage['costCents'])}")
        if run["error"] or result.get("error"):
            say(str(run["error"] or result["error"]))
        if run["pendingApprovals"]:
            number = run["pendingApprovals"]
            waiting = "1 action waits" if number == 1 else f"{number} actions wait"
            say(f"{waiting} for you: gateway runs approve {run['id']}, or reject")
        elif run["status"] == "awaiting_approval":
            say(f"its actions are not all done yet: gateway approvals list --status all --run {run['id']}")
    return Exit.FAILED if run["status"] in ("failed", "cancelled") else Exit.DONE
