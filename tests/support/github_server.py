"""A real HTTP server that answers as GitHub's REST API does, and breaks on command.

    async with github_server() as hub:
        app = hub.add("octo/app")
        app.add_pull("A change")
        hub.rule = lambda call: Reply(502) if call.path.endswith("/pulls") else None
        ...
        assert hub.calls[-1].status == 304

Pages with Link headers (to /repositories/<id>, as GitHub's), ETags, the hourly limit, tokens, private and renamed
repositories behave by themselves; ``rule`` is asked first and may answer anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.support.github_data import Act, Call, FakeRepository, Json, Reply, ago

Rule = Callable[[Call], Reply | Act | None]


class GitHubServer:
    """``token``: the only one that is accepted; None takes any. ``limit`` and ``remaining`` are the hourly limit;
    ``most_at_once`` is how many requests were being answered at the same time."""

    def __init__(self) -> None:
        self.url = ""
        self.repositories: dict[str, FakeRepository] = {}
        self.renamed: dict[str, str] = {}
        self.calls: list[Call] = []
        self.rule: Rule | None = None
        self.token: str | None = None
        self.limit, self.remaining, self.reset_at = 5000, 5000, time.time() + 1800
        self.delay_s = 0.0
        self.most_at_once = 0
        self._at_once = 0
        self._stopping = asyncio.Event()

    def add(self, name: str, **fields: Any) -> FakeRepository:
        made = self.repositories[name] = FakeRepository(name, self.url, **fields)
        return made

    def statuses(self, path_ends: str = "") -> list[int]:
        return [call.status for call in self.calls if call.path.endswith(path_ends)]

    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.method == "POST"]

    # Connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while (call := await _read_call(reader)) is not None:
                self.calls.append(call)
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    goes_on = await self._answer(call, writer)
                finally:
                    self._at_once -= 1
                if not goes_on:
                    break
        writer.close()

    async def _answer(self, call: Call, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(self.delay_s)
        ruled = self.rule(call) if self.rule else None
        match ruled:
            case Act.HANG | Act.DRIP:
                if ruled is Act.DRIP:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not self._stopping.is_set():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stopping.wait(), 0.05)
                    if ruled is Act.DRIP:
                        writer.write(b" ")
                        await writer.drain()
                return False
            case Act.CUT:
                return False
            case Act.GARBAGE:
                reply = Reply(200, b"<html>It works!</html>", {"Content-Type": "text/html"})
            case Reply():
                reply = ruled
            case _:
                reply = self._reply(call)
        call.status = reply.status
        if ruled is Act.DO_AND_CUT:
            return False
        message = self._message(call, reply)
        writer.write(message[: len(message) - 10] if ruled is Act.CUT_IN_BODY else message)
        await writer.drain()
        return ruled is not Act.CUT_IN_BODY

    def _message(self, call: Call, reply: Reply) -> bytes:
        body = reply.body if isinstance(reply.body, bytes) else b"" if reply.body is None else _json(reply.body)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Date": formatdate(usegmt=True),
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(int(self.reset_at)),
            "X-RateLimit-Resource": "core",
        } | reply.headers
        if "gzip" in call.headers.get("accept-encoding", "") and body:
            body, headers = gzip.compress(body, 1), headers | {"Content-Encoding": "gzip"}
        if reply.status != 304:
            headers["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {reply.status} Answer\r\n{head}\r\n".encode() + (body if reply.status != 304 else b"")

    # What GitHub does

    def _reply(self, call: Call) -> Reply:
        if call.token is not None and self.token is not None and call.token != self.token:
            return Reply(401, {"message": "Bad credentials"})
        if self.remaining <= 0:
            return Reply(403, {"message": "API rate limit exceeded for user ID 7."})
        reply = self._routed(call)
        # A 304 is free, to those who say who they are.
        self.remaining -= not (reply.status == 304 and call.token)
        return reply

    def _routed(self, call: Call) -> Reply:
        found = re.fullmatch(r"(?:/api/v3)?/(?:repos/([^/]+/[^/]+)|repositories/(\d+))(/.*)?", call.path)
        if not found:
            return _missing()
        name, number, rest = found[1], found[2], found[3] or ""
        if name in self.renamed:
            query = f"?{urlencode(call.query)}" if call.query else ""
            target = self.repositories[self.renamed[name]]
            status = 301 if call.method == "GET" else 307
            return Reply(
                status, {"message": "Moved"}, {"Location": f"{self.url}/repositories/{target.id}{rest}{query}"}
            )
        repository = next((r for r in self.repositories.values() if r.name == name or str(r.id) == number), None)
        if repository is None or (repository.private and call.token is None):
            return _missing()
        if call.method == "POST":
            return self._write(call, repository, rest)
        return self._read(call, repository, rest)

    def _read(self, call: Call, repository: FakeRepository, rest: str) -> Reply:
        rows: list[Json] | Json | None
        match rest.strip("/").split("/"):
            case [""]:
                rows = repository.facts()
            case ["pulls"]:
                rows = _listed(repository.pulls, call.query)
            case ["issues"] if repository.has_issues:
                rows = _listed(repository.issues, call.query)
            case ["commits"]:
                if not repository.commits:
                    return Reply(409, {"message": "Git Repository is empty."})
                since = call.query.get("since", "")
                rows = [row for row in repository.commits if row["commit"]["committer"]["date"] >= since]
                rows.sort(key=lambda row: row["commit"]["committer"]["date"], reverse=True)
            case ["commits", sha] if sha in repository.files:
                return self._commit(call, repository, sha)
            case ["pulls", number, "reviews"]:
                rows = repository.reviews.get(int(number), [])
            case ["issues", number, "comments"] if _has(repository, number):
                since = call.query.get("since", "")
                rows = [row for row in repository.comments.get(int(number), []) if row["updated_at"] >= since]
            case ["issues"]:
                return Reply(410, {"message": "Issues are disabled for this repo"})
            case _:
                return _missing()
        return self._conditional(call, *self._paged(call, repository, rest, rows))

    def _commit(self, call: Call, repository: FakeRepository, sha: str) -> Reply:
        """Pages of files, 300 each, inside of one object."""
        page, files = int(call.query.get("page", "1")), repository.files[sha]
        shown = files[(page - 1) * 300 : page * 300]
        link = {}
        if len(files) > page * 300:
            link = {"Link": f'<{self.url}/repositories/{repository.id}/commits/{sha}?page={page + 1}>; rel="next"'}
        row = next(row for row in repository.commits if row["sha"] == sha)
        return self._conditional(call, row | {"files": shown}, link)

    def _paged(
        self, call: Call, repository: FakeRepository, rest: str, rows: list[Json] | Json
    ) -> tuple[list[Json] | Json, dict[str, str]]:
        if isinstance(rows, dict):
            return rows, {}
        size, page = min(100, int(call.query.get("per_page", "30"))), int(call.query.get("page", "1"))
        pages = max(1, -(-len(rows) // size))
        wanted = {"prev": page - 1, "next": page + 1, "last": pages, "first": 1}
        links = [
            f'<{self.url}/repositories/{repository.id}{rest}?{urlencode(call.query | {"page": str(to)})}>; rel="{rel}"'
            for rel, to in wanted.items()
            if (rel in ("prev", "first") and page > 1) or (rel in ("next", "last") and page < pages)
        ]
        return rows[(page - 1) * size : page * size], {"Link": ", ".join(links)} if links else {}

    def _conditional(self, call: Call, content: Any, headers: dict[str, str]) -> Reply:
        etag = f'W/"{hashlib.sha256(_json(content) + str(headers).encode()).hexdigest()}"'
        if call.headers.get("if-none-match") == etag:
            return Reply(304, None, {"ETag": etag})
        return Reply(200, content, headers | {"ETag": etag})

    def _write(self, call: Call, repository: FakeRepository, rest: str) -> Reply:
        given = json.loads(call.body)
        if call.token is None or not repository.writable:
            return Reply(403, {"message": "Resource not accessible by personal access token"})
        match rest.strip("/").split("/"):
            case ["issues", number, "comments"] if _has(repository, number):
                if not given.get("body"):
                    return Reply(422, {"message": "Validation Failed", "errors": [{"field": "body"}]})
                return Reply(201, repository.add_comment(int(number), given["body"]))
            case ["issues"] if repository.has_issues:
                repository.add_issue(given["title"], body=given.get("body", ""), created=ago())
                return Reply(201, repository.issues[-1])
            case ["issues"]:
                return Reply(410, {"message": "Issues are disabled for this repo"})
        return _missing()


@asynccontextmanager
async def github_server() -> AsyncIterator[GitHubServer]:
    hub = GitHubServer()
    server = await asyncio.start_server(hub.serve, "127.0.0.1", 0)
    hub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield hub
        hub._stopping.set()


async def _read_call(reader: asyncio.StreamReader) -> Call | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return Call(method, parts.path, dict(parse_qsl(parts.query)), headers, body)


def _listed(rows: list[Json], query: dict[str, str]) -> list[Json]:
    state, order = query.get("state", "open"), f"{query.get('sort', 'created')}_at"
    chosen = [row for row in rows if state in ("all", row["state"]) and row["updated_at"] >= query.get("since", "")]
    return sorted(chosen, key=lambda row: (row[order], row["number"]), reverse=query.get("direction", "desc") == "desc")


def _has(repository: FakeRepository, number: str) -> bool:
    return any(str(row["number"]) == number for row in repository.issues)


def _missing() -> Reply:
    return Reply(404, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"})


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
