"""``gateway check``: can this machine run the gateway with these settings? For CI and container starts."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from gateway.cli.command import GatewayCommand, invocation
from gateway.cli.errors import CliError
from gateway.cli.local import environment, load_settings
from gateway.cli.loop import run_loop
from gateway.cli.output import print_json, print_table

if TYPE_CHECKING:
    from gateway.settings import RedisTarget, Settings

TIMEOUT_S = 20.0  # of the mail server: to connect, secure and log in


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. ``said``: what was seen, and what to do when it is not ``ok``."""

    name: str
    ok: bool
    said: str


@click.command(cls=GatewayCommand)
def check() -> None:
    """Check settings and connections; exit 0 or 1."""
    try:
        settings = load_settings(environment(invocation()), serving=True).settings
    except CliError as error:
        if invocation().json:
            print_json([asdict(Finding("settings", False, error.message))])
        raise CliError(error.message, code="check_failed") from error
    findings = [Finding("settings", True, "valid"), *_agents(settings), *run_loop(_connections(settings))]
    if invocation().json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(["check", "result", "seen"], [[f.name, "ok" if f.ok else "failed", f.said] for f in findings])
    failed = [finding.name for finding in findings if not finding.ok]
    if failed:
        raise CliError(f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}", code="check_failed")


def _agents(settings: Settings) -> list[Finding]:
    if settings.agents_dir is None:
        return []
    from gateway.infra.lifecycle import StartError
    from gateway.services.orchestration.agent_files import read_agents

    try:
        found = read_agents(settings.agents_dir)
    except StartError as error:
        return [Finding("agents", False, str(error))]
    return [Finding("agents", True, f"AGENTS_DIR defines {', '.join(found) or 'none'}")]


async def _connections(settings: Settings) -> list[Finding]:
    checks = [_postgres(settings.database_url)]
    if (target := settings.queue_redis) is not None:
        checks.append(_redis(target, strict=settings.gateway_env == "production"))
    if settings.smtp_host is not None:
        checks.append(smtp_finding(settings, settings.smtp_host))
    # One after the other: each imports what it needs, and Redis's time limits are shorter than that may take.
    return [await one for one in checks]


async def _postgres(url: str) -> Finding:
    from gateway.cli.database import explained
    from gateway.infra.migrate import migration_status
    from gateway.infra.postgres import connect

    try:
        with explained(url):
            connection = await connect(url, application_name="gateway check")
            try:
                problem = (await migration_status(connection)).problem()
            finally:
                connection.terminate()  # a server that has fallen silent would never answer a farewell
    except CliError as error:
        return Finding("postgresql", False, error.message)
    return Finding("postgresql", problem is None, problem or "reachable, schema is current")


async def _redis(target: RedisTarget, *, strict: bool) -> Finding:
    from gateway.infra.redis_check import PATIENCE_S, redis_fitness

    try:
        fitness = await redis_fitness(target, PATIENCE_S)
    except ConnectionError as error:
        return Finding("redis", False, f"{target} does not answer ({error})")
    said = [f"{target} answers", *(f"warning: {note}" for note in fitness.notes)]
    if fitness.faults and strict:
        return Finding("redis", False, " ".join(fitness.faults))
    return Finding("redis", True, ". ".join((*said, *(f"warning: {fault}" for fault in fitness.faults))))


async def smtp_finding(settings: Settings, host: str) -> Finding:
    from gateway.services.email import smtp_settings
    from gateway.services.email.smtp import SmtpPool
    from gateway.services.email.smtp_answers import Outcome, SmtpFailure

    fail = (
        f"Until then each mail fails after {settings.email_attempts} attempts; to hold all: gateway queues pause email"
    )
    transport = SmtpPool(smtp_settings(settings, host))
    await transport.start()
    server = f"{host}:{settings.smtp_port}"
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await transport.check()
    except SmtpFailure as failure:
        meanwhile = "Until then mails wait, and none fails." if failure.verdict is Outcome.PAUSE else fail
        return Finding("smtp", False, f"SMTP_HOST {server}: {failure}. {meanwhile}")
    except TimeoutError:
        return Finding("smtp", False, f"SMTP_HOST {server} is not ready within {TIMEOUT_S:g} s. {fail}")
    finally:
        await transport.stop()
    login = f", login as {settings.smtp_user} accepted" if settings.smtp_user else ""
    return Finding("smtp", True, f"{server} takes mails{login}")
