"""Answers that must fit a JSON Schema: read and checked. No schema makes this process call an address."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_FENCE: Final = re.compile(r"\A\s*```[\w-]*[ \t]*\n(?P<inside>.*?)\n?\s*```\s*\Z", re.DOTALL)
_PROBLEMS_MAX: Final = 5  # told to the model, and to people
_SEEN_MAX: Final = 300  # characters of one problem


class Misfit(Exception):
    """An answer that is no JSON object, or does not fit. The message is for the model as well as for people."""


def read_answer(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The object in ``text``, which may stand in a code fence. Raises ``Misfit``."""
    try:
        value = msgspec.json.decode(_bare(text))
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise Misfit(f"It is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise Misfit(f"It is JSON, but not an object: it is {_kind(value)}.")
    problems = []
    for found in _validator(schema).iter_errors(value):
        where = "/".join(str(step) for step in found.instance_path)
        problems.append(f"{where or 'the object'}: {found.message}"[:_SEEN_MAX])
        if len(problems) == _PROBLEMS_MAX:
            break
    if problems:
        raise Misfit("It does not fit the schema: " + "; ".join(problems) + ".")
    return value


def schema_problem(schema: dict[str, Any]) -> str | None:
    """Why this cannot be demanded of a model; None if it can. For schemas that people write."""
    if schema.get("type") != "object":
        return 'its "type" must be "object"'
    try:
        _validator(schema)
    except ValueError as error:
        return str(error).splitlines()[0]
    return None


def is_strict(schema: Any) -> bool:
    """Whether OpenAI's strict mode takes it: every object closed, and all its properties required."""
    if isinstance(schema, list):
        return all(is_strict(each) for each in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or properties is not None:
        closed = schema.get("additionalProperties") is False
        if not closed or set(schema.get("required", ())) != set(properties or ()):
            return False
    return all(is_strict(each) for key, each in schema.items() if key not in ("enum", "const", "default", "examples"))


def _validator(schema: dict[str, Any]) -> Any:
    """Raises ValueError for what is no schema."""
    import jsonschema_rs  # noqa: PLC0415  # 8 MB that a process without schemas does not need

    # The linear-time engine: patterns are written by people, texts by models.
    return jsonschema_rs.Draft202012Validator(
        schema, retriever=_refuse, pattern_options=jsonschema_rs.RegexOptions(size_limit=1_000_000)
    )


def _refuse(address: str) -> Any:
    """References to other documents are not followed: no schema makes this process call an address."""
    raise ValueError(f"refers to another document: {address}")


def _bare(text: str) -> str:
    fenced = _FENCE.match(text)
    return fenced["inside"] if fenced else text


def _kind(value: Any) -> str:
    match value:
        case list():
            return "a list"
        case str():
            return "a string"
        case None:
            return "null"
    return "a number" if not isinstance(value, bool) else "true or false"
