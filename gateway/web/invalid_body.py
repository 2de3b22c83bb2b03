"""From msgspec's one-line complaint to ``details`` that name the field, and the one probably meant. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec import inspect as shapes

_PATH = re.compile(r" - at `(key in )?\$(?P<path>.*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_NEAR = 0.6  # difflib's own default
NAME_MAX = 64  # characters of an unknown name that are repeated and compared; a body of megabytes can be one name


def suggestion(name: str, known: Sequence[str]) -> str:
    """What to say after "unknown ...": the known name that was probably meant, or all of them."""
    near = get_close_matches(name, known, n=1, cutoff=_NEAR) if len(name) <= NAME_MAX else []
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; known: {', '.join(known)}" if known else ""


def explain(error: msgspec.ValidationError, wanted: Any, root: str = "") -> dict[str, Any]:
    """The detail for one validation error. ``wanted`` is the type that the body should have (None: not known), ``root``
    the path at which it stands in what was validated."""
    text = str(error)
    place = _PATH.search(text)
    path = place["path"].removeprefix(root) if place else ""
    said = text[: place.start()] if place else text
    if unknown := _UNKNOWN.match(said):
        return _unknown_field(unknown["name"], path, wanted)
    if missing := _MISSING.match(said):
        return {"field": _field(path, missing["name"]), "message": "is required"}
    return {"field": _field(path, "") or "body", "message": said[:1].lower() + said[1:].replace("`", "")}


def _field(path: str, name: str) -> str:
    return f"{path}.{name}".strip(".") if name else path.strip(".")


def _unknown_field(name: str, path: str, wanted: Any) -> dict[str, Any]:
    detail: dict[str, Any] = {"field": _field(path, name[:NAME_MAX]), "message": "unknown field"}
    detail["message"] += suggestion(name, sorted(_known_fields(path, wanted)))
    return detail


def _known_fields(path: str, wanted: Any) -> set[str]:
    if wanted is None:
        return set()
    places = [*_alternatives(shapes.type_info(wanted))]
    for step in _STEP.finditer(path):
        places = [inner for place in places for inner in _enter(place, step["name"])]
    return {field.encode_name for place in places if isinstance(place, shapes.StructType) for field in place.fields}


def _enter(place: shapes.Type, name: str | None) -> Iterator[shapes.Type]:
    match place:
        case shapes.StructType(fields=fields) if name is not None:
            for field in fields:
                if field.encode_name == name:
                    yield from _alternatives(field.type)
        case shapes.ListType(item_type=item) | shapes.SetType(item_type=item) | shapes.VarTupleType(item_type=item):
            yield from _alternatives(item)
        case shapes.DictType(value_type=value):
            yield from _alternatives(value)
        case _:
            return


def _alternatives(place: shapes.Type) -> Iterator[shapes.Type]:
    """The plain types behind unions and metadata."""
    match place:
        case shapes.UnionType(types=types):
            for member in types:
                yield from _alternatives(member)
        case shapes.Metadata(type=inner):
            yield from _alternatives(inner)
        case _:
            yield place
