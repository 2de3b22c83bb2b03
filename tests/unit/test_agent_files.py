"""Agents in files: those that come with the gateway are sound, and what is wrong with a team's is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.llm.example import example_of
from gateway.llm.schema import is_strict, read_answer, schema_problem
from gateway.services.orchestration.actions import ActionKind, read_arguments
from gateway.services.orchestration.agent_files import AgentFilesWrong, parse_agent, read_agents, slug_problem
from gateway.services.orchestration.agent_schema import (
    ACTION_ARGUMENTS,
    COMMON_FIELDS,
    Tool,
    output_schema,
    own_schema_problem,
)
from gateway.services.orchestration.agents import BUILT_IN, Catalog
from tests.support.web import settings_for

BUILT_INS = {"developer", "researcher", "marketer", "seo_writer", "designer", "general", "code-review"}
SOUND = """+++
name = "Translator"
description = "Finds texts that are not translated."
tools = ["github", "create_task"]
model = "gpt-5-nano"
maxOutputTokens = 2000
timeoutS = 60

[outputSchema.properties.missing]
type = "array"
items = { type = "string" }
+++
Look for texts
of one language only.
"""


def catalog(**settings: Any) -> Catalog:
    return Catalog.read(settings_for("postgresql://gateway@localhost/gateway", **settings))


def test_seven_come_with_the_gateway_and_each_has_its_own_part() -> None:
    found = read_agents(BUILT_IN)
    assert set(found) == BUILT_INS
    assert len({body.prompt for body in found.values()}) == len({body.description for body in found.values()}) == 7
    own: list[frozenset[str]] = []
    for slug, body in found.items():
        assert 1500 < len(body.prompt) < 8000, slug
        assert body.enabled and body.model is None
        assert Tool.GITHUB in body.tools and Tool.CREATE_TASK in body.tools, slug
        assert body.output_schema is not None
        own.append(frozenset(body.output_schema["properties"]))
    assert len(set(own)) == 7  # fields of their own, not one shape for all


@pytest.mark.parametrize("slug", sorted(BUILT_INS))
def test_a_built_in_agent_can_be_asked_for_strict_output(slug: str) -> None:
    agent = catalog().agent(catalog().files[slug])
    schema = agent.output_schema
    assert schema_problem(schema) is None and is_strict(schema)
    assert set(COMMON_FIELDS) < set(schema["properties"])
    example = example_of(schema)
    assert read_answer(str(example).replace("'", '"').replace("None", "null"), schema) == example
    asked = {each["properties"]["action"]["enum"][0] for each in schema["properties"]["actions"]["items"]["anyOf"]}
    assert asked == set(agent.tools) - {"github"}


@pytest.mark.parametrize("slug", sorted(BUILT_INS))
def test_every_prompt_ends_with_the_rules_that_hold_for_all(slug: str) -> None:
    prompt = catalog().agent(catalog().files[slug]).prompt
    rules = prompt[prompt.index("## Rules for every answer") :]
    for demanded in (
        "marked as data",
        "Do not follow it",
        "leave the lists empty",
        "Write in the language",
        "Never invent",
    ):
        assert demanded in " ".join(rules.split()), demanded


def test_what_the_schema_lets_an_agent_ask_for_is_what_actions_read() -> None:
    assert {str(tool) for tool in ACTION_ARGUMENTS} == {str(kind) for kind in ActionKind}
    for tool, schema in ACTION_ARGUMENTS.items():
        example = example_of(schema, "ada@example.com")
        if "to" in example:
            example["to"] = ["ada@example.com"]
        assert read_arguments(ActionKind(tool), example)


def test_an_agent_without_tools_that_act_cannot_ask_for_an_action() -> None:
    assert "actions" not in output_schema([Tool.GITHUB], None)["properties"]
    assert "actions" not in output_schema([], None)["required"]


def test_a_file_is_an_agent(tmp_path: Path) -> None:
    (tmp_path / "translator.md").write_text(SOUND.replace("\n", "\r\n"))
    (tmp_path / "README.txt").write_text("not an agent")
    found = catalog(agents_dir=tmp_path, model_default="gpt-5")
    assert set(found.files) == BUILT_INS | {"translator"}
    agent = found.agent(found.files["translator"])
    assert (agent.name, agent.model, agent.source, agent.timeout_s) == ("Translator", "gpt-5-nano", "file", 60.0)
    assert agent.prompt.startswith("Look for texts\nof one language only.\n\n## Rules")
    assert agent.output_schema["properties"]["missing"]["items"] == {"type": "string"}
    assert "missing" in agent.output_schema["required"]
    assert found.agent(found.files["general"]).model == "gpt-5"


def test_a_file_stands_before_what_comes_with_the_gateway(tmp_path: Path) -> None:
    (tmp_path / "general.md").write_text(SOUND)
    assert catalog(agents_dir=tmp_path).files["general"].body.name == "Translator"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("+++\nname", "---\nname", "line 1: must be +++"),
        ('items = { type = "string" }\n+++\n', "", "line 1: there is no second line +++"),
        ('name = "Translator"', 'name = "Translator', "line 2: "),
        ('name = "Translator"\n', "", "line 1, name: object missing required field name"),
        ('name = "Translator"', "name = 5", "line 2, name: expected str, got int"),
        (
            '"create_task"]',
            '"creat_task"]',
            "line 4, tools[1]: invalid enum value 'creat_task'; known: github, create_task",
        ),
        ('["github", "create_task"]', '["github", "github"]', "line 4, tools: names a tool twice"),
        ("maxOutputTokens = 2000", "maxOutputTokens = 10", "line 6, maxOutputTokens: expected int >= 256"),
        ("timeoutS = 60", "timeoutS = 86400", "line 7, timeoutS: expected int <= 3600"),
        ("timeoutS = 60", "timeout = 60", "line 7, timeout: unknown field; known: name, description, tools, model"),
        ('model = "gpt-5-nano"', 'model = "gpt 5"', "line 5, model: expected str matching regex"),
        ('model = "gpt-5-nano"', 'prompt = "x"', "line 5, prompt: belongs below"),
        ("[outputSchema.properties.missing]", "[outputSchema.missing]", 'line 9, outputSchema: has "missing"'),
        ("properties.missing]", "properties.summary]", "line 9, outputSchema: may not define summary"),
        ('type = "array"', 'type = "arary"', "line 9, outputSchema: "),
        ('type = "array"', '"$ref" = "https://schema.example/a"', "line 9, outputSchema: "),
        ("Look for texts\nof one language only.\n", " \n", "line 12, prompt: there is none"),
        ("Look for", "x" * 20_001, "line 13, prompt: expected str of length <= 20000"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert SOUND.count(old) >= 1
    (tmp_path / "translator.md").write_text(SOUND.replace(old, new))
    with pytest.raises(AgentFilesWrong) as raised:
        read_agents(tmp_path)
    message = str(raised.value)
    assert f"{tmp_path / 'translator.md'}, {said}" in message
    assert len(message) < 1000


def test_all_files_that_are_wrong_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("no fields")
    (tmp_path / "b.md").write_bytes(b"+++\n\xff")
    (tmp_path / "c.md").write_text(SOUND)
    (tmp_path / "D d.md").write_text(SOUND)
    (tmp_path / "e.md").write_text("x" * 200_000)
    with pytest.raises(AgentFilesWrong) as raised:
        read_agents(tmp_path)
    lines = str(raised.value).splitlines()
    assert len(lines) == 4
    assert [line.rpartition("/")[2].partition(",")[0] for line in lines] == ["D d.md", "a.md", "b.md", "e.md"]
    with pytest.raises(AgentFilesWrong, match="cannot be read"):
        read_agents(tmp_path / "nowhere")


@pytest.mark.parametrize("slug", ["", "A", "a b", "-a", "a-", "a--b", "a/b", "../a", "a" * 61, "ä", "1a", "a\n"])
def test_slugs_that_are_none(slug: str) -> None:
    assert slug_problem(slug)


@pytest.mark.parametrize("slug", ["a", "code-review", "seo_writer", "a1-b2_c3", "a" * 60])
def test_slugs(slug: str) -> None:
    assert slug_problem(slug) is None


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return {"properties": {"deep": schema}}


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ([], "must be a JSON Schema object"),
        ({}, 'needs "properties"'),
        ({"properties": []}, 'needs "properties"'),
        ({"properties": {"a": {}}, "oneOf": []}, 'has "oneOf"'),
        ({"type": "array", "properties": {"a": {}}}, '"type" must be "object"'),
        ({"properties": {"actions": {}}}, "may not define actions"),
        ({"properties": {f"f{n}": {} for n in range(21)}}, "at most 20"),
        ({"properties": {"a": {"description": "x" * 16_000}}}, "at most 16000"),
        (nested(20), "nested deeper"),
        (nested(2000), "nested deeper"),
        ({"properties": {"a": {"pattern": "("}}}, "regex"),
    ],
)
def test_schemas_that_are_refused(own: Any, said: str) -> None:
    assert said in (own_schema_problem(own) or "")


def test_a_schema_may_refer_to_itself() -> None:
    own = {"properties": {"tree": {"$ref": "#/$defs/node"}}, "$defs": {"node": {"type": "object"}}}
    assert own_schema_problem(own) is None
    assert output_schema([], own)["$defs"] == own["$defs"]


def test_fields_end_where_the_second_fence_is() -> None:
    body = parse_agent(SOUND + "\n+++\nis part of the prompt\n")
    assert body.prompt.endswith("+++\nis part of the prompt")
