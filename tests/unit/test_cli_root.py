"""The command line before any command runs: help, version, mistakes."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from gateway import __version__
from gateway.cli.root import COMMANDS, main

ALLOWED = {"gateway", "gateway.cli"}
HEAVY = {"litestar", "asyncpg", "redis", "saq", "pydantic", "httpx", "openai", "aiosmtplib", "rich"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["version"]])
def test_help_and_version_import_no_application(arguments: list[str]) -> None:
    code = f"import sys, gateway.cli\nassert gateway.cli.main({arguments!r}) == 0\nprint('\\nMODULES', *sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.rpartition("MODULES ")[2].split()
    ours = {name for name in modules if name.split(".")[0] == "gateway" and not name.startswith("gateway.cli.")}
    assert ours <= ALLOWED
    assert not {name.split(".")[0] for name in modules} & (HEAVY - {"rich"} if arguments == ["version"] else HEAVY)


@pytest.mark.parametrize("verb", list(COMMANDS))
def test_every_verb_has_help_that_imports_no_application(verb: str) -> None:
    code = (
        "import sys, gateway.cli\n"
        f"assert gateway.cli.main([{verb!r}, '--help']) == 0\n"
        "print('\\nMODULES', *sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.rpartition("MODULES ")[2].split()
    assert not {name.split(".")[0] for name in modules} & {"litestar", "asyncpg", "saq", "pydantic", "redis"}
    # A group's --json stands in the help of its commands.
    assert "--json" in done.stdout or isinstance(COMMANDS[verb].load(), click.Group)


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


def test_version_as_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gateway {__version__}\n"
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gateway"] == __version__


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["qeues"], '"queues"'),
        (["queues", "shwo"], '"show"'),
        (["xyzzy"], "known: dev, serve"),
        (["version", "--jsn"], "--json"),
    ],
)
def test_near_misses_suggest(arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert hint in capsys.readouterr().err


def test_json_errors_are_json_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "qeues"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert json.loads(shown.err)["error"]["code"] == "usage"


def test_a_closed_pipe_is_no_failure() -> None:
    command = f"{sys.executable} -m gateway config docs | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
