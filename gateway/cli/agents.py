"""``gateway agents``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.client import connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import ago, print_facts, print_json, print_table, say

PATH = "/api/v1/orchestration/agents"
# What is written, of what is shown; the model under another name.
_WRITTEN = ("name", "description", "prompt", "tools", "outputSchema", "maxOutputTokens", "timeoutS", "enabled")


@click.group(cls=GatewayGroup)
def agents() -> None:
    """Agents: what there is, and changing it for all projects without a restart."""


@agents.command("list")
def list_agents() -> None:
    """All agents, by slug."""
    with connected() as client:
        found = client.get(PATH)["data"]
    if invocation().json:
        return print_json(found)
    rows = [[one["slug"], one["description"], one["model"], _state(one), one["source"]] for one in found]
    print_table(["slug", "what it does", "model", "state", "source"], rows)


@agents.command("show")
@click.argument("slug")
def show_agent(slug: str) -> None:
    """One agent; operators see its prompt."""
    with connected() as client:
        _print(client.get(f"{PATH}/{segment(slug)}")["data"])


@agents.command("set")
@click.argument("slug")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", help="A name of the price table; default is that of the settings.")
@click.option("--enable/--disable", "enabled", default=None, help="Whether it runs.")
def set_agent(slug: str, file: Path | None, model: str | None, enabled: bool | None) -> None:
    """Write an agent from FILE (TOML between two lines +++, then the prompt), or change what it is now."""
    if file is None and model is None and enabled is None:
        raise CliError("nothing to change is named: give a file, --model, --enable or --disable", Exit.USAGE)
    path = f"{PATH}/{segment(slug)}"
    with connected() as client:
        body = _read(file) if file is not None else _now(client.get(path)["data"])
        if model is not None:
            body["model"] = None if model == "default" else model
        if enabled is not None:
            body["enabled"] = enabled
        _print(client.put(path, body)["data"])


@agents.command("restore")
@click.argument("slug")
def restore_agent(slug: str) -> None:
    """Take changes back: a file's definition is in force again; an agent that is none is deleted."""
    with connected() as client:
        client.delete(f"{PATH}/{segment(slug)}")
    if invocation().json:
        return print_json({"slug": slug, "restored": True})
    say(f"{slug} is as its file has it, or gone if it had none")


def _read(file: Path) -> dict[str, Any]:
    import msgspec

    from gateway.services.orchestration.agent_files import AgentFilesWrong, read_agent

    try:
        body: dict[str, Any] = msgspec.to_builtins(read_agent(file))
    except AgentFilesWrong as error:
        raise CliError(str(error), Exit.USAGE) from error
    return body


def _now(shown: dict[str, Any]) -> dict[str, Any]:
    if "prompt" not in shown:
        raise CliError("only administrators may change agents", Exit.REFUSED)
    return {name: shown[name] for name in _WRITTEN} | {"model": shown["ownModel"]}


def _state(agent: dict[str, Any]) -> str:
    return "on" if agent["enabled"] else "off"


def _print(agent: dict[str, Any]) -> None:
    if invocation().json:
        return print_json(agent)
    own = (agent["outputSchema"] or {}).get("properties", {})
    print_facts(
        {
            "slug": agent["slug"],
            "name": agent["name"],
            "description": agent["description"],
            "state": _state(agent),
            "source": agent["source"] + (", stands before a file" if agent["restorable"] else ""),
            "tools": ", ".join(agent["tools"]) or None,
            "model": agent["model"] + ("" if agent["ownModel"] else " (the default)"),
            "fields of its own": ", ".join(own) or None,
            "output tokens": agent["maxOutputTokens"],
            "time limit": f"{agent['timeoutS']} s",
            "changed": f"{ago(agent['updatedAt'])} by {agent['updatedBy']}" if agent["updatedAt"] else None,
        }
    )
    if "prompt" in agent:
        print(f"\n{agent['prompt']}")
