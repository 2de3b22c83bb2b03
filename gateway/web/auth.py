"""Who is asking, and may they: one guard before every route. What a route demands it declares (``gateway.access``)."""

from __future__ import annotations

import asyncio
import hmac
import re
from typing import Any, Final, NamedTuple
from uuid import UUID

import httpx
import structlog
from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway.access import AUTHENTICATED, MACHINE, PUBLIC, SCOPES_OF, Principal, Role, Scope, with_included
from gateway.infra.http import open_http
from gateway.infra.postgres import is_unavailable
from gateway.problem import Problem
from gateway.settings import Settings
from gateway.web.jwks import JwksKeys, KeysUnavailable
from gateway.web.keys import Pool, find_key, record_use
from gateway.web.local import refuse_foreign_pages
from gateway.web.logins import SESSION, find_session
from gateway.web.machines import MACHINE_CALLER, MachineDoor
from gateway.web.session import token_of
from gateway.web.tokens import InvalidToken, TokenVerifier, mint_token

__all__ = ["Authenticator", "check_access_declared", "mint_token"]

log = structlog.get_logger(__name__)

_API_KEY: Final = re.compile(r"gw_[A-Za-z0-9_-]{43}")
_BEARER: Final = re.compile(r"bearer +(?P<token>\S+) *", re.IGNORECASE)

Connection = ASGIConnection[Any, Any, Any, Any]


class Admitted(NamedTuple):
    """``until``: when the token stops being accepted, in seconds since 1970; None: that has to be asked again."""

    principal: Principal
    until: float | None = None


class Authenticator:
    """A component: it fetches public keys and records the use of API keys beside the requests.

    ``dev_token`` is accepted as an administrator's; only ``gateway dev`` gives one, no setting does.
    """

    name = "authenticator"

    def __init__(self, settings: Settings, pool: Pool, dev_token: str | None = None) -> None:
        self.open_to_all = settings.auth_mode == "none"
        self._guessable = self.open_to_all or dev_token is not None
        self._query_tokens = settings.realtime_allow_query_token
        self._origins = frozenset(settings.cors_origins)
        self._pool = pool
        self._dev_token = dev_token
        self._machines = MachineDoor(settings.cron_secret, dev_token)
        self._client: httpx.AsyncClient | None = open_http(5.0) if settings.jwt_jwks_url else None
        jwks = JwksKeys(settings.jwt_jwks_url, self._client) if settings.jwt_jwks_url and self._client else None
        self._tokens = TokenVerifier(settings, jwks)
        self._recording: dict[UUID, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Nothing to do: keys are fetched when the first token asks for one."""

    async def stop(self) -> None:
        await asyncio.gather(*self._recording.values(), return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def guard(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Let the request pass, with ``request.user``.

        Raises Problem 401 or 403 (also for another site's page, where no secret protects us); 503 when the ledger or
        the identity provider is needed to tell and does not answer.
        """
        if _is_preflight(handler):
            return
        if self._guessable:
            refuse_foreign_pages(connection, self._origins)
        demanded = handler.opt.get("access")
        if demanded == PUBLIC:
            return
        if demanded == MACHINE:
            header = connection.headers.get("authorization")
            connection.scope["user"] = MACHINE_CALLER if self.open_to_all else self._machines.admit(header)
            return
        principal = await self.principal_of(self.authorization_of(connection, handler))
        connection.scope["user"] = principal
        if demanded == AUTHENTICATED:
            return
        if not isinstance(demanded, Scope) or not principal.may(demanded):
            raise _forbidden(principal, demanded)

    def authorization_of(self, connection: Connection, handler: BaseRouteHandler) -> str | None:
        """Browsers send no header with a WebSocket or an event stream: routes of those, ``opt={"query_token": True}``,
        take ``?token=`` where the settings allow it. Pages, ``opt={"session": True}``, take the session's cookie."""
        header = connection.headers.get("authorization")
        if header is None and handler.opt.get("session"):
            token = token_of(connection)
            return f"Bearer {token}" if token else None
        if header is None and self._query_tokens and handler.opt.get("query_token"):
            token = connection.query_params.get("token")
            return f"Bearer {token}" if token else None
        return header

    async def principal_of(self, authorization: str | None) -> Principal:
        """The caller behind an ``Authorization`` header. Raises Problem 401 or 503."""
        return (await self.admit(authorization)).principal

    async def admit(self, authorization: str | None) -> Admitted:
        """The same for those who stay connected. Raises Problem 401 or 503."""
        if self.open_to_all:
            return Admitted(Principal(id="local", kind="user", scopes=SCOPES_OF[Role.ADMIN], role=Role.ADMIN))
        if not authorization:
            raise _unauthorized(None, "Say who you are: Authorization: Bearer <token or API key>")
        match = _BEARER.fullmatch(authorization)
        if match is None:
            raise _unauthorized("invalid_request", "The Authorization header is not of the form: Bearer <token>")
        token = match["token"]
        if self._dev_token is not None and hmac.compare_digest(token.encode(), self._dev_token.encode()):
            return Admitted(Principal(id="dev", kind="user", scopes=SCOPES_OF[Role.ADMIN], role=Role.ADMIN))
        if _API_KEY.fullmatch(token):
            return Admitted(await self._owner_of(token))
        if SESSION.fullmatch(token):
            return await self._session_of(token)
        return await self._bearer_of(token)

    async def _bearer_of(self, token: str) -> Admitted:
        try:
            return Admitted(*await self._tokens.verified(token))
        except InvalidToken as error:
            raise _unauthorized("invalid_token", str(error)) from error
        except KeysUnavailable as error:
            message = f"Tokens cannot be checked now: {error}"
            raise Problem(503, "keys_unavailable", message, headers={"Retry-After": "30"}) from error

    async def _session_of(self, token: str) -> Admitted:
        session = await find_session(self._pool, token)
        if session is None:
            raise _unauthorized("invalid_token", "This session has ended")
        principal = Principal(id=session.subject, kind="user", scopes=SCOPES_OF[session.role], role=session.role)
        return Admitted(principal, session.until.timestamp())

    async def _owner_of(self, key: str) -> Principal:
        owner = await find_key(self._pool, key)
        if owner is None:
            raise _unauthorized("invalid_token", "There is no such API key")
        if owner.revoked:
            raise _unauthorized("invalid_token", "This API key was revoked")
        if not owner.used_lately and owner.id not in self._recording:
            recording = asyncio.create_task(self._record_use(owner.id), name="record-key-use")
            self._recording[owner.id] = recording
            recording.add_done_callback(lambda _: self._recording.pop(owner.id, None))
        return Principal(id=str(owner.id), kind="key", scopes=with_included(owner.scopes))

    async def _record_use(self, key_id: UUID) -> None:
        try:
            await record_use(self._pool, key_id)
        except Exception as error:
            if not is_unavailable(error):
                raise
            log.warning("key_use_not_recorded", key_id=str(key_id), error=str(error))


def check_access_declared(app: Litestar) -> None:
    """Raises ValueError naming each route that does not say what it demands."""
    undeclared = [
        f"{'/'.join(sorted(getattr(handler, 'http_methods', ())))} {route.path}"
        for route in app.routes
        for handler in _handlers_of(route)
        if not _is_preflight(handler)
        and handler.opt.get("access") not in (PUBLIC, AUTHENTICATED, MACHINE)
        and not isinstance(handler.opt.get("access"), Scope)
    ]
    if undeclared:
        raise ValueError(f'these routes do not declare opt={{"access": ...}}: {", ".join(undeclared)}')


def demand_scope(principal: Principal, scope: Scope) -> None:
    """For what depends on more than the route. Raises Problem 403."""
    if not principal.may(scope):
        raise _forbidden(principal, scope)


def _handlers_of(route: Any) -> list[BaseRouteHandler]:
    handlers = getattr(route, "route_handlers", None)
    return list(handlers) if handlers is not None else [route.route_handler]


def _is_preflight(handler: BaseRouteHandler) -> bool:
    # Litestar answers OPTIONS by itself on every path, with the list of its methods and nothing else.
    return getattr(handler, "http_methods", None) == {"OPTIONS"} and handler.fn.__name__ == "options_handler"


def _unauthorized(error: str | None, message: str) -> Problem:
    challenge = 'Bearer realm="gateway"'  # RFC 6750, section 3
    if error is not None:
        challenge += f', error="{error}", error_description="{_quotable(message)}"'
    code = "missing_token" if error is None else "invalid_token"
    return Problem(401, code, message, headers={"WWW-Authenticate": challenge})


def _quotable(message: str) -> str:
    return re.sub(r"[^\x20-\x7e]|[\"\\]", "'", message)


def _forbidden(principal: Principal, demanded: Any) -> Problem:
    who = f"the role {principal.role}" if principal.role is not None else "this API key"
    message = f"This needs the scope {demanded}, which {who} does not have"
    challenge = f'Bearer realm="gateway", error="insufficient_scope", scope="{demanded}"'
    return Problem(403, "insufficient_scope", message, headers={"WWW-Authenticate": challenge})
