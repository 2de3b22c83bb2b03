"""How a command ends. The numbers are part of the interface: scripts branch on them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    NOTHING_MATCHED = 5


class CliError(Exception):
    """Ends the command with ``exit_code`` and ``message`` on stderr: what is wrong, what was seen, what to do."""

    def __init__(self, message: str, exit_code: Exit = Exit.FAILED, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.code = code or exit_code.name.lower()
