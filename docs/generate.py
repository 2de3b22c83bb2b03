"""``python -m docs.generate``: write the generated parts of the pages again. ``tests/docs`` checks that they are new.

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; everything else is written by hand.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from litestar import Litestar
from prometheus_client.parser import text_string_to_metric_families

from gateway.access import AUTHENTICATED, MACHINE, Scope
from gateway.app import create_app
from gateway.cli.root import root
from gateway.infra.metrics import Metrics, QueueReading, Readings, Slots
from gateway.infra.redis_check import RedisFitness
from gateway.runtime import Runtime
from gateway.settings import Settings, setting_rows

DOCS = Path(__file__).resolve().parent
TESTS = DOCS.parent / "tests"
PART = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n)(?P<text>.*?)(<!-- end -->)", re.DOTALL)
HELP_WIDTH = 100
# What the application needs to exist; nothing is connected to.
EXAMPLE_SETTINGS = {
    "database_url": "postgresql://gateway@localhost:5432/gateway",
    "jwt_secret": "not a secret: no request is answered",
    "smtp_host": "localhost",
    "gateway_profiles": "chat,deep-research",
}


def invariants_table() -> str:
    rows = [(letter, "<br>".join(f"`{test}`" for test in tests)) for letter, tests in invariant_tests().items()]
    return table(("Invariant", "Tests"), rows)


def invariant_tests() -> dict[str, list[str]]:
    """The tests that have an invariant's letter in their name, by letter; one test may show several."""
    names = {
        name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
    }
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        letters = re.match(r"test_((?:[A-J]_)+)|test_invariant_([a-j])_", name)
        for letter in (letters[1] or letters[2]).upper().strip("_").split("_") if letters else ():
            found.setdefault(letter, []).append(name)
    return dict(sorted(found.items()))


def settings_table() -> str:
    rows = [(f"`{row.name}`", f"`{row.default}`" if row.default else "-", row.description) for row in setting_rows()]
    return table(("Variable", "Default", "Meaning"), rows)


def metrics_table() -> str:
    rows = [
        (f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels) or "-", meaning)
        for name, kind, labels, meaning in metric_rows()
    ]
    return table(("Name", "Type", "Labels", "Meaning"), rows)


def metric_rows() -> list[tuple[str, str, list[str], str]]:
    """Name as it is scraped, type, labels and meaning of each metric, from the registry's own output."""
    found = []
    for family in text_string_to_metric_families(_full_registry().text().decode()):
        if family.name.endswith("_created"):  # the client library's own: when a counter began
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found.append((name, family.type, sorted(labels), family.documentation))
    return sorted(found)


def _full_registry() -> Metrics:
    metrics = Metrics()
    metrics.jobs.declare("email-queue", ["email.send"])
    metrics.http.ended("GET", "/health", 200, 0.001)
    metrics.email("smtp", "sent")
    metrics.model_call("openai", "answered", 1.0)
    metrics.model_spent("general", "gpt-5-mini", tokens=(100, 20), cost_micros=65)
    metrics.model_misfit("general", "gpt-5-mini")
    metrics.postgres(True)
    metrics.redis(True)
    metrics.redis_seen(RedisFitness(evicts=False, memory=(1, 2)))
    metrics.clock_skew(0.0)
    metrics.watch_slots(lambda: {"email-queue": Slots(busy=0, free=1)})
    metrics.watch_budgets(lambda: {"ok": 1})
    queue = QueueReading(
        states={"waiting": 0}, oldest_waiting_s=0.0, rate_per_s=10.0, rate_used=0, demand_slots=0, useful_replicas=1
    )
    metrics.read(Readings(queues={"email-queue": queue}, replicas={"all": 1}, odd={"double_consumers": False}))
    return metrics


def routes_table() -> str:
    rows = [(f"`{method} {path}`", access, summary) for method, path, access, summary in asyncio.run(route_rows())]
    return table(("Route", "Who may call it", "What it does"), rows)


async def route_rows() -> list[tuple[str, str, str, str]]:
    """Method, path, demanded scope and summary of each route of the whole application."""
    runtime = await Runtime.open(Settings.model_validate(EXAMPLE_SETTINGS))
    app = create_app(runtime)
    access = dict(_accesses(app))
    paths: dict[str, Any] = app.openapi_schema.to_schema()["paths"]
    await runtime.pool.close()
    return sorted(
        (method.upper(), path, access[method.upper(), path], operation["summary"])
        for path, operations in paths.items()
        for method, operation in operations.items()
        if isinstance(operation, dict) and "summary" in operation
    )


_CALLERS = {MACHINE: "machines (`CRON_SECRET`)", AUTHENTICATED: "who has a token"}


def _accesses(app: Litestar) -> Iterator[tuple[tuple[str, str], str]]:
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            demanded = handler.opt.get("access")
            words = f"`{demanded}`" if isinstance(demanded, Scope) else _CALLERS.get(demanded, "everybody")
            for method in handler.http_methods:
                yield (method, route.path_format), words


def command_help() -> str:
    parts = [f"## `{path}`\n\n```text\n{text}\n```\n" for path, text in commands(root, "gateway")]
    return "\n".join(["", *parts, ""])


def commands(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    """Each command with its help, groups before their members."""
    context = click.Context(command, info_name=path, max_content_width=HELP_WIDTH, terminal_width=HELP_WIDTH)
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            if member is not None:
                yield from commands(member, f"{path} {name}")


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    cells = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
    return "\n" + "".join(cells) + "\n"


PARTS: dict[str, Callable[[], str]] = {
    "invariants": invariants_table,
    "settings": settings_table,
    "metrics": metrics_table,
    "routes": routes_table,
    "commands": command_help,
}


def pages() -> Iterator[tuple[Path, str]]:
    """Each page with a generated part, and what it should hold. Raises KeyError for a part that nothing generates."""
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text("utf-8")
        wanted = PART.sub(lambda part: part[1] + PARTS[part["name"]]() + part[4], text)
        if PART.search(text):
            yield path, wanted


def main() -> None:
    for path, wanted in pages():
        if path.read_text("utf-8") != wanted:
            path.write_text(wanted, "utf-8")
            sys.stderr.write(f"wrote docs/{path.relative_to(DOCS)}\n")


if __name__ == "__main__":
    main()
