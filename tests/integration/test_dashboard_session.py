"""The dashboard's frame: who gets in, how, and what its pages may load."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib.resources import files

import httpx
import pytest

from gateway.access import Role, Scope
from gateway.web.keys import create_key, revoke_key
from gateway.web.session import COOKIE, SECURE_COOKIE
from tests.support.pages import ORIGIN, PAGES, Dashboard, Document, dashboard, token_for


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Dashboard]:
    async with dashboard(database_url) as made:
        yield made


async def sign_in(board: Dashboard, token: str, **fields: str) -> httpx.Response:
    return await board.press("/login", token=token, **fields)


async def test_who_has_no_session_is_sent_to_sign_in_and_comes_back(board: Dashboard) -> None:
    sent = await board.http.get(f"{PAGES}?done=retry")
    assert sent.status_code == 303
    assert sent.headers["location"] == f"{PAGES}/login?next=%2Fadmin%2Fqueues%3Fdone%3Dretry"
    form = await board.page("/login?next=%2Fadmin%2Fqueues%3Fdone%3Dretry")
    form.sound()
    assert {"type": "hidden", "name": "next", "value": "/admin/queues?done=retry"} in form.all("input")
    assert len(form.actions()) == 1, "one click is for development, with the token that everybody knows"
    back = await sign_in(board, token_for(board.settings, Role.VIEWER), next="/admin/queues?done=retry")
    assert (back.status_code, back.headers["location"]) == (303, "/admin/queues?done=retry")
    cookie = back.headers["set-cookie"].lower()
    assert cookie.startswith(f"{COOKIE}=")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert (await board.page()).text.count("Overview") >= 2


async def test_the_cookie_is_bound_to_the_host_over_tls(board: Dashboard) -> None:
    token = token_for(board.settings, Role.VIEWER)
    headers = {**ORIGIN, "X-Forwarded-Proto": "https"}
    answer = await board.http.post(f"{PAGES}/login", data={"token": token}, headers=headers)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{SECURE_COOKIE}=")
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie
    board.http.cookies.clear()
    plain = {"X-Forwarded-Proto": "https", "Cookie": f"{COOKIE}={token}"}  # one that another host may have set
    assert (await board.http.get(PAGES, headers=plain)).status_code == 303


@pytest.mark.parametrize(
    "wanted",
    [
        *("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1", "/api"),
        *("/admin/queues/../x", "/admin/queues/%2e%2e/x", "/admin/queues/.%2E/x"),
    ],
)
async def test_next_leads_to_pages_of_the_dashboard_only(board: Dashboard, wanted: str) -> None:
    answer = await sign_in(board, token_for(board.settings, Role.VIEWER), next=wanted)
    assert (answer.status_code, answer.headers["location"]) == (303, PAGES)


async def test_what_does_not_let_in_is_told_alike(board: Dashboard) -> None:
    key, info = await create_key(board.pool, "app", [Scope.ADMIN_READ], "test")
    assert await revoke_key(board.pool, info.id)
    told = []
    for token in (key, "gw_" + "x" * 43, "not a token", token_for(board.settings, Role.VIEWER)[:-2]):
        answer = await sign_in(board, token)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        told.append(answer.text)
    assert len(set(told)) == 1


async def test_five_tries_a_minute(board: Dashboard) -> None:
    for _ in range(5):
        assert (await sign_in(board, "wrong")).status_code == 403
    late = await sign_in(board, token_for(board.settings, Role.ADMIN))
    assert late.status_code == 429
    assert 0 < int(late.headers["retry-after"]) <= 60
    assert "set-cookie" not in late.headers


async def test_a_token_without_admin_read_does_not_let_in(board: Dashboard) -> None:
    answer = await sign_in(board, token_for(board.settings, Role.USER))
    assert answer.status_code == 403
    assert "admin:read" in answer.text


async def test_a_key_that_is_revoked_is_signed_out(board: Dashboard) -> None:
    key, info = await create_key(board.pool, "app", [Scope.ADMIN_READ], "test")
    assert (await sign_in(board, key)).status_code == 303
    await board.page()
    assert await revoke_key(board.pool, info.id)
    out = await board.http.get(PAGES)
    assert out.status_code == 303
    assert "Max-Age=0" in out.headers["set-cookie"]


async def test_signing_out_ends_the_session(board: Dashboard) -> None:
    await sign_in(board, token_for(board.settings, Role.VIEWER))
    assert (await board.press("/logout")).headers["location"] == f"{PAGES}/login"
    assert (await board.http.get(PAGES)).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site", **ORIGIN}],
    ids=["nothing", "another origin", "null", "cross-site"],
)
async def test_forms_of_other_pages_are_refused(board: Dashboard, headers: dict[str, str]) -> None:
    token = token_for(board.settings, Role.ADMIN)
    answer = await board.http.post(f"{PAGES}/login", data={"token": token}, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_a_referrer_that_is_no_address_is_none(board: Dashboard) -> None:
    headers = {"Referer": "http://[", "Sec-Fetch-Site": "same-origin"}
    answer = await board.http.post(f"{PAGES}/queue/email-queue/pause", data={"reason": "x"}, headers=headers)
    assert answer.headers["location"] == f"{PAGES}/login?ended=1"
    board.sign_in()
    assert (await board.http.get(f"{PAGES}/nope", headers=headers)).status_code == 404


async def test_the_cookie_opens_no_other_route(board: Dashboard) -> None:
    board.sign_in()
    assert (await board.http.get("/api/v1/admin/queues")).status_code == 401
    assert (await board.http.get("/admin/queues/api/queues")).status_code == 200


async def test_pages_load_their_own_files_only(board: Dashboard) -> None:
    board.sign_in()
    answer = await board.http.get(PAGES)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert answer.headers["cache-control"] == "no-store"
    page = Document.of(answer.text)
    page.sound()
    loaded = [link["href"] or "" for link in page.all("link")] + [one["src"] or "" for one in page.all("script")]
    assert len(loaded) == 4
    for address in loaded:
        asset = await board.http.get(address)
        assert asset.status_code == 200
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert asset.headers["content-encoding"] == "gzip"
        plain = await board.http.get(address, headers={"Accept-Encoding": "identity"})
        assert ("content-encoding" not in plain.headers, plain.content) == (True, asset.content)
    of_another_version = await board.http.get(re.sub("[0-9a-f]{16}", "0" * 16, loaded[0]))
    assert (of_another_version.status_code, of_another_version.headers["cache-control"]) == (200, "no-store")
    assert (await board.http.get(f"{PAGES}/static/{'0' * 16}/nothing.js")).status_code == 404


def test_own_files_are_small_and_name_no_other_host() -> None:
    static = files("gateway.web.dashboard").joinpath("static")
    texts = {entry.name: entry.read_text("utf-8") for entry in static.iterdir()}
    assert sum(map(len, texts.values())) < 60_000
    for name, text in texts.items():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert "eval(" not in text
        assert "innerHTML =" not in text.replace("innerHTML ===", "")


async def test_it_answers_json_to_who_asks_for_it(board: Dashboard) -> None:
    asked = {"Accept": "application/json"}
    refused = await board.http.get(PAGES, headers=asked)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_token")
    board.sign_in(Role.VIEWER)
    found = (await board.http.get(PAGES, headers=asked)).json()["data"]
    assert found["queues"][0]["name"] == "email-queue"


async def test_without_authentication_the_page_says_so(database_url: str) -> None:
    async with dashboard(database_url, auth_mode="none", gateway_env="development") as board:
        page = await board.page()
        assert "Anyone who can reach this port is an administrator" in page.text
        assert "Sign out" not in page.text


async def test_a_prefix_of_a_proxy_stands_in_every_link(board: Dashboard) -> None:
    board.sign_in()
    transport = httpx.ASGITransport(board.http._transport.app, root_path="/gw")  # type: ignore[attr-defined]
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", cookies=board.http.cookies
    ) as client:
        page = Document.of((await client.get(f"/gw{PAGES}")).text)
        assert page.links()
        assert all(link.startswith((f"/gw{PAGES}", "#")) for link in page.links())
