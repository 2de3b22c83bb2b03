"""How wrong settings are told to people: all at once, what was seen, what to do (docs/settings.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SECRET_HINT = "Set 32 or more random bytes:  openssl rand -hex 32"


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """``name`` of the variable, what was ``seen`` (secrets masked), and the ``fix``: one line or more."""

    name: str
    seen: str
    fix: str


class SettingsError(Exception):
    """The process cannot start with these settings. ``str()`` is the whole message for the terminal."""

    def __init__(self, problems: Sequence[SettingProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__(_message(self.problems))


def _message(problems: Sequence[SettingProblem]) -> str:
    many = "1 setting needs" if len(problems) == 1 else f"{len(problems)} settings need"
    column = max(len(problem.name) for problem in problems) + 1
    lines = [f"Cannot start: {many} attention", ""]
    for problem in problems:
        lines.append(f"  {problem.name:<{column}}{problem.seen}")
        lines.extend(f"  {'':<{column}}{line}" for line in problem.fix.splitlines())
    lines += ["", "  All settings: gateway config docs"]
    return "\n".join(lines)
