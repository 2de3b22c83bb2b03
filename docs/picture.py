"""``python -m docs.picture``: draw the first run again, from a real ``gateway dev`` and the call that it prints.

Writes ``first-run-light.svg`` and ``first-run-dark.svg``. Runs with ``LOG_LEVEL=warning``, so that the picture has the
facts and not the log; needs port 3003 to be free, because that is the one people see.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME
from rich.text import Text

from gateway.dev_servers import EmbeddedPostgres

PICTURES = Path(__file__).resolve().parent / "pictures"
COLUMNS = 104
DEADLINE_S = 60.0
THEMES = {"light": DEFAULT_TERMINAL_THEME, "dark": SVG_EXPORT_THEME}
# No address of a font: a picture in a repository loads nothing from anywhere.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code, monospace", "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
)


BASH = "/bin/bash"


@dataclass(frozen=True)
class Step:
    """What was typed and what was shown; ``remark`` stands above it."""

    remark: str
    typed: str
    shown: str


class Terminal:
    """A process at a terminal of its own; ``text`` is what it has shown."""

    def __init__(self, arguments: list[str], directory: Path) -> None:
        self.text = ""
        self._ours, theirs = pty.openpty()
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "LOG_LEVEL": "warning", "TERM": "xterm"}
        self._process = subprocess.Popen(
            arguments,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=directory,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)

    def read_until(self, pattern: str) -> re.Match[str]:
        """Raises TimeoutError when it does not come."""
        deadline = time.monotonic() + DEADLINE_S
        while (found := re.search(pattern, self.text, re.DOTALL)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{pattern!r} did not come:\n{self.text}")
            if select.select([self._ours], [], [], 0.1)[0]:
                self.text += os.read(self._ours, 65_536).decode("utf-8", "replace").replace("\r\n", "\n")
        return found

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE_S)
        os.close(self._ours)


def first_run() -> list[Step]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        # As on a second start: preparing the data is said once, and is no part of the picture.
        prepared = EmbeddedPostgres(directory / ".gateway" / "postgres")
        prepared.start()
        prepared.stop()
        terminal = Terminal([str(Path(sys.executable).with_name("gateway")), "dev"], directory)
        try:
            call = terminal.read_until(r"Try it +(curl .*?')\n\n.*shows this again\n")[1]
            banner = terminal.text[terminal.text.index("\n  Gateway ") :].rstrip()
            shown = len(terminal.text)
            answer = _shell(call)
            terminal.read_until(r"caught by the inbox → \S+\n")
            caught = terminal.text[shown:].strip("\n")
            inbox = caught.rpartition("→ ")[2].strip().rpartition("/")[0].replace("127.0.0.1", "localhost")
            mails = _shell(f"curl -s {inbox}")
        finally:
            terminal.stop()
    typed = re.sub(r"\\\n +", "\\\n       ", call)
    return [
        Step("", "make dev", banner),
        Step("# in another terminal", typed, answer),
        Step("", f"curl {inbox}", mails),
        Step("# the first terminal says meanwhile", "", caught),
    ]


def _shell(command: str) -> str:
    done = subprocess.run([BASH, "-c", command], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def draw(steps: list[Step], theme: str) -> str:
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, legacy_windows=False)
    for step in steps:
        if step.remark:
            console.print(Text(step.remark, style="dim"))
        if step.typed:
            console.print(Text("$ ", style="green") + Text(step.typed, style="bold"))
        console.print(Text(step.shown), highlight=False)
        console.print()
    return console.export_svg(title="gateway dev", theme=THEMES[theme], code_format=FORMAT, unique_id="first-run")


def main() -> None:
    steps = first_run()
    PICTURES.mkdir(exist_ok=True)
    for theme in THEMES:
        picture = draw(steps, theme)
        (PICTURES / f"first-run-{theme}.svg").write_text(
            "\n".join(line.rstrip() for line in picture.splitlines()) + "\n", "utf-8"
        )


if __name__ == "__main__":
    main()
