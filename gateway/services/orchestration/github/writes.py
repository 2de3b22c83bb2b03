"""Comments and issues, each written once: what is written carries a mark, and we look for it before we write.

After a time-out nobody knows whether GitHub did it; the next try finds out.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from gateway.services.orchestration.github.answers import Asked
from gateway.services.orchestration.github.client import Client
from gateway.services.orchestration.github.errors import GitHubFailed, GitHubRefused
from gateway.services.orchestration.github.reader import check_rest, resting
from gateway.services.orchestration.github.shapes import Written
from gateway.services.orchestration.github.store import Pages
from gateway.services.orchestration.github.text import clean, clean_markdown

TITLE_MAX: Final = 256  # GitHub's own limits
BODY_MAX: Final = 65_000  # of 65,536, with room for the mark
WRITE_GAP_S: Final = 1.0  # "wait at least one second between each" write
_PAGES_MAX: Final = 20
T = TypeVar("T")
_SKEW: Final = timedelta(minutes=10)  # between GitHub's clock and ours


class Writer:
    """``gate`` is held while one looks and writes, so that the writes of a process come one after the other."""

    def __init__(self, client: Client, pages: Pages, gate: Gate) -> None:
        self._client = client
        self._pages = pages
        self._gate = gate

    async def comment(self, repository: str, number: int, body: str, key: str, since: datetime | None) -> str:
        path = f"/repos/{repository}/issues/{number}/comments"
        after = f"&since={_iso(since)}" if since is not None else ""
        look = self._client.asked(repository, f"issue {number}", f"{path}?per_page=100{after}", writes=True)
        write = self._client.asked(repository, f"issue {number}", path, writes=True)
        async with self._gate:
            check_rest(write, await self._pages.rests_s())
            found = await self._find(look, key, lambda _page: False)
            return found or await self._write(write, {"body": _marked(body, key)})

    async def open_issue(self, repository: str, title: str, body: str, key: str, since: datetime | None) -> str:
        path = f"/repos/{repository}/issues"
        # Not by GitHub's search: it learns of an issue some time after it was opened.
        newest = f"{path}?state=all&sort=created&direction=desc&per_page=100"
        look = self._client.asked(repository, "issues", newest, writes=True)
        write = self._client.asked(repository, "issues", path, writes=True)
        content = {"title": clean(title, TITLE_MAX), "body": _marked(body, key)}
        if not content["title"]:
            raise GitHubRefused("invalid", f"an issue for {repository} needs a title")
        async with self._gate:
            check_rest(write, await self._pages.rests_s())
            found = await self._find(look, key, lambda page: _before(page, since))
            return found or await self._write(write, content)

    async def _find(self, asked: Asked, key: str, last: Callable[[list[Written]], bool]) -> str | None:
        """The address of what carries the key's mark. Raises ``GitHubRefused`` when there is too much to look through:
        writing a second time would be worse."""
        mark = mark_of(key)
        for _ in range(_PAGES_MAX):
            reply = await resting(self._pages, self._client.get(asked))
            page = _decoded(asked, reply.body, list[Written])
            for written in page:
                if mark in (written.body or ""):
                    return written.html_url
            if reply.next is None or last(page):
                return None
            asked = msgspec.structs.replace(asked, path=reply.next)
        raise GitHubRefused(
            "too_large", f"{asked}: more than {_PAGES_MAX} pages would have to be looked through before writing"
        )

    async def _write(self, asked: Asked, content: dict[str, Any]) -> str:
        reply = await resting(self._pages, self._client.post(asked, content))
        self._gate.wrote()
        return _decoded(asked, reply.body, Written).html_url


class Gate:
    """One writer at a time, and ``gap_s`` between two writes."""

    def __init__(self, gap_s: float = WRITE_GAP_S) -> None:
        self._gap_s = gap_s
        self._lock = asyncio.Lock()
        self._free_at = 0.0  # monotonic

    def wrote(self) -> None:
        self._free_at = time.monotonic() + self._gap_s

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        try:
            await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))
        except BaseException:
            self._lock.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


def mark_of(key: str) -> str:
    """An HTML comment: GitHub does not show it. A hash, so that no key can end the comment or say anything."""
    return f"<!-- gateway:{hashlib.sha256(key.encode()).hexdigest()[:32]} -->"


def _marked(body: str, key: str) -> str:
    text = clean_markdown(body, BODY_MAX)
    if not text:
        raise GitHubRefused("invalid", "there is nothing to write: the text is empty")
    return f"{text}\n\n{mark_of(key)}"


def _decoded(asked: Asked, body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise GitHubFailed("bad_answer", f"GitHub's answer is not what its API describes ({asked})") from None


def _before(page: list[Written], since: datetime | None) -> bool:
    return since is not None and any(one.created_at is not None and one.created_at < since - _SKEW for one in page)


def _iso(moment: datetime) -> str:
    return f"{moment.astimezone(UTC) - _SKEW:%Y-%m-%dT%H:%M:%SZ}"
