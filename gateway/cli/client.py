"""Calls to a running instance over its HTTP API, and what their failures mean to the person who typed the command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

import httpx

from gateway.cli.command import invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.instance import Target, find_target

TIMEOUT_S = 30.0
STREAM_SILENCE_S = 60.0  # a stream says at least every 15 s that it is there
PAGE_MAX = 100  # the API's largest page

EXIT_OF = {401: Exit.REFUSED, 403: Exit.REFUSED, 404: Exit.NOTHING_MATCHED, 400: Exit.USAGE, 422: Exit.USAGE}


class Client:
    """One instance. Each method returns the answer's JSON object, or raises CliError."""

    def __init__(self, target: Target, http: httpx.Client) -> None:
        self.target = target
        self._http = http

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._call("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **query: str
    ) -> dict[str, Any]:
        return self._call("POST", path, json=body if body is not None else {}, headers=headers, params=query)

    def put(self, path: str, body: Any) -> dict[str, Any]:
        return self._call("PUT", path, json=body)

    def patch(self, path: str, body: Any) -> dict[str, Any]:
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        self._answer("DELETE", path)

    def pages(self, path: str, limit: int, **query: Any) -> list[Any]:
        """Up to ``limit`` rows of a list, over as many pages as that takes."""
        rows: list[Any] = []
        cursor: str | None = None
        while len(rows) < limit:
            answer = self.get(path, cursor=cursor, limit=min(PAGE_MAX, limit - len(rows)), **query)
            rows.extend(answer["data"])
            cursor = answer["page"]["nextCursor"]
            if cursor is None:
                break
        return rows

    @contextmanager
    def events(self, path: str, last_id: str | None) -> Iterator[Iterator[str]]:
        """The lines of a stream of server-sent events, after the one with ``last_id``; they end when it breaks off."""
        headers = {"Last-Event-ID": last_id} if last_id else {}
        timeout = httpx.Timeout(TIMEOUT_S, read=STREAM_SILENCE_S)
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(response, _json_object(response), self.target)
                yield _until_broken(response)
        except httpx.TransportError as error:
            raise CliError(f"{self.target.url} is not reachable ({error})", Exit.UNREACHABLE) from error

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        body = _json_object(self._answer(method, path, **request))
        if body is None:
            raise CliError(f"{self.target.url} is not a gateway: {path} did not answer JSON", Exit.UNREACHABLE)
        return body

    def _answer(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except httpx.TimeoutException as error:
            raise CliError(f"{self.target.url} did not answer within {TIMEOUT_S:.0f} s", Exit.UNREACHABLE) from error
        except httpx.TransportError as error:
            message = f"{self.target.url} is not reachable ({error}). Is it running there? --url names another one."
            raise CliError(message, Exit.UNREACHABLE) from error
        if not response.is_success:
            raise _refusal(response, _json_object(response), self.target)
        return response


def _until_broken(response: httpx.Response) -> Iterator[str]:
    rest = b""
    with suppress(httpx.TransportError):
        for part in response.iter_bytes():
            *lines, rest = (rest + part).split(b"\n")  # no other character ends a line here
            for line in lines:
                yield line.decode()


def _json_object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _refusal(response: httpx.Response, body: dict[str, Any] | None, target: Target) -> CliError:
    error = (body or {}).get("error")
    if not isinstance(error, dict):
        error = {"code": f"http_{response.status_code}", "message": f"{target.url} answered {response.status_code}"}
    lines = [str(error.get("message"))]
    lines += [f"  {d.get('field')}: {d.get('message')}" for d in error.get("details") or [] if isinstance(d, dict)]
    if len(lines) == 2 and str(error["message"]) in lines[1]:
        lines.pop()  # the one detail says what the message says
    if response.status_code == 401:
        lines.append("Set GATEWAY_TOKEN; on the server: gateway token create --role operator")
    exit_code = EXIT_OF.get(response.status_code, Exit.FAILED)
    return CliError("\n".join(lines), exit_code, str(error.get("code")))


@contextmanager
def connected() -> Iterator[Client]:
    """A client for the instance that the running command's options name."""
    target = find_target(invocation())
    headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
    # Environment proxies are for the outside; the instance named here is called as named.
    with httpx.Client(base_url=target.url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as http:
        yield Client(target, http)


def segment(value: str) -> str:
    """``value`` as one segment of a path, whatever it contains."""
    return quote(value, safe="")
