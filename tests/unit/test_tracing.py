"""What is taken from callers' ``traceparent``, and what is told on when nothing is recorded."""

from __future__ import annotations

import pytest

from gateway.infra import tracing
from gateway.infra.otel import Tracing

ID = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        pytest.param(f"00-{ID}-01", f"00-{ID}-01", id="version 00"),
        pytest.param(f"01-{ID}-01", f"00-{ID}-01", id="a later version"),
        pytest.param(f"01-{ID}-01-more", f"00-{ID}-01", id="a later version that says more"),
        pytest.param(f"01-{ID}-01more", None, id="a later version with longer flags"),
        pytest.param(f"00-{ID}-01-more", None, id="version 00 says no more"),
        pytest.param(f"ff-{ID}-01", None, id="version ff"),
        pytest.param(f"00-{ID.upper()}-01", None, id="upper case"),
        pytest.param(f"00-{'0' * 32}-00f067aa0ba902b7-01", None, id="no trace"),
        pytest.param(f"00-{ID[:33]}{'0' * 16}-01", None, id="no span"),
        pytest.param(f"00-{ID}-01\n", None, id="line end"),
        pytest.param(f"00-{ID}-01,00-{ID}-01", None, id="two"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_a_callers_traceparent(value: str, taken: str | None) -> None:
    assert tracing.sound_traceparent(value) == taken


async def test_where_opentelemetry_is_switched_off_nothing_invents_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    exporter = Tracing("http://127.0.0.1:1", "here")
    await exporter.start()
    try:
        with tracing.span("GET", "server", {}):
            assert tracing.origin().trace_id is None
        with tracing.under(tracing.Origin("r", f"00-{ID}-01")), tracing.span("GET", "server", {}):
            assert tracing.origin().traceparent == f"00-{ID}-01"
    finally:
        await exporter.stop()
