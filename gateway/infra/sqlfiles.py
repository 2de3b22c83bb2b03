"""Named SQL: one statement per file, with a header that says why it exists and what it is given.

    -- purpose: Take up to $2 ready jobs of a queue.
    -- $1 queue text: the queue's name
    -- $2 limit int: most jobs to take
    SELECT ...

Files are read once, at import; a wrong header stops the process there and not at the first use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files

from gateway.infra.namedfiles import NamedFiles

_PURPOSE = re.compile(r"^--\s*purpose:\s*(\S.*)$")
_PARAM = re.compile(r"^--\s*\$(\d+)\s+(\w+)\s+([^:]+?)\s*:\s*(\S.*)$")
# Text in which `$1` or `;` mean nothing: literals, quoted names and comments.
_OPAQUE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_USED = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One ``$n`` of a statement, as its header describes it."""

    number: int
    name: str
    type: str
    meaning: str


@dataclass(frozen=True, slots=True)
class SqlFile:
    """One statement: ``text`` is what the server gets, without header and final semicolon."""

    name: str
    purpose: str
    params: tuple[Parameter, ...]
    text: str


SqlFiles = NamedFiles[SqlFile]


def load_sql(package: str, folder: str = "sql") -> SqlFiles:
    """Read ``<package>/<folder>/*.sql``. Raises ``ValueError`` naming the file and what is wrong with it."""
    directory = files(package).joinpath(folder)
    if not directory.is_dir():
        raise ValueError(f"{package} has no folder {folder}/")
    found = sorted(entry.name for entry in directory.iterdir() if entry.name.endswith(".sql"))
    entries = {
        name.removesuffix(".sql"): parse_sql(
            name.removesuffix(".sql"), directory.joinpath(name).read_text("utf-8"), f"{package}/{folder}/{name}"
        )
        for name in found
    }
    return SqlFiles(entries)


def parse_sql(name: str, source: str, where: str) -> SqlFile:
    """Split one file into header and statement and check one against the other. Raises ``ValueError``."""
    header, body = _split(source)
    purpose = next((match[1] for line in header if (match := _PURPOSE.match(line))), None)
    if purpose is None:
        raise ValueError(f"{where}: the header has no line '-- purpose: ...'")
    params = tuple(
        Parameter(int(match[1]), match[2], match[3], match[4]) for line in header if (match := _PARAM.match(line))
    )
    text = body.strip().removesuffix(";").rstrip()
    bare = _OPAQUE.sub(" ", text)
    if not bare.strip():
        raise ValueError(f"{where}: there is no statement")
    if ";" in bare:
        raise ValueError(f"{where}: more than one statement")
    _check_params(params, {int(number) for number in _USED.findall(bare)}, where)
    return SqlFile(name, purpose, params, text)


def _split(source: str) -> tuple[list[str], str]:
    lines = source.splitlines()
    end = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("--")), len(lines))
    return lines[:end], "\n".join(lines[end:])


def _check_params(params: tuple[Parameter, ...], used: set[int], where: str) -> None:
    described = [param.number for param in params]
    if len(set(described)) != len(described):
        raise ValueError(f"{where}: a parameter is described twice")
    missing = sorted(used - set(described))
    if missing:
        raise ValueError(f"{where}: no header line '-- $n name type: meaning' for {_dollars(missing)}")
    unused = sorted(set(described) - used)
    if unused:
        raise ValueError(f"{where}: the header describes {_dollars(unused)}, which the statement does not use")


def _dollars(numbers: list[int]) -> str:
    return ", ".join(f"${number}" for number in numbers)
