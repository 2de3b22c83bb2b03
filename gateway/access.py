"""Who is asking, and what a route demands of them. Checked in ``web/auth.py``, declared on each route.

Every route names its demand in ``opt={"access": ...}``; a route without one is refused at start. The names of its query
parameters stand beside it, ``opt={"query": (...)}``: others are refused (``web/requests.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Role(StrEnum):
    """Roles of people (JWT). Each includes the ones before it."""

    USER = "user"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Scope(StrEnum):
    """What an API key may do. People get scopes by role (see ``SCOPES_OF``)."""

    EMAILS_SEND = "emails:send"
    EMAILS_READ = "emails:read"
    ORCHESTRATION_RUN = "orchestration:run"
    ORCHESTRATION_READ = "orchestration:read"
    CONVERSATIONS_WRITE = "conversations:write"
    CONVERSATIONS_READ = "conversations:read"
    ADMIN_READ = "admin:read"
    ADMIN_CONTENT = "admin:content"  # with admin:read: what people and models wrote
    ADMIN_OPERATE = "admin:operate"
    ADMIN_WRITE = "admin:write"


_USER = frozenset(
    {
        *(Scope.EMAILS_SEND, Scope.EMAILS_READ),
        *(Scope.ORCHESTRATION_RUN, Scope.ORCHESTRATION_READ),
        *(Scope.CONVERSATIONS_WRITE, Scope.CONVERSATIONS_READ),
    }
)
SCOPES_OF: dict[Role, frozenset[Scope]] = {
    Role.USER: _USER,
    Role.VIEWER: _USER | {Scope.ADMIN_READ},
    Role.OPERATOR: _USER | {Scope.ADMIN_READ, Scope.ADMIN_CONTENT, Scope.ADMIN_OPERATE},
    Role.ADMIN: frozenset(Scope),
}

# What a scope of an API key includes; people's roles list theirs in full.
_INCLUDED: dict[Scope, frozenset[Scope]] = {
    Scope.ADMIN_OPERATE: frozenset({Scope.ADMIN_CONTENT}),
    Scope.ADMIN_WRITE: frozenset({Scope.ADMIN_OPERATE, Scope.ADMIN_CONTENT, Scope.ADMIN_READ}),
}

PUBLIC = "public"  # opt={"access": PUBLIC}: no token needed
MACHINE = "machine"  # opt={"access": MACHINE}: who knows CRON_SECRET, and nobody else
AUTHENTICATED = "authenticated"  # any token or key will do: what is asked for is checked one by one


def with_included(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """The scopes, and those that they include."""
    given = frozenset(scopes)
    return given.union(*(_INCLUDED.get(scope, frozenset()) for scope in given))


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The authenticated caller. ``id`` is the token's subject, or the API key's id; it is what rows belong to.

    ``sees_all``: may read the rows of others too (role viewer and above, or scope admin:read).
    ``reads_content``: of those also what people and models wrote (role operator and above, or scope admin:content).
    ``changes_all``: may change and repeat them too (role operator and above, or scope admin:operate).
    """

    id: str
    kind: str  # "user" or "key"
    scopes: frozenset[Scope]
    role: Role | None = None

    @property
    def sees_all(self) -> bool:
        return Scope.ADMIN_READ in self.scopes

    @property
    def reads_content(self) -> bool:
        return Scope.ADMIN_CONTENT in self.scopes

    @property
    def changes_all(self) -> bool:
        return Scope.ADMIN_OPERATE in self.scopes

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes
