"""What a webhook's delivery says, whether it is one that a trigger wants, and as much of it as a run is given. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

PAYLOAD_BYTES: Final = 16_000  # of JSON: an agent reads all of it
WORD_MAX: Final = 200  # characters of an event, an action, a branch
_DEPTH: Final = 8
_HEADS: Final = "refs/heads/"
_CUT: Final = "…"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """``event``, ``action`` and ``branch`` are None where the payload names none."""

    event: str | None
    action: str | None
    branch: str | None
    payload: Any


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Empty: any. ``branches`` are patterns with ``*``, ``?`` and ``[...]``."""

    events: Sequence[str] = ()
    actions: Sequence[str] = ()
    branches: Sequence[str] = ()


def read_delivery(payload: Any, event: str | None) -> Delivery:
    """``event`` comes from a header; without one the payload's field ``event`` (or ``type``) names it."""
    fields: Mapping[str, Any] = payload if isinstance(payload, dict) else {}
    named = event or _word(fields.get("event")) or _word(fields.get("type"))
    return Delivery(event=_word(named), action=_word(fields.get("action")), branch=_branch(fields), payload=payload)


def unwanted(wanted: Wanted, delivery: Delivery) -> str | None:
    """Why no run is started; None: the trigger wants it."""
    if delivery.event == "ping":
        return "a ping: the signature is right"
    for word, value, known in (
        ("event", delivery.event, wanted.events),
        ("action", delivery.action, wanted.actions),
    ):
        if known and value not in known:
            return f"the {word} {value!r} is none of {', '.join(known)}" if value else f"it names no {word}"
    if not wanted.branches:
        return None
    if delivery.branch is None:
        return "it names no branch"
    if any(fnmatchcase(delivery.branch, pattern) for pattern in wanted.branches):
        return None
    return f"the branch {delivery.branch!r} is none of {', '.join(wanted.branches)}"


def bounded(payload: Any, most: int = PAYLOAD_BYTES) -> tuple[Any, bool]:
    """``payload`` in at most ``most`` bytes of JSON, and whether something was left out: long texts and lists are cut
    first, then what lies deep."""
    if _depth(payload, _DEPTH) and len(msgspec.json.encode(payload)) <= most:
        return payload, False
    text, items, depth = 4000, 50, _DEPTH
    while True:
        cut = _cut(payload, text, items, depth)
        if len(msgspec.json.encode(cut)) <= most or text == 1:
            return (cut if len(msgspec.json.encode(cut)) <= most else None), True
        text, items, depth = max(1, text // 2), max(1, items * 2 // 3), max(1, depth - (text < 500))


def _cut(value: Any, text: int, items: int, depth: int) -> Any:
    match value:
        case str() if len(value) > text:
            return value[:text] + _CUT
        case dict() if depth == 0:
            return {}
        case list() if depth == 0:
            return []
        case dict():
            # Fields of objects are few and named: they are bounded too, but later than lists.
            return {name[:text]: _cut(inner, text, items, depth - 1) for name, inner in [*value.items()][: items * 4]}
        case list():
            return [_cut(inner, text, items, depth - 1) for inner in value[:items]]
        case _:
            return value


def _depth(value: Any, most: int) -> bool:
    """Is it nested at most so deeply?"""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (most > 0 or not inner) and all(_depth(one, most - 1) for one in inner)


def _branch(fields: Mapping[str, Any]) -> str | None:
    """Of GitHub's pushes, pull requests, checks and workflow runs, and of the field ``branch`` of other senders."""
    ref = fields.get("ref")
    if isinstance(ref, str) and ref.startswith(_HEADS):
        return _word(ref.removeprefix(_HEADS))
    places = (("pull_request", "base", "ref"), ("workflow_run", "head_branch"), ("check_suite", "head_branch"))
    found = (_word(_at(fields, place)) for place in (*places, ("branch",)))
    return next((branch for branch in found if branch), None)


def _at(fields: Any, place: Sequence[str]) -> Any:
    for name in place:
        fields = fields.get(name) if isinstance(fields, dict) else None
    return fields


def _word(value: Any) -> str | None:
    return value[:WORD_MAX] if isinstance(value, str) and value else None
