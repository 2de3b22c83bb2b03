"""What a model must answer: read, checked, and made up."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.llm.example import example_of
from gateway.llm.schema import Misfit, is_strict, read_answer, schema_problem

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "summary": {"type": "string", "minLength": 1},
        "tasks": {"type": "array", "items": {"$ref": "#/$defs/task"}},
    },
    "required": ["summary", "tasks"],
    "additionalProperties": False,
    "$defs": {
        "task": {
            "type": "object",
            "properties": {"title": {"type": "string"}, "priority": {"type": "integer", "minimum": 1, "maximum": 10}},
            "required": ["title", "priority"],
            "additionalProperties": False,
        }
    },
}
GOOD = '{"summary": "Fine", "tasks": [{"title": "Tidy up", "priority": 3}]}'


@pytest.mark.parametrize(
    "text", [GOOD, f"```json\n{GOOD}\n```", f"```\n{GOOD}\n```\n", f"\n  ```JSON\n{GOOD}```  ", f"  {GOOD}\n"]
)
def test_an_answer_may_stand_in_a_fence(text: str) -> None:
    assert read_answer(text, SCHEMA)["tasks"][0]["priority"] == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Sure! Here it is.", "It is not JSON"),
        ("", "It is not JSON"),
        (GOOD[:-4], "It is not JSON"),
        ("[1]", "not an object: it is a list"),
        ("null", "not an object: it is null"),
        ("true", "not an object: it is true or false"),
        ('{"summary": "x"}', 'the object: "tasks" is a required property'),
        ('{"summary": "x", "tasks": [{"title": "t", "priority": 11}]}', "tasks/0/priority: 11 is greater than"),
        ('{"summary": "x", "tasks": [], "mood": 1}', "'mood' was unexpected"),
        ('{"summary": "\\ud800", "tasks": 1}', "It "),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(Misfit) as misfit:
        read_answer(text, SCHEMA)
    assert said in str(misfit.value)


def test_a_huge_misfit_is_told_in_few_words() -> None:
    text = '{"summary": "x", "tasks": [' + ", ".join(['"' + "y" * 5000 + '"'] * 50) + "]}"
    with pytest.raises(Misfit) as misfit:
        read_answer(text, SCHEMA)
    assert len(str(misfit.value)) < 2000


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array"}, 'its "type" must be "object"'),
        ({"type": "object", "properties": {"a": {"type": "objekt"}}}, "objekt"),
        ({"type": "object", "properties": {"a": {"$ref": "https://example.com/a.json"}}}, "example.com"),
        ({"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}}, "passwd"),
    ],
)
def test_a_schema_that_cannot_be_demanded_is_refused(schema: dict[str, Any], said: str) -> None:
    assert said in (schema_problem(schema) or "")


def test_a_schema_that_can_be_demanded() -> None:
    assert schema_problem(SCHEMA) is None
    assert schema_problem({"type": "object"}) is None


def test_strict_mode_is_used_only_where_it_is_taken() -> None:
    assert is_strict(SCHEMA)
    assert not is_strict({**SCHEMA, "required": ["summary"]})
    assert not is_strict({**SCHEMA, "$defs": {"task": {"type": "object", "properties": {}}}})
    assert not is_strict({"type": "object"})


def _object(children: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def build(properties: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": sorted(properties),
            "additionalProperties": False,
        }

    return st.dictionaries(st.text("abc_", min_size=1, max_size=5), children, max_size=4).map(build)


WHOLE = st.integers(-1000, 1000)
LEAVES = st.one_of(
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more}, *[st.integers(0, 60)] * 2
    ),
    st.builds(lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more}, WHOLE, st.integers(0, 9)),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low}, WHOLE),
    st.builds(lambda high: {"type": "integer", "maximum": high}, WHOLE),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["null", "string"]}, {"enum": ["low", "high"]}]),
    st.just({"anyOf": [{"type": "string"}, {"type": "null"}]}),
)
NODES = st.recursive(
    LEAVES,
    lambda children: st.one_of(
        _object(children),
        st.builds(lambda items, low: {"type": "array", "items": items, "minItems": low}, children, st.integers(0, 3)),
    ),
    max_leaves=8,
)


@given(_object(NODES))
def test_an_example_fits_its_schema(schema: dict[str, Any]) -> None:
    example = example_of(schema)
    assert read_answer(msgspec.json.encode(example).decode(), schema) == example
    assert example_of(schema) == example
