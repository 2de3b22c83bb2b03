"""An OpenTelemetry collector: a real HTTP server that reads the spans sent to it (OTLP, protobuf)."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Seen:
    """A span: ids in hexadecimal; ``parent`` is empty for the first of a trace. ``kind``: as in the protocol, INTERNAL
    and the like. ``failed``: its status says so."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    facts: dict[str, Any]
    resource: dict[str, Any]
    failed: bool


class Collector:
    """``silent``: takes requests and never answers them."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.asked = asyncio.Event()
        self.silent = False
        self.url = ""

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = next(int(line[15:]) for line in head.splitlines() if line.startswith("content-length:"))
                body = await reader.readexactly(length)
                self.asked.set()
                if self.silent:
                    await reader.read()
                    return
                self._read(gzip.decompress(body) if "content-encoding: gzip" in head else body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def _read(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            facts = _values(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += [
                    Seen(
                        span.name,
                        Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        _values(span.attributes),
                        facts,
                        span.status.code == 2,
                    )
                    for span in scope.spans
                ]


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(found: Any) -> Any:
    value = getattr(found, found.WhichOneof("value"))
    return [_value(each) for each in value.values] if found.HasField("array_value") else value


@asynccontextmanager
async def otlp_collector() -> AsyncIterator[Collector]:
    collector = Collector()
    server = await asyncio.start_server(collector.answer, "127.0.0.1", 0)
    collector.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield collector
    finally:
        server.close()
