"""``gateway status``: the running instance, in the words of ``gateway dev``'s start or as variables for a shell."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from gateway.cli.client import Client, connected
from gateway.cli.command import GatewayCommand, invocation
from gateway.cli.instance import TOKEN_FILE, DevFile
from gateway.cli.output import for_people, print_facts, print_json, print_table


@click.command(cls=GatewayCommand)
@click.option("--env", "as_env", is_flag=True, help="Print variables for a shell: eval $(gateway status --env)")
def status(as_env: bool) -> None:
    """Show the running instance: address, mode, workers, queues."""
    with connected() as client:
        dev = client.target.dev
        if as_env:
            for name, value in _variables(client).items():
                print(f"{name}={shlex.quote(value)}")
            return None
        facts = _facts(client)
    if invocation().json:
        return print_json(facts)
    if dev is not None and for_people(sys.stdout):
        _print_banner(dev)
    else:
        where = {"inbox": dev.inbox_url, "pid": dev.pid} if dev is not None else {}
        print_facts({"url": facts["url"], "mode": facts["mode"], **where})
    print_facts({"paused": ", ".join(facts["paused"]) or "nothing"})
    print()
    print_table(["worker", "role", "version", "host", "pid", "busy"], [_worker_row(w) for w in facts["workers"]])
    print()
    print_table(["queue", "waiting", "active", "failed"], [_queue_row(q) for q in facts["queues"]])


def _facts(client: Client) -> dict[str, Any]:
    workers = client.get("/api/v1/admin/workers")["data"]
    queues = client.get("/api/v1/admin/queues")["data"]
    return {
        "url": client.target.url,
        "mode": mode_of([worker["mode"] for worker in workers]),
        "paused": [queue["name"] for queue in queues if queue["paused"]],
        "workers": workers,
        "queues": queues,
        "dev": _dev_facts(client.target.dev),
    }


def mode_of(modes: list[str]) -> str:
    """``queue`` or ``direct`` when all replicas agree, ``mixed`` when they do not, ``unknown`` without any."""
    kinds = set(modes)
    return kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "unknown"


def _print_banner(dev: DevFile) -> None:
    from gateway.cli import banner

    data_dir = invocation().data_dir
    token = (data_dir / TOKEN_FILE).read_text()
    print(banner.for_people(banner.facts_of(dev, data_dir, token)))


def _dev_facts(dev: DevFile | None) -> dict[str, Any] | None:
    if dev is None:
        return None
    return {"pid": dev.pid, "inboxUrl": dev.inbox_url, "smtp": {"host": dev.smtp.host, "port": dev.smtp.port}}


def _variables(client: Client) -> dict[str, str]:
    """What programs need to talk to the instance, and with ``gateway dev`` to its servers."""
    found = {"GATEWAY_URL": client.target.url}
    if client.target.token:
        found["GATEWAY_TOKEN"] = client.target.token
    if (dev := client.target.dev) is not None:
        found |= {"DATABASE_URL": dev.database_url, "SMTP_HOST": dev.smtp.host, "SMTP_PORT": str(dev.smtp.port)}
        if dev.redis_url is not None:
            found["REDIS_URL"] = dev.redis_url
    return found


def _worker_row(worker: dict[str, Any]) -> list[Any]:
    slots = worker["slots"].values()
    busy = f"{sum(s['busy'] for s in slots)} of {sum(s['slots'] for s in slots)}"
    role = f"{worker['role']} (draining)" if worker["draining"] else worker["role"]
    return [worker["id"], role, worker["version"], worker["host"], worker["pid"], busy]


def _queue_row(queue: dict[str, Any]) -> list[Any]:
    counts = queue["counts"]
    return [queue["name"], counts["waiting"], counts["active"], counts["failed"]]
