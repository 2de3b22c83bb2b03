"""Callers with roles, and how answers are read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import httpx

from gateway.access import Role
from gateway.runtime import Runtime
from gateway.web.auth import mint_token

As: TypeAlias = Callable[[str], dict[str, str]]
ROLES = {"viewer": Role.VIEWER, "operator": Role.OPERATOR, "admin": Role.ADMIN}


def people(runtime: Runtime) -> As:
    """The headers of somebody: viewer, operator and admin have the role of that name, all others are users."""

    def headers(name: str) -> dict[str, str]:
        expires = datetime.now(UTC) + timedelta(minutes=10)
        return {"Authorization": f"Bearer {mint_token(runtime.settings, name, ROLES.get(name, Role.USER), expires)}"}

    return headers


def data(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()["data"]


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    return error
