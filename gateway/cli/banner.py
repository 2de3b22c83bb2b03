"""What ``gateway dev`` says when it is ready: for people, or as ``key=value`` lines. Pure."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import __version__
from gateway.cli.dev import DEV_TOKEN
from gateway.cli.instance import DevFile
from gateway.services.email.routes import EMAILS_PATH
from gateway.settings import QUEUES
from gateway.web.dashboard import ADDRESS
from gateway.web.docs import DOCS_PATH

TRY_BODY = {"to": "you@example.com", "subject": "Hello", "text": "It works"}


@dataclass(frozen=True, slots=True)
class DevFacts:
    """A running ``gateway dev``. ``token`` is the one of the example; ``redis_url`` is None in direct mode."""

    url: str
    inbox_url: str
    token: str
    queues: tuple[str, ...]
    redis_url: str | None
    data_dir: Path
    pid: int


def facts_of(running: DevFile, data_dir: Path, token: str) -> DevFacts:
    return DevFacts(
        url=readable(running.url),
        inbox_url=readable(running.inbox_url),
        token=token,
        queues=QUEUES,
        redis_url=running.redis_url,
        data_dir=data_dir,
        pid=running.pid,
    )


def readable(url: str) -> str:
    """Programs get the address that is listened on, people its name."""
    return url.replace("//127.0.0.1:", "//localhost:")


def example_call(facts: DevFacts) -> dict[str, Any]:
    """The first request to try: ``url``, ``headers``, ``body``."""
    headers = {"Authorization": f"Bearer {facts.token}", "Content-Type": "application/json"}
    return {"url": facts.url + EMAILS_PATH, "headers": headers, "body": TRY_BODY}


def curl(facts: DevFacts, line_break: str = " ") -> str:
    call = example_call(facts)
    headers = [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in call["headers"].items()]
    body = shlex.quote(json.dumps(call["body"], separators=(",", ":")))
    return f"curl -X POST {call['url']}{line_break}{' '.join(headers)}{line_break}-d {body}"


def for_people(facts: DevFacts) -> str:
    mode = "direct mode (set REDIS_URL for more than one process)" if facts.redis_url is None else "dispatched by Redis"
    lines = {
        "API": f"{facts.url:<32}docs at {DOCS_PATH}",
        "Dashboard": f"{facts.url}{ADDRESS}: {_way_in(facts)}",
        "Mail": f"inbox at {facts.inbox_url}: nothing leaves this machine",
        "Queues": f"{', '.join(facts.queues)} · {mode}",
        "Data": f"{facts.data_dir}/ (kept between runs; `gateway dev --reset` to start over)",
    }
    continued = " \\\n" + " " * 16
    return "\n".join(
        [
            "",
            f"  Gateway {__version__} · development",
            "",
            *(f"  {name:<12}{text}" for name, text in lines.items()),
            "",
            f"  {'Try it':<12}{curl(facts, continued)}",
            "",
            "  Ctrl+C to stop · gateway status shows this again",
            "",
        ]
    )


def _way_in(facts: DevFacts) -> str:
    return "one click signs in" if facts.token == DEV_TOKEN else "sign in with your token"


def for_programs(facts: DevFacts) -> str:
    """One ``key=value`` line for each fact; values are quoted as a shell would read them."""
    return "\n".join(f"{name}={shlex.quote(str(value))}" for name, value in for_json(facts).items())


def for_json(facts: DevFacts) -> dict[str, Any]:
    return {
        "version": __version__,
        "url": facts.url,
        "dashboard": facts.url + ADDRESS,
        "inbox": facts.inbox_url,
        "queues": ",".join(facts.queues),
        "mode": "direct" if facts.redis_url is None else "queue",
        "data": str(facts.data_dir),
        "pid": facts.pid,
        "try": curl(facts),
    }
