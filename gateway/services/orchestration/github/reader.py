"""Pages of GitHub, from the ledger as long as they are young enough, else asked for with their ETag (O36)."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import msgspec
import structlog

from gateway.services.orchestration.github.answers import Asked
from gateway.services.orchestration.github.client import Client, Reply
from gateway.services.orchestration.github.errors import GitHubBusy, GitHubFailed
from gateway.services.orchestration.github.store import KeptPage, Pages

log = structlog.get_logger(__name__)

_SHAPES: Final = 1  # of shapes.py: another number forgets what was kept in an older form
_HOUR_S: Final = 3600.0

T = TypeVar("T")


class Kind(msgspec.Struct, frozen=True):
    """What pages are about, and how old they may be."""

    name: str
    age_s: float


ISSUES: Final = Kind("issues", _HOUR_S)
PULLS: Final = Kind("pulls", _HOUR_S)
COMMITS: Final = Kind("commits", 4 * _HOUR_S)
HOT_SPOTS: Final = Kind("hot_spots", 24 * _HOUR_S)
FACTS: Final = Kind("facts", 24 * _HOUR_S)


class Held(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """``changed``: GitHub answered something else than what was kept, or nothing was kept."""

    value: T
    next: str | None
    changed: bool


class Listing(msgspec.Struct, Generic[T], kw_only=True):
    """A list of up to ``most`` pages of which ``rows`` have been read. ``last`` says of a page that those behind it are
    of no interest."""

    asked: Asked
    kind: Kind
    shape: type[T]
    most: int
    last: Callable[[list[T]], bool] | None = None
    rows: list[T]


class Reader:
    """For one lane; reads only."""

    def __init__(self, client: Client, pages: Pages, lane: str) -> None:
        self._client = client
        self._pages = pages
        self._lane = lane

    async def one(self, asked: Asked, kind: Kind, shape: type[T], *, recheck: bool = False) -> Held[T]:
        """``recheck`` asks GitHub however young the page is. Raises ``GitHubError``."""
        key = hashlib.sha256(f"{_SHAPES}\n{self._lane}\n{asked.path}".encode()).digest()
        kept, rest_s = await self._pages.read(key, 0.0 if recheck else kind.age_s)
        value = _decoded(kept.body, shape) if kept is not None else None
        if kept is not None and value is not None and kept.fresh:
            return Held(value=value, next=kept.next, changed=False)
        check_rest(asked, rest_s)
        etag = kept.etag if kept is not None and value is not None else None
        reply = await resting(self._pages, self._client.get(asked, etag))
        if reply.status == 304 and kept is not None and value is not None:
            await self._pages.confirm(key)
            return Held(value=value, next=kept.next, changed=False)
        value = _decoded(reply.body, shape)
        if value is None:
            raise GitHubFailed("bad_answer", f"GitHub's answer is not what its API describes ({asked})")
        page = KeptPage(etag=reply.etag, next=reply.next, body=msgspec.json.encode(value), fresh=True)
        await self._pages.keep(key, (asked.repository, kind.name), page)
        return Held(value=value, next=reply.next, changed=True)

    async def fill(self, listing: Listing[T]) -> bool:
        """Read its pages one after the other; False when there are more than ``most``. When a page has changed, those
        behind it are asked for too: rows have moved over its end. Raises ``GitHubError``; ``rows`` keeps what came."""
        asked, recheck = listing.asked, False
        for _ in range(listing.most):
            held: Held[list[T]] = await self.one(asked, listing.kind, _list_of(listing.shape), recheck=recheck)
            listing.rows += held.value
            if held.next is None or (listing.last is not None and listing.last(held.value)):
                return True
            asked, recheck = msgspec.structs.replace(asked, path=held.next), recheck or held.changed
        return False


def check_rest(asked: Asked, rest_s: float) -> None:
    """Raises ``GitHubBusy`` while the lane must rest: asking all the same may get the token locked out."""
    if rest_s > 0:
        message = f"GitHub's rate limit: no calls for {rest_s:.0f} s more ({asked})"
        raise GitHubBusy("rate_limited", message, after_s=max(1.0, rest_s))


async def resting(pages: Pages, call: Awaitable[Reply]) -> Reply:
    """The call's reply; every replica hears of a limit that it met."""
    try:
        reply = await call
    except GitHubBusy as busy:
        log.warning("github_rests", kind=busy.kind, after_s=busy.after_s, error=str(busy))
        await pages.rest(busy.after_s, str(busy))
        raise
    if reply.rest_s is not None:
        await pages.rest(reply.rest_s, "the last call used the limit up")
    return reply


def _list_of(shape: type[T]) -> type[list[T]]:
    return list[shape]  # type: ignore[valid-type]


def _decoded(body: bytes, shape: type[T]) -> T | None:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
