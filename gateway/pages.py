"""Pages that a feature brings to the dashboard: what each shows, to whom, and what its forms do.

Declared here without HTTP; ``web/dashboard/brought.py`` serves them like its own: session, roles, forms of our pages
only, headers, error pages, navigation, news. Templates stand in the folder ``pages/`` of the feature's package, extend
``base.html`` and may import ``parts.html``; they are named without the folder.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from gateway.access import Principal, Scope

_LOOKING: Final = frozenset({Scope.ADMIN_READ, Scope.ADMIN_OPERATE, Scope.ADMIN_WRITE})
_CHANGING: Final = frozenset({Scope.ADMIN_OPERATE, Scope.ADMIN_WRITE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for a page. ``path``: the parameters of its address; ``form``: fields that were filled in, without the
    space around them."""

    user: Principal
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str] = field(default_factory=dict)


class Banner(msgspec.Struct, frozen=True, kw_only=True):
    """``kind``: alert for what somebody should act on."""

    kind: Literal["alert", "status"]
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """``data`` is what the template shows, and the answer for who asks for JSON; ``extra`` is for the template alone.
    ``topics``: channels on which news of it are told; ``again_s``: without scripts it loads itself again."""

    template: str
    title: str
    data: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)
    banners: Sequence[Banner] = ()
    topics: Sequence[str] = ()
    again_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Bytes as they are. ``policy`` is the whole Content-Security-Policy; ``framed``: pages of the dashboard may show
    it in a frame; ``filename``: browsers save it under this name instead of showing it."""

    content: bytes
    media_type: str
    policy: str = "sandbox; default-src 'none'; frame-ancestors 'none'"
    framed: bool = False
    filename: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A link of the navigation; ``place`` is its name. Who may not open it does not see it. ``count``: how much waits
    there, if that is for people to know; it is asked every other second at most, and has to be bounded."""

    place: str
    path: str
    word: str
    access: Scope = Scope.ADMIN_READ
    count: Callable[[], Awaitable[int]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """``path`` is below the dashboard's address, with parameters as in ``/emails/{mail_id:str}``; ``place``: the entry
    of the navigation that it belongs to; ``query``: the parameters it knows, ``done`` apart; ``content``: it is what
    people or models wrote, for those only who may read that. ``load`` has ``within_s`` seconds, after which PostgreSQL
    is said to be silent, and raises ``Problem`` for what is not there."""

    path: str
    place: str
    load: Callable[[Asked], Awaitable[View | Raw]]
    access: Scope = Scope.ADMIN_READ
    query: tuple[str, ...] = ()
    content: bool = False
    within_s: float = 2.0

    def __post_init__(self) -> None:
        """Raises ValueError for a page that others than administrators could open."""
        _check(self.path, self.access, _LOOKING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Where to go after a change, and which of the feature's ``notices`` to show there. ``change``: the action and the
    subject of the audit's row, with what was asked; None: nothing changed."""

    path: str
    notice: str
    change: tuple[str, str, dict[str, Any]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a form does, by POST. ``act`` raises ``Problem`` for what cannot be done."""

    path: str
    act: Callable[[Asked], Awaitable[Done]]
    access: Scope

    def __post_init__(self) -> None:
        """Raises ValueError for a change that viewers could make."""
        _check(self.path, self.access, _CHANGING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """A link on the page of a job: ``word`` says what it leads to, ``text`` which one. ``path`` as in ``Entry``.
    ``progress``: of how many steps how many are over; None: it has no steps."""

    word: str
    path: str
    text: str
    progress: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturePages:
    """``package`` holds the templates' folder. ``notices``: words for what was done, by the name that ``Done`` gives.
    ``about_job``: what there is to see of a job of the feature's queues. ``name_jobs``: what each of them is
    about, in a few words for a list; jobs that it does not know are missing."""

    package: str
    entries: tuple[Entry, ...] = ()
    pages: tuple[Page, ...] = ()
    actions: tuple[Action, ...] = ()
    notices: Mapping[str, str] = field(default_factory=dict)
    about_job: Callable[[UUID], Awaitable[Sequence[Related]]] | None = None
    name_jobs: Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, str]]] | None = None


def _check(path: str, access: Scope, allowed: frozenset[Scope]) -> None:
    if not path.startswith("/"):
        raise ValueError(f"{path!r} does not begin with a slash")
    if access not in allowed:
        raise ValueError(f"{path}: access must be one of {', '.join(sorted(allowed))}, not {access}")
