"""A value that fits a JSON Schema, made from the schema alone. Pure and deterministic."""

from __future__ import annotations

from typing import Any, Final

_DEPTH_MAX: Final = 12  # a schema that refers to itself ends somewhere


def example_of(schema: dict[str, Any], text: str = "Example") -> Any:
    """The smallest plausible value: all properties, one item for each list, ``text`` and the property's name for words.

    Covers what strict structured output allows (objects, lists, numbers, words, enum, const, anyOf, $ref into the same
    schema) and the usual bounds; ``pattern`` and ``format`` are not looked at.
    """
    return _value(schema, schema, text, 0)


def _value(schema: dict[str, Any], root: dict[str, Any], text: str, depth: int) -> Any:
    schema = _resolved(schema, root)
    chosen = [schema[key] for key in ("const", "default") if key in schema] or schema.get("enum")
    if chosen:
        return chosen[0]
    branches = next((schema[key] for key in ("anyOf", "oneOf", "allOf") if schema.get(key)), None)
    if branches is not None:
        return _value(branches[0], root, text, depth + 1)
    match _kind(schema):
        case "object":
            return _object(schema, root, text, depth)
        case "array":
            return _list(schema, root, text, depth)
        case "string":
            return _words(schema, text)
        case kind:
            return _plain(schema, kind)


def _kind(schema: dict[str, Any]) -> str:
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    return kinds if isinstance(kinds, str) else next((each for each in kinds if each != "null"), "null")


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    for _ in range(_DEPTH_MAX):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return schema
        found: Any = root
        for step in reference.removeprefix("#").strip("/").split("/"):
            found = found[step] if step else found
        schema = found
    return schema


def _object(schema: dict[str, Any], root: dict[str, Any], text: str, depth: int) -> dict[str, Any]:
    properties: dict[str, Any] = schema.get("properties", {})
    names = properties if depth < _DEPTH_MAX else [name for name in schema.get("required", ()) if name in properties]
    return {name: _value(properties[name], root, f"{text}: {name.replace('_', ' ')}", depth + 1) for name in names}


def _list(schema: dict[str, Any], root: dict[str, Any], text: str, depth: int) -> list[Any]:
    most = schema.get("maxItems", 1)
    number = 0 if depth >= _DEPTH_MAX else min(1, most)
    number = max(number, schema.get("minItems", 0))
    return [_value(schema.get("items", {}), root, text, depth + 1) for _ in range(number)]


def _plain(schema: dict[str, Any], kind: str) -> bool | float | None:
    if kind not in ("integer", "number"):
        return False if kind == "boolean" else None
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is not None and high is not None:
        value = (low + high) / 2
    elif low is not None:
        value = low + 1
    else:
        value = 1 if high is None else high - 1
    return int(value) if kind == "integer" else float(value)


def _words(schema: dict[str, Any], text: str) -> str:
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength")
    text = text.ljust(shortest, ".")
    return text if longest is None else text[:longest]
