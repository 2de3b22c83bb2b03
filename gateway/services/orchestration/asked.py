"""What an agent's answer asks for: points and actions, bounded, cleaned, checked against what it is allowed. Pure."""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from gateway.infra.uuid7 import uuid7
from gateway.services.orchestration.actions import (
    DETAIL_MAX,
    RATIONALE_MAX,
    TITLE_MAX,
    ActionKind,
    read_arguments,
    storable,
)
from gateway.services.orchestration.github.text import clean, clean_markdown

POINTS_MAX: Final = 20  # suggestions, and tasks, of one answer (T52)
ACTIONS_MAX: Final = 10
_NAME_MAX: Final = 64


class AgentFacts(Protocol):
    """An agent: ``tools`` are the actions (and sources) that it is allowed."""

    @property
    def slug(self) -> str: ...

    @property
    def tools(self) -> tuple[str, ...]: ...


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One action that an agent wants. ``kind`` None: there is none of the name ``action``. ``refusal``: why it is out
    of the question whatever the policy says; ``arguments`` are then as they came, as far as they can be kept."""

    action: str
    kind: ActionKind | None
    arguments: dict[str, Any]
    rationale: str
    refusal: str | None


def read_asked(raw: Any, agent: AgentFacts) -> tuple[list[Asked], int]:
    """The actions of an answer, and how many were beyond ``ACTIONS_MAX``. What is wrong with one is its refusal."""
    listed = _listed(raw)
    return [_asked(one, agent) for one in listed[:ACTIONS_MAX]], max(0, len(listed) - ACTIONS_MAX)


def _asked(raw: Any, agent: AgentFacts) -> Asked:
    fields = raw if isinstance(raw, dict) else {"arguments": raw}
    name, given = fields.get("action"), fields.get("arguments")
    kind = next((one for one in ActionKind if one == name), None)
    arguments, refusal = _arguments(kind, given)
    if kind is None:
        refusal = f"there is no action {clean(str(name), _NAME_MAX)!r}"
    elif refusal is None and kind not in agent.tools:
        refusal = f"the agent {agent.slug} is not allowed {kind}"
    return Asked(
        action=kind or clean(str(name), _NAME_MAX),
        kind=kind,
        arguments=arguments,
        rationale=clean_markdown(_string(fields.get("rationale")), RATIONALE_MAX),
        refusal=refusal,
    )


def _arguments(kind: ActionKind | None, given: Any) -> tuple[dict[str, Any], str | None]:
    if kind is None:
        return storable(given), None
    try:
        arguments: dict[str, Any] = msgspec.to_builtins(read_arguments(kind, given))
    except ValueError as error:
        return storable(given), str(error)
    return arguments, None


def read_points(raw: Any) -> tuple[list[dict[str, Any]], int]:
    """Suggestions or tasks as the columns of their rows, and how many were beyond ``POINTS_MAX``. One without a title
    is no point."""
    listed = _listed(raw)
    points = [_point(position, one) for position, one in enumerate(listed[:POINTS_MAX])]
    return [point for point in points if point["title"]], max(0, len(listed) - POINTS_MAX)


def _point(position: int, raw: Any) -> dict[str, Any]:
    fields = raw if isinstance(raw, dict) else {}
    priority = fields.get("priority")
    whole = priority if isinstance(priority, int) and not isinstance(priority, bool) else 5
    return {
        "id": str(uuid7()),
        "position": position,
        "title": clean(_string(fields.get("title")), TITLE_MAX),
        "detail": clean_markdown(_string(fields.get("detail")), DETAIL_MAX),
        "priority": min(10, max(1, whole)),
    }


def _listed(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _string(raw: Any) -> str:
    return raw if isinstance(raw, str) else ""
