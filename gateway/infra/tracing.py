"""Where work comes from, and what of it is told to OpenTelemetry.

The ``Origin`` is carried by the code that runs (a context variable) and by jobs (two columns), so a trace reaches from
the HTTP request over the job to the provider, also when another replica does the work a day later. Without the extra
``otel`` a caller's ``traceparent`` is passed on all the same: spans are made only where ``infra/otel.py`` was started.

Sources: W3C Trace Context; OpenTelemetry semantic conventions for HTTP, messaging and generative AI.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal

import msgspec

from gateway.infra.lifecycle import Component, StartError

Kind = Literal["server", "consumer", "client", "internal"]
Attributes = Mapping[str, str | int | float | bool | Sequence[str]]

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


_NO_OTEL: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed. Install gateway[otel], or unset it."
)


class Origin(msgspec.Struct, frozen=True):
    """``request_id``: of the HTTP request that asked for the work. ``traceparent``: of the span that it is part of, in
    W3C form. Both None: nobody asked, as for a schedule."""

    request_id: str | None = None
    traceparent: str | None = None

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits."""
        return self.traceparent[3:35] if self.traceparent else None


NOBODY: Final = Origin()
_origin: ContextVar[Origin] = ContextVar("gateway_origin", default=NOBODY)


def origin() -> Origin:
    """Of what is being done now."""
    return _origin.get()


@contextmanager
def under(found: Origin) -> Iterator[None]:
    """What is done inside comes from there."""
    token = _origin.set(found)
    try:
        yield
    finally:
        _origin.reset(token)


def set_origin(found: Origin) -> None:
    """For the whole of a context that was made for one piece of work."""
    _origin.set(found)


def sound_traceparent(value: str) -> str | None:
    """The value if it is a W3C ``traceparent``, in the form of version 00; callers send anything."""
    found = _TRACEPARENT.match(value)
    if found is None or (found.end() != len(value) and (value.startswith("00") or value[found.end()] != "-")):
        return None
    return f"00-{found[1]}-{found[2]}-{found[3]}"


class Span:
    """One step of a trace; this one does nothing. ``traceparent``: what names it to others."""

    traceparent: str | None = None

    def name(self, name: str) -> None: ...

    def note(self, attributes: Attributes) -> None: ...

    def fail(self, why: str) -> None:
        """``why``: a bounded word, the ``error.type``."""

    def end(self) -> None: ...


StartSpan = Callable[[str, Kind, Attributes, str | None], Span]
"""Called with the name, the kind, what is known of it, and the ``traceparent`` of the span above it."""

NO_SPAN: Final = Span()
_start_span: StartSpan | None = None  # of the process: its spans go to one collector


def make_spans(start_span: StartSpan | None) -> None:
    """From now on; None: no more."""
    global _start_span  # noqa: PLW0603  it is the process that traces or not
    _start_span = start_span


def exporter(endpoint: str | None, instance: str) -> list[Component]:
    """What sends this replica's spans to a collector, if one is named. Raises ``StartError`` without the extra."""
    if endpoint is None:
        return []
    try:
        from gateway.infra.otel import Tracing  # noqa: PLC0415  an extra: it is not there where nobody traces
    except ImportError:
        raise StartError(_NO_OTEL) from None
    return [Tracing(endpoint, instance)]


def tracing() -> bool:
    """Are spans made?"""
    return _start_span is not None


@contextmanager
def span(name: str, kind: Kind, attributes: Attributes) -> Iterator[Span]:
    """A step that is part of the current origin, and the origin of what is done inside. An exception fails it, told by
    its class alone: messages may hold addresses."""
    if _start_span is None:
        yield NO_SPAN
        return
    before = _origin.get()
    step = _start_span(name, kind, attributes, before.traceparent)
    token = _origin.set(Origin(before.request_id, step.traceparent))
    try:
        yield step
    except BaseException as error:
        step.fail(type(error).__name__)
        raise
    finally:
        _origin.reset(token)
        step.end()
