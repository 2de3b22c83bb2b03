"""Lua scripts for Redis: one operation per file, with a header that says what it promises and what it is given.

    -- guarantee: An id is in the ready set at most once.
    -- KEYS[1] ready: sorted set of ready job ids
    -- ARGV[1] now: milliseconds since 1970
    -- ARGV[2...] ids: the jobs, any number
    -- returns: how many were new
    --- @include "pop"

``--- @include "pop"`` is replaced by ``<folder>/include/pop.lua``, once per script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from gateway.infra.namedfiles import NamedFiles

_GUARANTEE = re.compile(r"^--\s*guarantee:\s*(\S.*)$")
_RETURNS = re.compile(r"^--\s*returns:\s*(\S.*)$")
_ARGUMENT = re.compile(r"^--\s*(KEYS|ARGV)\[(\d+)(\.\.\.)?\]\s+(\w+)\s*:\s*(\S.*)$")
_INCLUDE = re.compile(r'^--- @include "([\w-]+)"\s*$')
_USED = re.compile(r"\b(KEYS|ARGV)\[(\d+)\]")
_COMMENT = re.compile(r"--\[\[.*?\]\]|--[^\n]*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LuaArgument:
    """One ``KEYS[n]`` or ``ARGV[n]``; ``rest`` when it stands for that one and all that follow."""

    array: str
    number: int
    rest: bool
    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class LuaFile:
    """One script: ``text`` is what the server gets, with its includes put in."""

    name: str
    guarantee: str
    returns: str
    arguments: tuple[LuaArgument, ...]
    text: str


LuaFiles = NamedFiles[LuaFile]


def load_lua(package: str, folder: str = "lua") -> LuaFiles:
    """Read ``<package>/<folder>/*.lua``. Raises ``ValueError`` naming the file and what is wrong with it."""
    directory = files(package).joinpath(folder)
    if not directory.is_dir():
        raise ValueError(f"{package} has no folder {folder}/")
    parts = _read(directory.joinpath("include"))
    return LuaFiles(
        {
            name: parse_lua(name, source, parts, f"{package}/{folder}/{name}.lua")
            for name, source in _read(directory).items()
        }
    )


def _read(directory: Traversable) -> dict[str, str]:
    if not directory.is_dir():
        return {}
    found = sorted(
        (entry for entry in directory.iterdir() if entry.name.endswith(".lua")), key=lambda entry: entry.name
    )
    return {entry.name.removesuffix(".lua"): entry.read_text("utf-8") for entry in found}


def parse_lua(name: str, source: str, parts: Mapping[str, str], where: str) -> LuaFile:
    """Check one script's header against its code and put its includes in. Raises ``ValueError``."""
    lines = source.splitlines()
    end = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("--")), len(lines))
    header = lines[:end]
    guarantee = next((match[1] for line in header if (match := _GUARANTEE.match(line))), None)
    returns = next((match[1] for line in header if (match := _RETURNS.match(line))), None)
    if guarantee is None or returns is None:
        raise ValueError(f"{where}: the header needs the lines '-- guarantee: ...' and '-- returns: ...'")
    arguments = tuple(
        LuaArgument(match[1], int(match[2]), match[3] is not None, match[4], match[5])
        for line in header
        if (match := _ARGUMENT.match(line))
    )
    text = "\n".join(_include(lines, parts, set(), where)) + "\n"
    _check_arguments(arguments, _COMMENT.sub("", text), where)
    return LuaFile(name, guarantee, returns, arguments, text)


def _include(lines: list[str], parts: Mapping[str, str], done: set[str], where: str) -> Iterator[str]:
    for line in lines:
        match = _INCLUDE.match(line)
        if match is None:
            yield line
        elif match[1] not in parts:
            raise ValueError(f'{where}: there is no include/{match[1]}.lua for --- @include "{match[1]}"')
        elif match[1] not in done:
            done.add(match[1])
            yield from _include(parts[match[1]].splitlines(), parts, done, where)


def _check_arguments(arguments: tuple[LuaArgument, ...], code: str, where: str) -> None:
    used = {(array, int(number)) for array, number in _USED.findall(code)}
    for array, number in sorted(used):
        if not any(
            one.array == array and (one.number == number or (one.rest and number >= one.number)) for one in arguments
        ):
            raise ValueError(f"{where}: no header line '-- {array}[{number}] name: meaning'")
    for one in arguments:
        if not one.rest and (one.array, one.number) not in used:
            raise ValueError(f"{where}: the header describes {one.array}[{one.number}], which the script does not use")
