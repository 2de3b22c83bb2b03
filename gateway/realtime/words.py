"""A model's words on their way to whoever watches: few messages instead of one for each token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

PARTIAL_MAX: Final = 200_000  # characters kept of an answer that was cut
EVERY_S: Final = 0.05
PIECE_MAX: Final = 1000  # characters of one message: a channel takes no long ones, and JSON may need 6 bytes for each


class Words:
    """Collects words and tells them about each 50 ms, in pieces that a channel takes. ``text`` is all that has come, up
    to ``PARTIAL_MAX`` characters. Without ``tell`` it only collects."""

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        self._tell = tell
        self._said: list[str] = []
        self._size = 0
        self._waiting: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, text: str) -> None:
        if self._size < PARTIAL_MAX:
            self._said.append(text)
            self._size += len(text)
        if self._tell is None:
            return
        self._waiting.append(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self.flush)

    @property
    def text(self) -> str:
        return "".join(self._said)[:PARTIAL_MAX]

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and self._tell is not None:
            text, self._waiting = "".join(self._waiting), []
            for at in range(0, len(text), PIECE_MAX):
                self._tell(text[at : at + PIECE_MAX])
