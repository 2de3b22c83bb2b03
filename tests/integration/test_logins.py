"""One-time codes: good once, for minutes, over all replicas, as a hash; what they open ends by signing out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.access import SCOPES_OF, Role, Scope
from gateway.web.keys import create_key
from gateway.web.logins import VALID_MAX, code_of, create_login
from gateway.web.session import COOKIE
from tests.support.pages import PAGES, Dashboard, dashboard, token_for

LOGINS = "/api/v1/admin/logins"


def bearer(board: Dashboard, role: Role) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_for(board.settings, role)}"}


async def made(board: Dashboard, **asked: Any) -> dict[str, Any]:
    answer = await board.http.post(LOGINS, json=asked, headers=bearer(board, Role.ADMIN))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


async def test_a_code_of_one_replica_signs_in_once_at_another(database_url: str) -> None:
    async with dashboard(database_url) as first, dashboard(database_url) as second:
        login = await made(first, role="operator", subject="ana")
        code = login["code"]
        expires = datetime.fromisoformat(login["expiresAt"])
        assert timedelta(minutes=9) < expires - datetime.now(UTC) <= timedelta(minutes=10)
        assert (await second.http.get(f"{PAGES}/login")).status_code == 200, "who only looks uses no code"
        typed = f" {code.lower().replace('-', ' ').replace('0', 'o').replace('1', 'l')} "
        welcome = await second.press("/login", token=typed, next=f"{PAGES}/replicas")
        assert (welcome.status_code, welcome.headers["location"]) == (303, f"{PAGES}/replicas")
        assert code not in welcome.headers["set-cookie"]
        page = await second.page()
        assert "ana operator" in page.text

        again, wrong = await first.press("/login", token=code), await first.press("/login", token="0000-0000-0000")
        assert (again.status_code, again.text) == (403, wrong.text)
        first.http.cookies.set(COOKIE, second.http.cookies[COOKIE])
        await first.page()  # any replica knows the session

        stored = await first.pool.fetchrow("SELECT * FROM logins")
        assert stored is not None
        secret = second.http.cookies[COOKIE]
        assert code_of(code) not in str(dict(stored)) and secret not in str(dict(stored))
        assert await first.audited() == [
            ("the admin", "login.create", login["id"]),
            ("ana", "login.use", login["id"]),
        ]
        assert (await second.press("/logout")).status_code == 303
        assert (await first.http.get(PAGES)).status_code == 303, "signed out is signed out everywhere"


async def test_a_session_has_its_role_and_ends_by_itself(database_url: str) -> None:
    async with dashboard(database_url) as board:
        code, _ = await create_login(board.pool, "vera", Role.VIEWER, "test")
        assert (await board.press("/login", token=code)).status_code == 303
        assert (await board.page()).actions() == []
        assert (await board.press("/queue/email-queue/pause")).status_code == 403
        await board.pool.execute("UPDATE logins SET session_until = now()")
        assert (await board.http.get(PAGES)).status_code == 303


async def test_an_old_code_opens_nothing_and_goes(database_url: str) -> None:
    async with dashboard(database_url) as board:
        code, _ = await create_login(board.pool, "ana", Role.VIEWER, "test")
        await board.pool.execute("UPDATE logins SET expires_at = now() - interval '25 h'")
        assert (await board.press("/login", token=code)).status_code == 403
        await create_login(board.pool, "ana", Role.VIEWER, "test")
        assert await board.pool.fetchval("SELECT count(*) FROM logins") == 1


async def test_codes_are_guessed_five_times_a_minute_at_most(database_url: str) -> None:
    async with dashboard(database_url) as board:
        code, _ = await create_login(board.pool, "ana", Role.VIEWER, "test")
        for number in range(5):
            assert (await board.press("/login", token=f"ABCD-EFGH-000{number}")).status_code == 403
        assert (await board.press("/login", token=code)).status_code == 429
        assert await board.pool.fetchval("SELECT session_until FROM logins") is None, "a late try uses no code"


async def test_administrators_alone_make_codes_and_what_cannot_be_made_is_named(database_url: str) -> None:
    async with dashboard(database_url) as board:
        refused = await board.http.post(LOGINS, json={}, headers=bearer(board, Role.OPERATOR))
        assert refused.status_code == 403
        scopes = [Scope.ADMIN_WRITE, *SCOPES_OF[Role.VIEWER]]
        key, _ = await create_key(board.pool, "robot", scopes, "test")
        for role in (Role.VIEWER, Role.ADMIN):
            answer = await board.http.post(LOGINS, json={"role": role}, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 201, answer.text
        narrow, _ = await create_key(board.pool, "narrow", [Scope.ADMIN_WRITE], "test")
        beyond = await board.http.post(LOGINS, json={"role": "viewer"}, headers={"Authorization": f"Bearer {narrow}"})
        assert beyond.status_code == 403 and "emails:send" in beyond.json()["error"]["message"]
        wrong = ({"role": "user"}, {"subject": ""}, {"subject": "a\nb"}, {"validS": 3601}, {"validS": 0}, {"role": "x"})
        for asked in wrong:
            answer = await board.http.post(LOGINS, json=asked, headers=bearer(board, Role.ADMIN))
            assert answer.status_code == 400, asked
            assert next(iter(asked)) in str(answer.json()["error"]["details"]), answer.text
        with pytest.raises(ValueError, match="60 minutes"):
            await create_login(board.pool, "ana", Role.VIEWER, "test", valid=VALID_MAX + timedelta(seconds=1))
        assert (await made(board))["subject"] == "the admin"
