"""The README's commands, run as they stand there against a real ``gateway dev``.

Above each block of code a comment says what happens to it: ``run, prints: PATTERN``; ``run until, prints: PATTERN`` for
what becomes true a moment later; ``not run: REASON``.
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.cli.banner import QUEUES, DevFacts, curl, for_people
from gateway.services.email.sandbox import INBOX_PATH
from tests.support.dev_process import DevProcess, clean_environment
from tests.support.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCK = re.compile(r"(?:<!-- (?P<how>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)```\n", re.DOTALL)
RUN = re.compile(r"run(?P<until> until)?, prints: (?P<pattern>.+)")
ADDRESS = "http://localhost:3003"
INTERPRETERS = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    how: str

    @property
    def runs(self) -> re.Match[str] | None:
        return RUN.fullmatch(self.how)


def blocks() -> list[Block]:
    return [Block(found["language"], found["code"], found["how"] or "") for found in BLOCK.finditer(README)]


@pytest.fixture
def dev(server_directory: Path) -> Iterator[DevProcess]:
    directory = server_directory / f"readme-{os.getpid()}"
    directory.mkdir()
    process = DevProcess(directory, "--port", "0")
    yield process
    process.stop()


def test_every_block_says_whether_it_runs() -> None:
    assert [b.code for b in blocks() if not (b.runs or re.fullmatch("not run: .{10,}", b.how))] == []
    assert sum(b.runs is not None for b in blocks()) >= 6
    assert len(blocks()) * 2 == len(re.findall(r"^```", README, re.MULTILINE))


async def test_the_blocks_run_and_print_what_they_promise(dev: DevProcess) -> None:
    address = (await dev.ready())["url"]
    for block in blocks():
        if (wanted := block.runs) is None:
            continue

        def run(block: Block = block, pattern: str = wanted["pattern"]) -> bool:
            done = run_block(block, address, dev.cwd)
            assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
            assert re.search(pattern, done.stdout), f"{block.code}\n{done.stdout}\n{done.stderr}"
            return True

        if wanted["until"]:
            await eventually(run, 30)
        else:
            run()


def run_block(block: Block, address: str, directory: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [*INTERPRETERS[block.language], block.code.replace(ADDRESS, address)],
        cwd=directory,
        env=clean_environment() | {"PATH": path, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


FACTS = DevFacts(
    url=ADDRESS,
    inbox_url=f"{ADDRESS}{INBOX_PATH}",
    token="dev",
    queues=QUEUES,
    redis_url=None,
    data_dir=Path(".gateway"),
    pid=1,
)


def test_the_first_call_is_the_one_that_dev_prints() -> None:
    assert "```sh\n" + curl(FACTS, " \\\n  ") + "\n```" in README


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_picture_shows_what_dev_prints_now_and_loads_nothing(theme: str) -> None:
    """Draw it again: python -m docs.picture"""
    picture = (ROOT / "docs" / "pictures" / f"first-run-{theme}.svg").read_text("utf-8")
    shown = {html.unescape(line).replace("\xa0", " ").strip() for line in re.findall(">([^<>]+)</text>", picture)}
    assert [line for line in for_people(FACTS).splitlines() if line.strip() not in shown | {""}] == []
    assert not re.search(r"url\([\"']?http|@import|<image|<script", picture)
    assert f"docs/pictures/first-run-{theme}.svg" in README
