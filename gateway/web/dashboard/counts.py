"""How much waits behind the entries of the navigation, for each page without a statement for each page."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Final

from gateway.infra.postgres import LEDGER_ERRORS
from gateway.pages import Entry
from gateway.web.deadline import within

KEPT_S: Final = 2.0
_READ_S: Final = 0.3  # a page waits for them


class Counts:
    """``known``: by the entry's place. What could not be read is not shown; the page itself says what is away."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = [entry for entry in entries if entry.count is not None]
        self._read_at = -KEPT_S
        self.known: dict[str, int] = {}

    async def refresh(self) -> None:
        if monotonic() - self._read_at < KEPT_S:
            return
        self._read_at = monotonic()  # before it is read: pages that come meanwhile do not ask too
        try:
            self.known = await within(_READ_S, self._count())
        except LEDGER_ERRORS:  # a time-out is an OSError
            self.known = {}

    async def _count(self) -> dict[str, int]:
        return {entry.place: await entry.count() for entry in self._entries if entry.count is not None}
