"""One run of ``gateway dev``: its servers, its settings, its banner, and ``dev.json`` while it answers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from gateway.access import Role
from gateway.cli import banner
from gateway.cli.command import invocation
from gateway.cli.database import explained
from gateway.cli.dev_data import DataDir
from gateway.cli.dev_watch import Watched, keep_running
from gateway.cli.errors import CliError
from gateway.cli.instance import TOKEN_FILE, DevFile, SmtpAddress, remove_dev_file, write_dev_file, write_private
from gateway.cli.loop import run_loop
from gateway.cli.migrate import told
from gateway.cli.output import for_people, print_json, say
from gateway.cli.serve import url_host
from gateway.dev_servers import DevServerError, EmbeddedPostgres, EmbeddedValkey
from gateway.infra.lifecycle import StartError
from gateway.infra.log import mask_text
from gateway.infra.migrate import migrate
from gateway.llm import configured_providers
from gateway.server import DevOptions, serve
from gateway.services.email.sandbox import INBOX_PATH, Sandbox, inbox_routes
from gateway.services.email.smtp import SmtpPool
from gateway.services.email.smtp_url import smtp_at
from gateway.settings import Settings, SettingsError, load
from gateway.web.auth import mint_token

TOKEN_TTL = timedelta(days=30)
SENDER = "gateway@localhost.localdomain"
GRACE_S = 10  # of active jobs after Ctrl+C: a developer waits at a terminal, and jobs are handed back anyway
# These come from here alone: in the environment they belong to another installation, or lead out of this machine.
OWN_SETTINGS = ("SMTP_", "JWT_", "AUTH_MODE", "HOST", "PORT", "GATEWAY_", "DISABLE_", "SHUTDOWN_", "DATABASE_URL")
REDIS_SETTINGS = ("REDIS_", "USE_JOB_QUEUE")
TRIED_HERE = ("GATEWAY_PROFILES",)  # says what is offered, not where


@dataclass(frozen=True, slots=True)
class WhatToRun:
    host: str
    port: int
    token: str
    with_redis: bool
    open_door: bool


@dataclass(frozen=True, slots=True)
class Servers:
    """Where this run's stores are; ``redis_url`` None is direct mode."""

    database_url: str
    redis_url: str | None
    watched: tuple[Watched, ...] = ()


def run_dev(data_dir: DataDir, what: WhatToRun) -> int:
    """Run until a signal. Returns the exit code. Raises CliError; servers that were started are stopped in any case."""
    sandbox = AnnouncingSandbox(outlet=_outlet())
    with _servers(data_dir, what.with_redis) as servers:
        with explained(servers.database_url):
            run_loop(migrate(servers.database_url, on_progress=told, on_build=say))
        try:
            return run_loop(_serve(data_dir, what, servers, sandbox))
        finally:
            remove_dev_file(data_dir.path)


@contextmanager
def _servers(data_dir: DataDir, with_redis: bool) -> Iterator[Servers]:
    database_url = os.environ.get("DATABASE_URL")
    redis_url = None if with_redis else os.environ.get("REDIS_URL")
    watched: list[Watched] = []
    with ExitStack() as started:
        try:
            if not database_url:
                postgres = EmbeddedPostgres(data_dir.postgres, protected=True)
                started.callback(postgres.stop)
                _start_postgres(postgres)
                database_url = postgres.dsn
                watched.append(Watched("PostgreSQL", postgres, postgres.start))
            if with_redis:
                valkey = EmbeddedValkey(data_dir.valkey, protected=True)
                started.callback(valkey.stop)
                valkey.start(appendonly=True)
                redis_url = valkey.url
                watched.append(Watched("Valkey", valkey, partial(valkey.start, appendonly=True)))
        except DevServerError as error:
            raise CliError(str(error), code="dev_server") from error
        yield Servers(database_url, redis_url or None, tuple(watched))


def _start_postgres(postgres: EmbeddedPostgres) -> None:
    if any(postgres.directory.glob("data/PG_VERSION")):
        postgres.start()
        return
    say(f"preparing PostgreSQL in {postgres.directory} (once, a few seconds)")
    started = time.monotonic()
    postgres.start()
    say(f"PostgreSQL is ready ({time.monotonic() - started:.1f} s)")


def dev_environment(environ: Mapping[str, str], own: Mapping[str, str], *, own_redis: bool) -> dict[str, str]:
    """``environ`` without what belongs to another installation or leads out of this machine, and with ``own``.

    Queues' numbers, log level and the like stay: they may be tried here.
    """
    dropped = OWN_SETTINGS + (REDIS_SETTINGS if own_redis else ())
    kept = {name: value for name, value in environ.items() if name in TRIED_HERE or not name.startswith(dropped)}
    return kept | dict(own)


def _settings(data_dir: DataDir, what: WhatToRun, servers: Servers, smtp_port: int) -> Settings:
    own = {
        "GATEWAY_ENV": "development",
        "HOST": what.host,
        "PORT": str(what.port),
        "SHUTDOWN_GRACE_S": str(GRACE_S),
        "DATABASE_URL": servers.database_url,
        "JWT_SECRET": data_dir.jwt_secret(),
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(smtp_port),
        "SMTP_SECURE": "none",
        "SMTP_FROM_EMAIL": SENDER,
        "SMTP_FROM_NAME": "Gateway",
    }
    if servers.redis_url:
        own["REDIS_URL"] = servers.redis_url
    environ = dev_environment(os.environ, own, own_redis=what.with_redis)
    try:
        # No directory of secrets: those in /run/secrets are an installation's.
        loaded = load(environ, secrets_dir=Path(os.devnull))
    except SettingsError as error:
        raise CliError(str(error), code="invalid_settings") from error
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    return loaded.settings


class AnnouncingSandbox(Sandbox):
    """Says, for the first mail of a run, that it arrived and where to look at it."""

    inbox_url = ""
    announced = False

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        answer = await super().handle_DATA(server, session, envelope)
        if not self.announced:
            self.announced = True
            print(first_mail(self, self.inbox_url), flush=True)
        return answer


def first_mail(sandbox: Sandbox, inbox_url: str) -> str:
    """The line for the newest mail. Its Message-ID holds the id that the API answered."""
    newest = sandbox.messages()[0]
    url = f"{inbox_url}/{newest.id}"
    if invocation().json:
        return json.dumps({"caught": url})
    if not for_people(sys.stdout):
        return f"caught={url}"
    message_id = dict(sandbox.get(newest.id).headers).get("Message-ID", "")
    return (
        f"  email {message_id[1:5]}… to {mask_text(', '.join(newest.to))} caught by the inbox → {banner.readable(url)}"
    )


def _outlet() -> SmtpPool | None:
    """Where caught mails may be released to. Raises CliError."""
    url = os.environ.get("SMTP_URL")
    if not url:
        return None
    try:
        return SmtpPool(smtp_at(url))
    except ValueError as error:
        raise CliError(f"SMTP_URL {error}", code="invalid_settings") from None


async def _serve(data_dir: DataDir, what: WhatToRun, servers: Servers, sandbox: AnnouncingSandbox) -> int:
    await sandbox.start()
    watching = asyncio.create_task(keep_running(servers.watched), name="keep-servers-running")
    try:
        settings = _settings(data_dir, what, servers, sandbox.port)

        async def ready(port: int) -> None:
            address = f"http://{url_host(what.host)}:{port}"
            facts = _dev_file(settings, servers, address, SmtpAddress(sandbox.host, sandbox.port))
            sandbox.inbox_url = facts.inbox_url
            write_private(data_dir.path / TOKEN_FILE, what.token.encode())
            write_dev_file(data_dir.path, facts)
            show(banner.facts_of(facts, data_dir.path, what.token))

        options = DevOptions(
            what.token, what.open_door, demo_models=True, inbox=sandbox, routes=tuple(inbox_routes(sandbox))
        )
        return await serve(settings, ready=ready, dev=options)
    except StartError as error:
        raise CliError(str(error), code="cannot_start") from error
    finally:
        watching.cancel()
        remove_dev_file(data_dir.path)
        await sandbox.stop()


def _dev_file(settings: Settings, servers: Servers, address: str, smtp: SmtpAddress) -> DevFile:
    expires = datetime.now(UTC) + TOKEN_TTL
    return DevFile(
        url=address,
        admin_token=mint_token(settings, "dev-admin", Role.ADMIN, expires),
        user_token=mint_token(settings, "dev-user", Role.USER, expires),
        database_url=servers.database_url,
        redis_url=servers.redis_url,
        smtp=smtp,
        inbox_url=address + INBOX_PATH,
        pid=os.getpid(),
        demo_models=not configured_providers(settings),
    )


def show(facts: banner.DevFacts) -> None:
    """The banner on a terminal, ``key=value`` lines elsewhere, or JSON on request."""
    if invocation().json:
        print_json(banner.for_json(facts))
    else:
        print(banner.for_people(facts) if for_people(sys.stdout) else banner.for_programs(facts))
    sys.stdout.flush()
