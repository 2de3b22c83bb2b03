"""``gateway doctor``: is the whole installation well? ``gateway check`` asks less: can this machine start?"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING

import click

from gateway.cli.command import GatewayCommand, invocation
from gateway.cli.doctor.findings import Finding, Level, Verdict, plain, problem, verdict, without_secrets
from gateway.cli.errors import CliError
from gateway.cli.instance import DevFile, running_dev
from gateway.cli.local import environment, load_settings
from gateway.cli.loop import run_loop
from gateway.cli.output import for_people, print_json, print_table

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.settings import Settings

LIMIT_S = 6.0  # of each examination; all of them go on at once
# Before any of them begins: while one imports, the others hear no answer.
_SLOW_TO_IMPORT = ("gateway.infra.migrate", "gateway.infra.redis_check", "gateway.jobs.fleet", "gateway.services.email")

Examination = Callable[[], Awaitable[list[Finding]]]


@click.command(cls=GatewayCommand)
@click.option("--prometheus", metavar="URL", help="Ask this Prometheus whether it has rules for the gateway.")
def doctor(prometheus: str | None) -> int:
    """Examine a running installation: PostgreSQL, Redis, mail server, model providers, replicas, this machine.

    Exit codes: 0 all is well, 1 warnings, 2 problems. Changes nothing and sends no mail.
    """
    try:
        call = invocation()
        settings = load_settings(environment(call), serving=True).settings
    except CliError as error:
        found = [problem("settings", error.message, "Correct them; gateway config shows where each comes from.")]
    else:
        found = run_loop(examined(settings, prometheus, dev=_dev_of(settings, call.data_dir)))
    if invocation().json:
        print_json(plain(found))
    else:
        print_table(["check", "result", "seen", "to do"], [[f.name, f.level, f.seen, f.todo or "-"] for f in found])
    return verdict(found)


def _dev_of(settings: Settings, data_dir: Path) -> DevFile | None:
    """The `gateway dev` that is examined; None: another installation is."""
    try:
        dev = running_dev(data_dir)
    except CliError:  # another user's
        return None
    return dev if dev is not None and dev.database_url == settings.database_url else None


async def examined(
    settings: Settings, prometheus: str | None, limit_s: float = LIMIT_S, *, dev: DevFile | None = None
) -> list[Finding]:
    """All findings in a fixed order, without secrets. An examination that takes longer than ``limit_s`` seconds is cut
    and is a problem. ``dev``: the `gateway dev` that is examined."""
    progress = _Progress()
    work = _examinations(settings, prometheus, dev)
    found = await asyncio.gather(*(_bounded(name, run, limit_s, progress) for name, run in work.items()))
    progress.end()
    settings_finding = Finding("settings", Level.OK, "valid")
    return without_secrets([settings_finding, *(finding for part in found for finding in part)], settings)


def _examinations(settings: Settings, prometheus: str | None, dev: DevFile | None) -> dict[str, Examination]:
    from gateway.cli.doctor import ledger, machine, outside, queue_redis

    for module in _SLOW_TO_IMPORT:
        import_module(module)
    return {
        "postgresql": lambda: ledger.examine(settings),
        "redis": lambda: queue_redis.examine(settings),
        "smtp": lambda: outside.mail_server(settings),
        "models": lambda: outside.providers(settings, dev),
        "alerts": lambda: outside.alert_rules(prometheus),
        "machine": lambda: machine.examine(settings),
    }


async def _bounded(name: str, run: Examination, limit_s: float, progress: _Progress) -> list[Finding]:
    progress.begin(name)
    try:
        async with asyncio.timeout(limit_s):
            return await run()
    except TimeoutError:
        seen = f"gave no answer within {limit_s:g} s"
        return [problem(name, seen, "See whether it is overloaded, or a firewall drops packets on the way to it.")]
    finally:
        progress.done(name)


class _Progress:
    """One line on a terminal that says what is still waited for; nothing elsewhere."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._shown = for_people(sys.stderr)

    def begin(self, name: str) -> None:
        self._waiting.append(name)

    def done(self, name: str) -> None:
        self._waiting.remove(name)
        self._show(f"waiting for {', '.join(self._waiting)} ..." if self._waiting else "")

    def end(self) -> None:
        self._show("")

    def _show(self, line: str) -> None:
        if self._shown:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()


__all__ = ["Verdict", "doctor", "examined"]
