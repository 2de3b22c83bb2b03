"""Logs: one form for ours and the libraries' lines, and no secret or address in either."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gateway.infra.log import configure_logging, mask_text


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def logged(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_has_its_event_its_context_and_no_secrets() -> None:
    out = io.StringIO()
    configure_logging("info", "json", instance="gw-1", stream=out)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger().info(
            "mail_sent",
            to=["you.me@example.com"],
            smtp_password="hunter2",
            input_tokens=3,
            headers={"Authorization": "Bearer abc", "X-Api-Key": "k"},
            redis="redis://:hunter2@r:6379/0",
            message_id="<1@shop.example>",
        )
    (line,) = logged(out)
    assert (line["event"], line["level"], line["instance"], line["request_id"]) == ("mail_sent", "info", "gw-1", "r1")
    assert line["to"] == ["y***@example.com"]
    assert line["smtp_password"] == "•••"
    assert line["headers"] == {"Authorization": "•••", "X-Api-Key": "•••"}
    assert (line["input_tokens"], line["message_id"]) == (3, "<1@shop.example>")
    assert line["redis"] == "redis://:•••@r:6379/0"


def test_libraries_write_the_same_lines() -> None:
    out = io.StringIO()
    configure_logging("info", "json", stream=out)
    logging.getLogger("saq").warning("lost %s", "you@example.com")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("asyncpg").error("lost")
    logging.getLogger("httpx").info("GET https://provider.example")
    assert [(line["logger"], line["event"], line["level"]) for line in logged(out)] == [
        ("saq", "lost y***@example.com", "warning"),
        ("asyncpg", "lost", "error"),
    ]


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_are_whole_and_masked(form: Any) -> None:
    out = io.StringIO()
    configure_logging("info", form, stream=out)
    try:
        raise ValueError("for you@example.com")
    except ValueError as error:
        structlog.get_logger().exception("failed")
        structlog.get_logger().error("again", exc_info=error)
        logging.getLogger("lib").exception("theirs")
    assert out.getvalue().count("ValueError: for y***@example.com") == 3
    assert "you@example.com" not in out.getvalue()


def test_levels_are_obeyed() -> None:
    out = io.StringIO()
    configure_logging("warning", "json", stream=out)
    structlog.get_logger().info("no")
    logging.getLogger("saq").info("no")
    structlog.get_logger().warning("yes")
    assert [line["event"] for line in logged(out)] == ["yes"]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("to a@b.co, c.d@e.example.", "to a***@b.co, c***@e.example."),
        ("Authorization: bearer a.b-c", "Authorization: bearer •••"),
        ("key gw_" + "x" * 43, "key gw_•••"),
        ("postgresql://gw:p%40w@db:5432/x", "postgresql://gw:•••@db:5432/x"),
        ("eyJhbGciOi.eyJzdWIi.c2ln done", "••• done"),
        ("nothing here @ all", "nothing here @ all"),
    ],
)
def test_masked_text(text: str, masked: str) -> None:
    assert mask_text(text) == masked
