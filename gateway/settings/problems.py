"""How wrong settings are told to people: all at once, what was seen, what to do (docs/settings.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.settings.show import SettingRow

SECRET_HINT = "Set 32 or more random bytes:  openssl rand -hex 32"


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """``name`` of the variable, what was ``seen`` (secrets masked), and the ``fix``: one line or more."""

    name: str
    seen: str
    fix: str


class SettingsError(Exception):
    """The process cannot start with these settings. ``str()`` is the whole message for the terminal.

    ``warnings`` are said with the problems: a typing error in a name is often why another one is missing. ``rows``:
    all settings as far as they could be read.
    """

    def __init__(
        self, problems: Sequence[SettingProblem], warnings: Sequence[str] = (), rows: Sequence[SettingRow] = ()
    ) -> None:
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)
        self.rows = tuple(rows)
        super().__init__(self.told("Cannot start"))

    def told(self, cannot: str) -> str:
        """The message, begun with what cannot be done: ``Cannot start``."""
        return _message(cannot, self.problems, self.warnings)


def _message(cannot: str, problems: Sequence[SettingProblem], warnings: Sequence[str]) -> str:
    many = "1 setting needs" if len(problems) == 1 else f"{len(problems)} settings need"
    column = max(len(problem.name) for problem in problems) + 1
    lines = [f"{cannot}: {many} attention", ""]
    for problem in problems:
        lines.append(f"  {problem.name:<{column}}{problem.seen}")
        lines.extend(f"  {'':<{column}}{line}" for line in problem.fix.splitlines())
    lines += ["", *(f"  warning: {warning}" for warning in warnings)] if warnings else []
    lines += ["", "  All settings: gateway config docs"]
    return "\n".join(lines)
