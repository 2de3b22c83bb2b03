"""One call to GitHub's REST API: bounded in time, bytes and number at once, never to another server, never repeated."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any, Final

import httpx
import msgspec

from gateway.services.orchestration.github.answers import Asked, error_of, rest_s
from gateway.services.orchestration.github.errors import GitHubFailed, GitHubRefused

API_VERSION: Final = "2022-11-28"
REQUEST_S: Final = 20.0  # a whole answer; httpx's own time-outs begin again with each piece that comes
MAX_BYTES: Final = 16_000_000
_REDIRECTS: Final = 2  # a renamed repository, and one that was renamed twice


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """Where GitHub's API is (no slash at the end), and who asks it."""

    url: str
    token: str | None

    @property
    def lane(self) -> str:
        """Names API and token without telling them: what shares one rate limit, and sees the same things."""
        return hashlib.sha256(f"{self.url}\n{self.token or ''}".encode()).hexdigest()


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """``next``: path of the page after this one. ``rest_s``: this was the last call before a pause of as many seconds.
    ``status`` 304 has no body."""

    status: int
    body: bytes
    etag: str | None
    next: str | None
    rest_s: float | None


class Client:
    """``slots`` bounds the calls at once; it is shared by all who call for this process."""

    def __init__(self, api: Api, http: httpx.AsyncClient, slots: asyncio.Semaphore) -> None:
        self._api = api
        self._http = http
        self._slots = slots

    def asked(self, repository: str, what: str, path: str, *, writes: bool = False) -> Asked:
        """``path`` begins with a slash, behind the API's address."""
        with_token = self._api.token is not None
        return Asked(repository=repository, what=what, path=path, with_token=with_token, writes=writes)

    async def get(self, asked: Asked, etag: str | None = None) -> Reply:
        """Raises ``GitHubError``. With an ``etag`` the reply may be 304: unchanged."""
        return await self._call("GET", asked, {"If-None-Match": etag} if etag else {}, None)

    async def post(self, asked: Asked, content: dict[str, Any]) -> Reply:
        """Raises ``GitHubError``; after ``GitHubFailed`` it may have been done all the same."""
        return await self._call("POST", asked, {"Content-Type": "application/json"}, msgspec.json.encode(content))

    async def _call(self, method: str, asked: Asked, headers: dict[str, str], content: bytes | None) -> Reply:
        try:
            async with self._slots, asyncio.timeout(REQUEST_S):
                return await self._follow(httpx.Request(method, self._api.url + asked.path), asked, headers, content)
        except (TimeoutError, httpx.TimeoutException):
            raise GitHubFailed("timeout", f"GitHub did not answer in time ({asked})") from None
        except httpx.HTTPError as error:
            why = f"{type(error).__name__}: {error}".rstrip(": ")
            raise GitHubFailed("unavailable", f"GitHub could not be reached, or hung up ({asked}): {why}") from error
        except httpx.InvalidURL as error:
            raise GitHubFailed("bad_answer", f"GitHub named no valid address ({asked}): {error}") from error

    async def _follow(
        self, request: httpx.Request, asked: Asked, headers: dict[str, str], content: bytes | None
    ) -> Reply:
        url = request.url
        for _ in range(_REDIRECTS + 1):
            async with self._http.stream(
                request.method, url, headers=self._headers | headers, content=content
            ) as response:
                elsewhere = self._redirect(request.method, response)
                if elsewhere is None:
                    return await self._reply(asked, response)
                url = elsewhere
        raise GitHubRefused("not_found", f"GitHub sends {asked} from one address to the next without end")

    @property
    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": API_VERSION}
        return headers | ({"Authorization": f"Bearer {self._api.token}"} if self._api.token else {})

    def _redirect(self, method: str, response: httpx.Response) -> httpx.URL | None:
        """Where to ask instead, if that is this API too: the token goes nowhere else."""
        followed = (301, 302, 307, 308) if method == "GET" else (307, 308)
        if response.status_code not in followed or "location" not in response.headers:
            return None
        url = response.url.join(response.headers["location"])
        return url if self._path_of(url) is not None else None

    def _path_of(self, url: httpx.URL) -> str | None:
        text = str(url)
        return text.removeprefix(self._api.url) if text.startswith(self._api.url + "/") else None

    async def _reply(self, asked: Asked, response: httpx.Response) -> Reply:
        body = await _read(asked, response)
        error = error_of(asked, response.status_code, response.headers, body, time.time())
        if error is not None:
            raise error
        return Reply(
            status=response.status_code,
            body=body,
            etag=response.headers.get("etag"),
            next=self._next(asked, response),
            rest_s=rest_s(response.headers, time.time()),
        )

    def _next(self, asked: Asked, response: httpx.Response) -> str | None:
        target = response.links.get("next", {}).get("url")
        if target is None:
            return None
        path = self._path_of(response.url.join(target))
        if path is None:
            raise GitHubFailed("bad_answer", f"the next page is at another address than GITHUB_API_URL ({asked})")
        return path


async def _read(asked: Asked, response: httpx.Response) -> bytes:
    pieces, size = list[bytes](), 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size > MAX_BYTES:
            raise GitHubRefused("too_large", f"GitHub's answer has more than {MAX_BYTES} bytes ({asked})")
        pieces.append(piece)
    return b"".join(pieces)
