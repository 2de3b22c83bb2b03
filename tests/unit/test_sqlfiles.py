"""Named SQL and Lua files: what a header must say."""

from __future__ import annotations

import pytest

from gateway.infra.luafiles import parse_lua
from gateway.infra.sqlfiles import load_sql, parse_sql

HEADER = "-- purpose: Find a job.\n-- $1 id uuid: the job's id\n"


def test_a_statement_is_given_without_header_and_semicolon() -> None:
    file = parse_sql("get", HEADER + "SELECT * FROM jobs\nWHERE id = $1;\n", "here")
    assert file.text == "SELECT * FROM jobs\nWHERE id = $1"
    assert file.purpose == "Find a job."
    assert [(param.number, param.name, param.type) for param in file.params] == [(1, "id", "uuid")]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("SELECT 1", "purpose"),
        ("-- purpose: x\nSELECT $1", r"\$1"),
        (HEADER + "SELECT $1, $2", r"for \$2"),
        (HEADER + "SELECT 1", r"describes \$1"),
        (HEADER + "SELECT '$1'", r"describes \$1"),
        (HEADER + "-- $1 again uuid: twice\nSELECT $1", "twice"),
        (HEADER + "SELECT $1; SELECT 2", "more than one"),
        (HEADER, "no statement"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(source: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=rf"here: .*{complaint}"):
        parse_sql("get", source, "here")


def test_text_in_quotes_and_comments_is_not_code() -> None:
    parse_sql("get", HEADER + "SELECT $1, '$2; it''s', \"$3\" -- $4; no\n/* $5; */", "here")


def test_a_package_without_the_folder_is_named() -> None:
    with pytest.raises(ValueError, match=r"tests\.unit has no folder sql/"):
        load_sql("tests.unit")


LUA = "-- guarantee: Once.\n-- KEYS[1] ready: sorted set\n-- ARGV[1...] ids: any number\n-- returns: how many\n"


def test_a_script_gets_its_includes_once() -> None:
    parts = {"a": '--- @include "b"\nlocal a = b', "b": "local b = 1"}
    source = LUA + '--- @include "a"\n--- @include "b"\nreturn redis.call("ZCARD", KEYS[1])\n'
    assert parse_lua("x", source, parts, "here").text == (
        LUA + 'local b = 1\nlocal a = b\nreturn redis.call("ZCARD", KEYS[1])\n'
    )


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("return 1", "guarantee"),
        (LUA + "return KEYS[1] .. KEYS[2]", r"KEYS\[2\]"),
        (LUA + "return ARGV[3]", r"describes KEYS\[1\]"),
        (LUA + '--- @include "none"\nreturn KEYS[1]', "include/none.lua"),
    ],
)
def test_a_script_whose_header_does_not_fit_is_refused(source: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=rf"here: .*{complaint}"):
        parse_lua("x", source, {}, "here")
