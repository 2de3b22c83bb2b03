"""Definitions of agents: their fields and bounds, and reading them from files. Pure but for reading files.

A file is ``<slug>.md``: TOML between two lines ``+++``, then the prompt.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from gateway.infra.lifecycle import StartError
from gateway.services.orchestration.agent_schema import Tool, own_schema_problem

SLUG: Final = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
SLUG_MAX: Final = 60
SLUG_RULE: Final = f"1 to {SLUG_MAX} small letters, digits, and single - or _ between them, beginning with a letter"
PROMPT_MAX: Final = 20_000  # characters
FILE_MAX_BYTES: Final = 128_000
FILES_MAX: Final = 100
_FENCE: Final = "+++"
_LINE: Final = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")
_PLACE: Final = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_NAMED: Final = re.compile(r"field `(?P<name>[^`]*)`")

_Line = Annotated[str, msgspec.Meta(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Description = Annotated[str, msgspec.Meta(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Tools = Annotated[list[Tool], msgspec.Meta(max_length=len(Tool))]
_Model = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
_Prompt = Annotated[str, msgspec.Meta(min_length=1, max_length=PROMPT_MAX, pattern=r"^[^\x00]*$")]
_Tokens = Annotated[int, msgspec.Meta(ge=256, le=65_536)]
_Seconds = Annotated[int, msgspec.Meta(ge=5, le=3600)]


class AgentHeader(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``tools``: what it is given and may ask for. ``model``: a name of the price table; without it, the default of the
    settings. ``outputSchema``: a JSON Schema (an object with ``properties``) of fields beside those that every agent
    answers; all of them are required."""

    name: _Line
    description: _Description
    tools: _Tools = []
    model: _Model | None = None
    output_schema: dict[str, Any] | None = None
    max_output_tokens: _Tokens = 4096
    timeout_s: _Seconds = 180
    enabled: bool = True


class AgentBody(AgentHeader, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """An agent whole, but for its slug. ``prompt``: at most 20,000 characters."""

    prompt: _Prompt

    def problem(self) -> tuple[str, str] | None:
        """Field and message of what the types cannot say; None if it is sound."""
        if len(set(self.tools)) < len(self.tools):
            return "tools", "names a tool twice"
        for field, text in (("name", self.name), ("description", self.description), ("prompt", self.prompt)):
            if not text.strip():
                return field, "is empty"
            if field != "prompt" and text.endswith("\n"):  # a pattern's $ lets it pass
                return field, "must be one line"
        if self.output_schema is not None and (said := own_schema_problem(self.output_schema)):
            return "outputSchema", said
        return None


_FIELDS: Final = tuple(name for name in AgentBody.__struct_encode_fields__ if name != "prompt")


class AgentFilesWrong(StartError):
    """Files of agents that cannot be read. The message has a line for each problem: file, line, field."""


class _Wrong(Exception):
    def __init__(self, line: int | None, field: str, message: str) -> None:
        place = ", ".join(part for part in (f"line {line}" if line else "", field) if part)
        super().__init__(f"{place}: {message}" if place else message)


def read_agents(directory: Path) -> dict[str, AgentBody]:
    """The agents of the files ``*.md``, by slug. Raises ``AgentFilesWrong`` naming every file that is wrong."""
    found: dict[str, AgentBody] = {}
    problems: list[str] = []
    for path in _files(directory):
        try:
            found[_slug_of(path)] = parse_agent(_text_of(path))
        except _Wrong as error:
            problems.append(f"{path}, {error}")
    if len(found) > FILES_MAX:
        problems.append(f"{directory} holds {len(found)} agents, at most {FILES_MAX} are read")
    if problems:
        raise AgentFilesWrong("Agents cannot be read. " + "\n".join(problems))
    return found


def read_agent(path: Path) -> AgentBody:
    """The agent of one file, whatever its name. Raises ``AgentFilesWrong``."""
    try:
        return parse_agent(_text_of(path))
    except _Wrong as error:
        raise AgentFilesWrong(f"{path}, {error}") from None


def slug_problem(slug: str) -> str | None:
    return None if len(slug) <= SLUG_MAX and SLUG.fullmatch(slug) else f"must be {SLUG_RULE}"


def parse_agent(text: str) -> AgentBody:
    """Raises an exception that names line and field."""
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() != _FENCE:
        raise _Wrong(1, "", f"must be {_FENCE}: the fields stand as TOML between two such lines, then comes the prompt")
    end = next((at for at, line in enumerate(lines) if at and line.rstrip() == _FENCE), None)
    if end is None:
        raise _Wrong(1, "", f"there is no second line {_FENCE}, which ends the fields")
    fields = ["", *lines[1:end]]  # numbered as in the file
    try:
        raw = tomllib.loads("\n".join(fields))
    except tomllib.TOMLDecodeError as error:
        raise _Wrong(_line_of(str(error), end + 1), "", _LINE.sub("", str(error)).strip()) from None
    if "prompt" in raw:
        raise _Wrong(_where("prompt", fields), "prompt", f"belongs below the second line {_FENCE}")
    prompt = "\n".join(lines[end + 1 :]).strip()
    if not prompt:
        raise _Wrong(end + 1, "prompt", f"there is none below the second line {_FENCE}")
    try:
        plain = msgspec.json.decode(msgspec.json.encode(raw))  # TOML has dates, and numbers that JSON has not
        body = msgspec.convert({**plain, "prompt": prompt}, AgentBody)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), fields, end + 2) from None
    if said := body.problem():
        raise _Wrong(_where(said[0], fields), *said)
    return body


def _files(directory: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in directory.iterdir() if path.suffix == ".md")
    except OSError as error:
        raise AgentFilesWrong(f"AGENTS_DIR {directory} cannot be read: {error.strerror}") from error


def _slug_of(path: Path) -> str:
    if said := slug_problem(path.stem):
        raise _Wrong(None, "name of the file", said)
    return path.stem


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_MAX_BYTES:
            raise _Wrong(None, "", f"the file is larger than {FILE_MAX_BYTES} bytes")
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise _Wrong(None, "", f"the file is not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise _Wrong(None, "", f"the file cannot be read: {error.strerror}") from None


def _misfit(said: str, fields: list[str], prompt_at: int) -> _Wrong:
    place = _PLACE.search(said)
    path = place["path"] if place else ""
    message = (said[: place.start()] if place else said).replace("`", "")
    named = _NAMED.search(said)
    name = path or (named["name"] if named else "")
    top = re.split(r"[.\[]", name)[0]
    if top == "tools":
        message += f"; known: {', '.join(Tool)}"
    elif named is not None and not path and top not in _FIELDS:
        message = f"unknown field; known: {', '.join(_FIELDS)}"
    return _Wrong(prompt_at if top == "prompt" else _where(top, fields), name, message[:1].lower() + message[1:])


def _where(field: str, lines: list[str]) -> int:
    """The line on which a field of the top level is given; 1 if it is not."""
    given = re.compile(rf"\s*(?:\[\[?\s*)?\"?{re.escape(field)}\"?\s*[=.\]]")
    return next((at for at, line in enumerate(lines, 1) if given.match(line)), 1)


def _line_of(message: str, last: int) -> int:
    found = _LINE.search(message)
    return int(found[1]) if found and found[1] else last
