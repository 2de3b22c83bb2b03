"""What an examination found, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from gateway.settings import Settings

_SECRET_MIN = 4  # characters; a shorter one would take ordinary words along


class Level(StrEnum):
    OK = "ok"
    SKIPPED = "not checked"
    WARNING = "warning"
    PROBLEM = "problem"


class Verdict(IntEnum):
    """The exit codes: nothing to do, something to look at, something that is broken."""

    OK = 0
    WARNINGS = 1
    PROBLEMS = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """``seen``: what was found; ``todo``: what to do about it, empty when there is nothing to do."""

    name: str
    level: Level
    seen: str
    todo: str = ""


def ok(name: str, seen: str) -> Finding:
    return Finding(name, Level.OK, seen)


def warning(name: str, seen: str, todo: str) -> Finding:
    return Finding(name, Level.WARNING, seen, todo)


def problem(name: str, seen: str, todo: str) -> Finding:
    return Finding(name, Level.PROBLEM, seen, todo)


def skipped(name: str, why: str) -> Finding:
    return Finding(name, Level.SKIPPED, why)


def verdict(findings: Iterable[Finding]) -> Verdict:
    levels = {finding.level for finding in findings}
    if Level.PROBLEM in levels:
        return Verdict.PROBLEMS
    return Verdict.WARNINGS if Level.WARNING in levels else Verdict.OK


def plain(findings: Sequence[Finding]) -> dict[str, Any]:
    """For ``--json``."""
    return {"status": verdict(findings).name.lower(), "findings": [asdict(finding) for finding in findings]}


def without_secrets(findings: Iterable[Finding], settings: Settings) -> list[Finding]:
    """Servers repeat what they were given: no secret of the settings is in what is shown."""
    secrets = sorted(_secrets(settings), key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "•••")
        return text

    return [replace(finding, seen=clean(finding.seen), todo=clean(finding.todo)) for finding in findings]


def _secrets(settings: Settings) -> set[str]:
    found = set()
    for field in type(settings).model_fields:
        value = getattr(settings, field)
        if hasattr(value, "get_secret_value"):
            found.add(value.get_secret_value())
        elif isinstance(value, str) and "://" in value and (password := urlsplit(value).password):
            found |= {password, unquote(password)}
    return {secret for secret in found if len(secret) >= _SECRET_MIN}
