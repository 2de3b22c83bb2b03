"""What an agent must answer: fields that all have, the actions that its tools allow, fields of its own. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

import msgspec

from gateway.llm.schema import schema_problem


class Tool(StrEnum):
    """What an agent may be given: context (``github``: the analysis of the project's repository), and actions."""

    GITHUB = "github"
    CREATE_TASK = "create_task"
    SEND_EMAIL = "send_email"
    COMMENT_ISSUE = "comment_issue"
    OPEN_ISSUE = "open_issue"


SCHEMA_MAX_BYTES: Final = 16_000  # of one agent's own fields, as JSON
SCHEMA_MAX_DEPTH: Final = 12
FIELDS_MAX: Final = 20  # of an agent's own
_KEYWORDS: Final = ("type", "properties", "required", "additionalProperties", "description", "$defs")

Schema = dict[str, Any]


def _object(**properties: Schema) -> Schema:
    """Closed, and every property required: what strict structured output demands."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


_TITLE: Final = _text("One line of at most 120 characters that says what, and where")
_PRIORITY: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 10, "description": "10 is the most urgent"}
_POINT: Final = _object(title=_TITLE, detail=_text("Why, how, and how one sees that it is done"), priority=_PRIORITY)

# What an action is given, by its name. Strict output has no maxLength: lengths are checked when it is recorded.
ACTION_ARGUMENTS: Final[dict[Tool, Schema]] = {
    Tool.CREATE_TASK: _POINT,
    Tool.SEND_EMAIL: _object(
        to={
            "type": "array",
            "items": _text("A mail address that stands in the data"),
            "minItems": 1,
            "maxItems": 10,
        },
        subject=_text("One line"),
        text=_text("Plain text"),
    ),
    Tool.COMMENT_ISSUE: _object(
        number={"type": "integer", "minimum": 1, "description": "Of the issue or pull request"},
        body=_text("Markdown"),
    ),
    Tool.OPEN_ISSUE: _object(title=_TITLE, body=_text("Markdown")),
}
COMMON_FIELDS: Final = ("summary", "suggestions", "tasks", "actions")


def output_schema(tools: Iterable[Tool], own: Schema | None) -> Schema:
    """The whole schema. An agent without tools that act has no ``actions``, so that it cannot ask for one. Its own
    fields are all required: what may be missing is declared as nullable."""
    fields: dict[str, Schema] = {
        "summary": _text("What was found, in two to five sentences"),
        "suggestions": {
            "type": "array",
            "items": _POINT,
            "maxItems": 10,
            "description": "What people should decide on, the most useful first; empty if there is nothing",
        },
        "tasks": {
            "type": "array",
            "items": _POINT,
            "maxItems": 10,
            "description": "Work that is clear enough to be done without asking; empty if there is none",
        },
    }
    allowed = [_action(tool) for tool in tools if tool in ACTION_ARGUMENTS]
    if allowed:
        fields["actions"] = {
            "type": "array",
            "items": {"anyOf": allowed},
            "maxItems": 10,
            "description": "What shall be done now, subject to the project's policy; empty is the rule",
        }
    own = own or {}
    whole = _object(**fields, **own.get("properties", {}))
    return whole | ({"$defs": own["$defs"]} if "$defs" in own else {})


def own_schema_problem(own: Any) -> str | None:
    """Why these cannot be fields of an agent's own; None if they can."""
    if not isinstance(own, dict):
        return "must be a JSON Schema object"
    unknown = sorted(str(name)[:40] for name in own if name not in _KEYWORDS)
    if unknown:
        return f'has "{unknown[0]}"; at the top it may have {", ".join(_KEYWORDS)}'
    if _depth(own) > SCHEMA_MAX_DEPTH:
        return f"is nested deeper than {SCHEMA_MAX_DEPTH} levels"
    size = len(msgspec.json.encode(own))
    if size > SCHEMA_MAX_BYTES:
        return f"has {size} bytes as JSON, at most {SCHEMA_MAX_BYTES} are allowed"
    if problem := _properties_problem(own.get("properties")):
        return problem
    return schema_problem({"type": "object"} | own)


def _properties_problem(properties: Any) -> str | None:
    if not isinstance(properties, dict) or not properties:
        return 'needs "properties": an object with a JSON Schema for each field'
    if len(properties) > FIELDS_MAX:
        return f"has {len(properties)} properties, at most {FIELDS_MAX} are allowed"
    taken = [name for name in COMMON_FIELDS if name in properties]
    return f"may not define {', '.join(taken)}: every agent has these" if taken else None


def _action(name: Tool) -> Schema:
    return _object(
        action={"type": "string", "enum": [str(name)]},
        arguments=ACTION_ARGUMENTS[name],
        rationale=_text("Why now, in one sentence, for whoever approves it"),
    )


def _depth(value: Any) -> int:
    """Levels of objects and lists. Not recursive: the value comes from a stranger."""
    deepest, level = 0, [value]
    while level and deepest <= SCHEMA_MAX_DEPTH:
        inner = [
            each
            for one in level
            for each in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
        ]
        deepest += 1
        level = [each for each in inner if isinstance(each, dict | list)]
    return deepest
