"""The browser's session: the bearer token in a cookie that scripts cannot read, checked like the token each time.

Routes of the dashboard take it, ``opt={"session": True}``; all others know the ``Authorization`` header only.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie

from gateway.problem import Problem

COOKIE: Final = "gateway_session"
SECURE_COOKIE: Final = (
    f"__Host-{COOKIE}"  # browsers take it over TLS only, and from no other host (RFC 6265bis, 4.1.3.2)
)
KEEP_S: Final = 12 * 3600
TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,3800}")  # a cookie has 4096 bytes with its name

Connection = ASGIConnection[Any, Any, Any, Any]


def token_of(connection: Connection) -> str | None:
    """The token of the browser's session, None without one."""
    name = SECURE_COOKIE if over_tls(connection) else COOKIE
    token = connection.cookies.get(name, "")
    return token if TOKEN.fullmatch(token) else None


def session_cookie(connection: Connection, token: str | None) -> Cookie:
    """The cookie that begins a session; None ends it."""
    secure = over_tls(connection)
    return Cookie(
        key=SECURE_COOKIE if secure else COOKIE,
        value=token or "",
        max_age=KEEP_S if token else 0,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def over_tls(connection: Connection) -> bool:
    """Does the browser speak TLS, perhaps with a proxy before us? Who lies about it changes his own cookie only."""
    said = connection.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    return connection.url.scheme == "https" or said == "https"


def demand_same_origin(connection: Connection, _handler: Any = None) -> None:
    """A guard for what changes something. Raises Problem 403 ``foreign_page`` unless the request comes from a page of
    ours, or from a program that shows its token itself."""
    if connection.scope.get("method") in ("GET", "HEAD", "OPTIONS") or "authorization" in connection.headers:
        return
    site = connection.headers.get("sec-fetch-site")
    if site == "same-origin":
        return
    # Over plain HTTP browsers do not say the site, but always the origin of a form.
    if site is None and _same_host(connection.headers.get("origin"), connection.headers.get("host", "")):
        return
    message = "This form was not sent from a page of this dashboard; open the page again and repeat it there"
    raise Problem(403, "foreign_page", message)


def _same_host(origin: str | None, host: str) -> bool:
    if origin is None:
        return False
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
