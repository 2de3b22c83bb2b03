"""What a model provider is asked in the tests, and how it answers or fails (see ``openai_server``)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Call:
    """One request as it came. ``headers`` by lower-case name."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def model(self) -> str:
        return str(self.body.get("model"))

    @property
    def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body.get("messages", [])
        return found

    @property
    def last_text(self) -> str:
        return str(self.messages[-1]["content"])

    @property
    def text(self) -> str:
        """All that was said to the model, system prompt included."""
        return "\n".join(str(message["content"]) for message in self.messages)

    @property
    def key(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def schema(self) -> dict[str, Any] | None:
        form = self.body.get("response_format") or {}
        found: dict[str, Any] | None = form.get("json_schema", {}).get("schema")
        return found


@dataclass(frozen=True)
class Answer:
    """What the model says. ``content``: text, or an object that is sent as JSON.

    Streamed in pieces of ``piece`` characters, ``gap_s`` apart, the first after ``wait_s``. After ``stop_after`` pieces
    ``stop`` happens: "cut" (the connection is reset), "end" (it closes in good order, but nothing says that the answer
    is over), "hang" (half-open: nothing more comes), "garbage" (a piece that is no JSON), "error" (the provider says in
    the stream that it is overloaded), "wait" (goes on when ``go`` is set). ``usage`` False leaves out the token counts.
    """

    content: str | dict[str, Any] = "Fine."
    finish_reason: str = "stop"
    refusal: str | None = None
    input_tokens: int = 100
    output_tokens: int = 20
    usage: bool = True
    wait_s: float = 0.0
    gap_s: float = 0.0
    piece: int = 12
    stop_after: int | None = None
    stop: str = "cut"
    go: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else json.dumps(self.content)

    @property
    def pieces(self) -> list[str]:
        return [self.text[at : at + self.piece] for at in range(0, len(self.text), self.piece)]


@dataclass(frozen=True)
class Failure:
    """An answer that is no answer, in OpenAI's form. ``body`` replaces it whole."""

    status: int
    message: str = "The server had an error."
    code: str | None = None
    kind: str = "server_error"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


@dataclass(frozen=True)
class Silence:
    """The request is read, and nothing ever comes."""


@dataclass(frozen=True)
class Drop:
    """The connection is reset instead of an answer."""


Reply: TypeAlias = Answer | Failure | Silence | Drop


def unauthorized() -> Failure:
    return Failure(401, "Incorrect API key provided.", "invalid_api_key", "invalid_request_error")


def rate_limited(retry_after: str | None = None) -> Failure:
    """``retry_after``: seconds, or an HTTP date."""
    headers = (("Retry-After", retry_after),) if retry_after is not None else ()
    return Failure(429, "Rate limit reached for requests.", "rate_limit_exceeded", "requests", headers)


def overloaded() -> Failure:
    return Failure(529, "Overloaded", None, "overloaded_error")


def broken(status: int = 500) -> Failure:
    return Failure(status)


def unknown_model() -> Failure:
    return Failure(404, "The model does not exist.", "model_not_found", "invalid_request_error")


def bad_request(message: str = "Invalid value for 'messages'.") -> Failure:
    return Failure(400, message, "invalid_value", "invalid_request_error")


def context_too_long() -> Failure:
    message = "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens."
    return Failure(400, message, "context_length_exceeded", "invalid_request_error")
