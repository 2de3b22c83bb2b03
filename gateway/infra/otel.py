"""Spans for an OpenTelemetry collector. Imported only where one is named: it needs the extra ``otel``."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from gateway import __version__
from gateway.infra.tracing import Attributes, Kind, Span, make_spans

EXPORT_TIMEOUT_S: Final = 3.0  # of one request to the collector: a silent one must not hold up the end of a process


class Tracing:
    """Sends this process's spans to the collector at ``endpoint`` (OTLP over HTTP), in batches from a thread.

    Nothing waits for it; what it does not take is lost. Sampling, headers and the service's name are OpenTelemetry's
    own variables (``OTEL_TRACES_SAMPLER``, ``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_SERVICE_NAME``).
    """

    name = "tracing"

    def __init__(self, endpoint: str, instance: str) -> None:
        self._endpoint = endpoint
        self._instance = instance
        self._provider: TracerProvider | None = None

    async def start(self) -> None:
        facts = {"service.version": __version__, "service.instance.id": self._instance}
        resource = Resource.create(facts)
        if str(resource.attributes["service.name"]).startswith("unknown_service"):  # nobody named it
            resource = resource.merge(Resource({"service.name": "gateway"}))
        exporter = OTLPSpanExporter(f"{self._endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        make_spans(_Spans(self._provider.get_tracer("gateway", __version__)))

    async def stop(self) -> None:
        """Sends what is left, for as long as one request to the collector may take."""
        make_spans(None)
        if self._provider is not None:
            provider, self._provider = self._provider, None
            await asyncio.to_thread(provider.shutdown)


class _Spans:
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def __call__(self, name: str, kind: Kind, attributes: Attributes, parent: str | None) -> Span:
        return _Recorded(self._tracer.start_span(name, _below(parent), SpanKind[kind.upper()], attributes))


class _Recorded(Span):
    def __init__(self, span: Any) -> None:
        self._span = span
        own: SpanContext = span.get_span_context()
        if own.is_valid:  # not with OTEL_SDK_DISABLED
            self.traceparent = f"00-{own.trace_id:032x}-{own.span_id:016x}-{int(own.trace_flags):02x}"

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def fail(self, why: str) -> None:
        self._span.set_attribute("error.type", why)
        self._span.set_status(StatusCode.ERROR, why)

    def end(self) -> None:
        self._span.end()


def _below(parent: str | None) -> Context:
    if parent is None:
        return Context()
    _, trace_id, span_id, flags = parent.split("-")
    above = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(above), Context())
