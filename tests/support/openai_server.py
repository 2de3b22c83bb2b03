"""A model provider: a real HTTP server that speaks OpenAI's chat completions, and fails on command.

    async with openai_server() as provider:
        provider.script(rate_limited("2"), Answer({"summary": "fine"}))   # one for each call, in order
        provider.always(lambda call: Answer(f"You said {call.last_text}"))  # whatever comes after the script
        settings = settings_for(url, openai_api_key="sk-test", openai_base_url=provider.url)

Without a script each call gets an answer that fits its schema, or a short text. ``provider.calls`` is what was asked.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gateway.llm.example import example_of
from tests.support.eventually import eventually
from tests.support.openai_replies import (
    Answer,
    Call,
    Drop,
    Failure,
    Reply,
    Silence,
    bad_request,
    broken,
    context_too_long,
    overloaded,
    rate_limited,
    unauthorized,
    unknown_model,
)

__all__ = [
    "Answer",
    "Call",
    "Drop",
    "Failure",
    "OpenAIServer",
    "Reply",
    "Silence",
    "bad_request",
    "broken",
    "context_too_long",
    "openai_server",
    "overloaded",
    "rate_limited",
    "unauthorized",
    "unknown_model",
]

_POLL_S = 0.02


class OpenAIServer:
    """``disconnects`` counts calls whose caller went away before the end. ``open_calls``: answered at this moment."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.disconnects = 0
        self.open_calls = 0
        self.port = 0
        self._script: deque[Reply] = deque()
        self._always: Callable[[Call], Reply] = _fitting
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """For OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, *replies: Reply) -> None:
        """For the next calls, in order, after those that are scripted already."""
        self._script.extend(replies)

    def always(self, reply: Reply | Callable[[Call], Reply]) -> None:
        """For every call that the script does not answer."""
        self._always = reply if callable(reply) else lambda _: reply

    async def called(self, times: int = 1) -> list[Call]:
        """Wait until there were so many calls."""
        await eventually(lambda: len(self.calls) >= times, message=f"{times} calls of the model")
        return self.calls

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(reader, writer)
        try:
            while not link.over and (call := await _read(reader)) is not None:
                if not call.path.endswith("/chat/completions"):
                    await link.whole(_failed(Failure(404, f"No such path: {call.path}", None, "invalid_request_error")))
                    continue
                self.calls.append(call)
                self.open_calls += 1
                try:
                    await self._answer(link, call)
                finally:
                    self.open_calls -= 1
        except (OSError, asyncio.IncompleteReadError):
            self.disconnects += 1
        finally:
            writer.close()

    async def _answer(self, link: _Link, call: Call) -> None:
        reply = self._script.popleft() if self._script else self._always(call)
        match reply:
            case Silence():
                await link.until_gone()
            case Drop():
                link.reset()
            case Failure():
                await link.whole(_failed(reply))
            case Answer() if call.body.get("stream"):
                await link.rest(reply.wait_s)
                await _stream(link, call, reply)
            case Answer():
                await link.rest(reply.wait_s)
                await link.whole((200, (), json.dumps(_complete(call, reply)).encode()))


class _Link:
    """One connection. ``over``: no further request is read from it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.over = False

    @property
    def _gone(self) -> bool:
        return self._reader.at_eof() or self._reader.exception() is not None or self._writer.is_closing()

    async def until_gone(self) -> None:
        """Raises ConnectionResetError, at last."""
        await self.until(asyncio.Event())

    async def rest(self, seconds: float) -> None:
        """Raises ConnectionResetError when the caller goes away meanwhile."""
        ends = asyncio.get_running_loop().time() + seconds
        while (left := ends - asyncio.get_running_loop().time()) > 0:
            self._demand()
            await asyncio.sleep(min(left, _POLL_S))
        self._demand()

    async def until(self, go: asyncio.Event) -> None:
        while not go.is_set():
            await self.rest(_POLL_S)

    def _demand(self) -> None:
        if self._gone:
            raise ConnectionResetError("the caller went away")

    async def whole(self, answer: tuple[int, tuple[tuple[str, str], ...], bytes]) -> None:
        status, headers, body = answer
        lines = [f"HTTP/1.1 {status} Said", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self._writer.drain()

    async def begin_stream(self) -> None:
        self._writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await self._writer.drain()

    async def event(self, data: str) -> None:
        self._demand()
        raw = f"data: {data}\n\n".encode()
        self._writer.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        await self._writer.drain()

    async def end_stream(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def reset(self) -> None:
        """RST instead of FIN, as when the server's machine goes down."""
        self.over = True
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


async def _stream(link: _Link, call: Call, answer: Answer) -> None:
    await link.begin_stream()
    await link.event(_chunk(call, {"role": "assistant", "content": ""}))
    for number, piece in enumerate(answer.pieces):
        if number == answer.stop_after and not await _stopped(link, answer):
            return
        if answer.gap_s and number:
            await link.rest(answer.gap_s)
        await link.event(_chunk(call, {"content": piece}))
    if answer.stop_after is not None and answer.stop_after >= len(answer.pieces) and not await _stopped(link, answer):
        return
    if answer.refusal is not None:
        await link.event(_chunk(call, {"refusal": answer.refusal}))
    await link.event(_chunk(call, {}, answer.finish_reason))
    if answer.usage and (call.body.get("stream_options") or {}).get("include_usage"):
        await link.event(json.dumps(_head(call, "chat.completion.chunk") | {"choices": [], "usage": _usage(answer)}))
    await link.event("[DONE]")
    await link.end_stream()


async def _stopped(link: _Link, answer: Answer) -> bool:
    """Do what the answer's ``stop`` says; True if the stream goes on after it."""
    match answer.stop:
        case "wait":
            await link.until(answer.go)
            return True
        case "garbage":
            await link.event("{this is no JSON")
            return True
        case "error":
            await link.event(json.dumps({"error": {"type": "overloaded_error", "message": "Overloaded"}}))
            await link.end_stream()
        case "end":
            await link.end_stream()
        case "hang":
            await link.until_gone()
        case _:
            link.reset()
    return False


@asynccontextmanager
async def openai_server() -> AsyncIterator[OpenAIServer]:
    provider = OpenAIServer()
    server = await asyncio.start_server(provider.accept, "127.0.0.1", 0)
    provider.port = server.sockets[0].getsockname()[1]
    try:
        yield provider
    finally:
        server.close()
        await provider.close()


async def _read(reader: asyncio.StreamReader) -> Call | None:
    """One request; None at the end of the connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return None
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Call(head[0].split(" ")[1], headers, json.loads(body) if body else {})


def _fitting(call: Call) -> Reply:
    return Answer(example_of(call.schema)) if call.schema is not None else Answer()


def _failed(failure: Failure) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    said = {"message": failure.message, "type": failure.kind, "param": None, "code": failure.code}
    return failure.status, failure.headers, failure.body or json.dumps({"error": said}).encode()


def _head(call: Call, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-test", "object": kind, "created": 1_750_000_000, "model": call.model}


def _chunk(call: Call, delta: dict[str, Any], finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return json.dumps(_head(call, "chat.completion.chunk") | {"choices": [choice]})


def _complete(call: Call, answer: Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    return _head(call, "chat.completion") | {"choices": [choice], "usage": _usage(answer)}


def _usage(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
