"""A blocked event loop is named while it is blocked."""

from __future__ import annotations

import io
import json
import threading

from gateway.infra.log import configure_logging
from gateway.infra.watchdog import LoopWatchdog
from tests.support.eventually import eventually


def blocks_the_loop(until: threading.Event) -> None:
    until.wait(10)


async def test_the_blocking_function_is_named_and_the_end_is_said() -> None:
    out = io.StringIO()
    configure_logging("info", "json", stream=out)
    watchdog = LoopWatchdog(blocked_s=0.3)
    await watchdog.start()
    free = threading.Event()
    threading.Thread(target=_free_when_said, args=(out, free)).start()
    blocks_the_loop(free)
    await eventually(lambda: "event_loop_free" in out.getvalue())
    await watchdog.stop()
    await watchdog.stop()
    (line,) = [json.loads(text) for text in out.getvalue().splitlines() if "blocks_the_loop" in text]
    assert line["event"] == "event_loop_blocked"
    assert line["for_s"] >= 0.3


def _free_when_said(out: io.StringIO, free: threading.Event) -> None:
    for _ in range(100):
        if "blocks_the_loop" in out.getvalue() or free.wait(0.1):
            break
    free.set()
