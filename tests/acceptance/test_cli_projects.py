"""``gateway projects`` and ``gateway agents`` against a running instance."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.dev_process import DevProcess, gateway

Run = Callable[..., subprocess.CompletedProcess[str]]
OWN = """+++
name = "Release notes"
description = "Writes release notes."
tools = ["github"]
+++
List what was merged.
"""


@pytest.fixture(scope="module")
def dev(server_directory: Path) -> Iterator[DevProcess]:
    """One ``gateway dev`` for all tests of this file, with a directory of agents."""
    home = server_directory / f"cli-projects-{os.getpid()}"
    (home / "own").mkdir(parents=True)
    (home / "own" / "release-notes.md").write_text(OWN)
    process = DevProcess(home, "--port", "0", AGENTS_DIR="own")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(process.ready())
    yield process
    process.stop()


@pytest.fixture
def run(dev: DevProcess) -> Run:
    return lambda *arguments, **more: gateway(*arguments, cwd=dev.cwd, **more)


def facts(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return dict(line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line)


def test_a_project_from_its_making_to_its_archive(run: Run) -> None:
    nobody = run("projects", "list")
    assert (nobody.returncode, "no projects" in nobody.stderr) == (5, True)
    made = facts(
        run("projects", "create", "Shop", "--repository", "acme/shop", "--budget", "12.50", "--facts", '{"goal": "x"}')
    )
    assert (made["name"], made["repository"], made["facts"]) == ("Shop", "acme/shop", '{"goal": "x"}')
    assert (made["spent this month"], made["your role"], made["chosen"]) == ("$0.00 of $12.50", "owner", "False")
    assert "release-notes" in made["agents"] and "developer" in made["agents"]
    project = made["id"]
    shown = facts(run("projects", "show", project))
    assert made.keys() == shown.keys()
    assert shown | {"created": ""} == made | {"created": ""}  # "2s ago" by now
    changed = facts(
        run("projects", "set", project, "--budget", "none", "--repository", "none", "--agents", "developer,general")
    )
    assert (changed["spent this month"], changed["repository"], changed["agents"]) == (
        "$0.00",
        "-",
        "developer, general",
    )

    members = run("projects", "members", project, "--add", "bob", "--owner", "auth0|eve")
    assert [line.split("\t")[:2] for line in members.stdout.splitlines()[1:]] == [
        ["auth0|eve", "owner"],
        ["dev-admin", "owner"],
        ["bob", "member"],
    ]
    left = json.loads(run("projects", "members", project, "--remove", "bob", "--remove", "auth0|eve", "--json").stdout)
    assert [member["principal"] for member in left] == ["dev-admin"]
    last = run("projects", "members", project, "--remove", "dev-admin")
    assert (last.returncode, "last owner" in last.stderr) == (1, True)

    usage = run("projects", "usage", project, "--by", "agent,model")
    assert usage.stdout.splitlines() == ["runs\tcalls\ttokens in\ttokens out\tUSD", "0\t0\t0\t0\t0.0000"]
    header, row = run("projects", "list").stdout.splitlines()
    assert header.split("\t") == ["id", "name", "repository", "role", "budget", "created"]
    assert row.split("\t")[:2] == [project, "Shop"]
    assert facts(run("projects", "set", project, "--archive"))["archived"] == "0s ago"
    assert run("projects", "list").returncode == 5
    assert "Shop (archived)" in run("projects", "list", "--archived").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("create", "P", "--budget", "12.505"), 2, "no amount of US dollars"),
        (("create", "P", "--budget", "NaN"), 2, "no amount of US dollars"),
        (("create", "P", "--facts", "{"), 2, "--facts"),
        (("create", "P", "--facts", "[]"), 2, "facts"),
        (("create", "P", "--repository", "https://github.com/a/b"), 2, "repository"),
        (("create", ""), 2, "name"),
        (("set", "0198c1d2-0000-7000-8000-000000000000"), 2, "nothing to change"),
        (("set", "0198c1d2-0000-7000-8000-000000000000", "--name", "X"), 5, "no such project"),
        (("show", "no-id"), 5, "no such project"),
        (("usage", "--by", "user"), 2, "groupBy"),
        (("usage", "--from", "soon"), 2, "from"),
    ],
)
def test_what_is_wrong_is_said(run: Run, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = run("projects", *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr


def test_an_agent_is_changed_and_restored(run: Run, dev: DevProcess) -> None:
    listed = [line.split("\t") for line in run("agents", "list").stdout.splitlines()]
    assert listed[0] == ["slug", "what it does", "model", "state", "source"]
    sources = {row[0]: row[4] for row in listed[1:]}
    assert len(sources) == 8 and sources["release-notes"] == "file" and sources["code-review"] == "built-in"

    shown = run("agents", "show", "release-notes")
    assert facts(shown)["tools"] == "github" and shown.stdout.endswith("List what was merged.\n")
    off = facts(run("agents", "set", "release-notes", "--disable", "--model", "gpt-5"))
    assert (off["state"], off["model"], off["source"]) == ("off", "gpt-5", "row, stands before a file")
    assert run("agents", "restore", "release-notes").returncode == 0
    assert facts(run("agents", "show", "release-notes"))["state"] == "on"

    (dev.cwd / "new.md").write_text(OWN.replace("Release notes", "Changelog"))
    new = run("agents", "set", "changelog", "new.md")
    assert (facts(new)["name"], facts(new)["source"]) == ("Changelog", "row")
    assert run("agents", "restore", "changelog").returncode == 0
    assert run("agents", "show", "changelog").returncode == 5


def test_what_is_wrong_with_an_agent_is_said(run: Run, dev: DevProcess) -> None:
    (dev.cwd / "wrong.md").write_text(OWN.replace('"github"', '"shell"'))
    wrong = run("agents", "set", "wrong", "wrong.md")
    assert (wrong.returncode, "wrong.md, line 4, tools[0]" in wrong.stderr) == (2, True)
    for arguments, code, said in (
        (("set", "general"), 2, "nothing to change"),
        (("set", "general", "--model", "gpt-99"), 2, "known: "),
        (("set", "A b", "own/release-notes.md"), 2, "slug"),
        (("restore", "general"), 1, "as its file"),
    ):
        done = run("agents", *arguments)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_a_start_names_the_file_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "seo.md").write_text(OWN.replace("tools", "tolls"))
    settings = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "JWT_SECRET": "mX2vQ9sLw4Rk7TzB1nYc6HdJ0pGfE8ua",
        "SMTP_HOST": "127.0.0.1",
        "PORT": "0",
        "AGENTS_DIR": "own",
    }
    for command in ("serve", "check"):
        done = gateway(command, cwd=tmp_path, **settings)
        assert done.returncode == 1
        assert "own/seo.md, line 4, tolls: unknown field" in done.stderr + done.stdout
    nowhere = gateway("check", cwd=tmp_path, **settings | {"AGENTS_DIR": "nowhere"})
    assert (nowhere.returncode, "AGENTS_DIR" in nowhere.stderr, "no directory" in nowhere.stderr) == (1, True, True)
