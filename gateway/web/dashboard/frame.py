"""What stands around each page: who looks, what holds for the whole gateway, and the headers that keep pages safe."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment
from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from litestar.response import Redirect

from gateway import __version__
from gateway.access import Principal, Scope
from gateway.feature import Feature
from gateway.pages import Banner, Entry
from gateway.web.auth import Authenticator
from gateway.web.dashboard.assets import ADDRESS, ASSETS
from gateway.web.dashboard.counts import Counts
from gateway.web.dashboard.look import templates
from gateway.web.dashboard.outage import RedisHistory
from gateway.web.health import HealthSource, RedisState

PageRequest = Request[Principal, Any, Any]

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    # "no-referrer" would take the origin from our own forms too.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# Words for what was done, so that no text of an address gets onto a page.
DONE: Final = {
    "retry": "The job waits again.",
    "cancel": "Cancelled. A job that runs ends within about a second.",
    "promote": "The job waits now.",
    "delete": "The job was deleted.",
    "clean": "The old jobs were deleted; the audit has their number.",
    "replay": "This is the new job.",
    "pause": "Paused: no more jobs start, those that run go on.",
    "resume": "Resumed.",
    "limits": "Changed. All replicas go by it within 5 s.",
    "drain": "The replica takes no further job.",
    "schedule-pause": "The schedule is paused.",
    "schedule-resume": "The schedule goes on with its next tick.",
    "schedule-run": "A job of the schedule was made.",
    "stop": "Stopped. What is done stays done.",
}
# The navigation: pages of features stand between.
_FIRST: Final = (
    Entry(place="overview", path="", word="Overview"),
    Entry(place="jobs", path="/jobs", word="Jobs"),
    Entry(place="failures", path="/failures", word="Failures"),
)
_LAST: Final = (
    Entry(place="metrics", path="/metrics", word="Metrics"),
    Entry(place="schedules", path="/schedules", word="Schedules"),
    Entry(place="replicas", path="/replicas", word="Replicas"),
    Entry(place="maintenance", path="/maintenance", word="Maintenance"),
    Entry(place="operations", path="/operations", word="Operations"),
    Entry(place="audit", path="/audit", word="Audit", access=Scope.ADMIN_WRITE),
)
TRIES: Final = 5
TRIES_S: Final = 60.0
_ADDRESSES_MAX: Final = 10_000


class LoginTries:
    """Sign-ins that failed, by address: at most ``TRIES`` in ``TRIES_S`` seconds."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """0: another try is allowed."""
        failed = self._failed.get(address)
        if failed is None or len(failed) < TRIES:
            return 0.0
        return max(0.0, failed[0] + TRIES_S - monotonic())

    def failed(self, address: str) -> None:
        self._failed.setdefault(address, deque(maxlen=TRIES)).append(monotonic())
        self._failed.move_to_end(address)
        while len(self._failed) > _ADDRESSES_MAX:
            self._failed.popitem(last=False)


@dataclass(frozen=True)
class Dashboard:
    """What the pages know of the gateway beside its ledger. ``known_token``: one that is no secret, in development."""

    health: HealthSource
    authenticator: Authenticator
    history: RedisHistory
    features: tuple[Feature, ...] = ()
    known_token: str | None = None
    tries: LoginTries = field(default_factory=LoginTries)

    @cached_property
    def templates(self) -> Environment:
        """Raises ValueError for a feature whose package has no folder of templates."""
        return templates(tuple((one.name, one.pages.package) for one in self.features if one.pages is not None))

    @cached_property
    def notices(self) -> dict[str, str]:
        """Words for what was done, by the name that an address gives."""
        brought = [(one.name, one.pages.notices) for one in self.features if one.pages is not None]
        return DONE | {notice_name(name, key): words for name, notices in brought for key, words in notices.items()}

    @cached_property
    def entries(self) -> list[Entry]:
        """The navigation of who may see all."""
        return [*_FIRST, *(entry for one in self.features if one.pages for entry in one.pages.entries), *_LAST]

    @cached_property
    def counts(self) -> Counts:
        return Counts(self.entries)

    async def refreshed(self) -> Dashboard:
        """Itself, with counts that are not old."""
        await self.counts.refresh()
        return self


# How a page asks for it: the dashboard's router provides it under the name "dashboard".
TheDashboard = NamedDependency[SkipValidation[Dashboard]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """``data`` is what the template shows, and the answer for who asks for JSON. ``topics``: channels on which news of
    it are told; ``again_s``: without scripts it loads itself again."""

    template: str
    title: str
    place: str
    data: Mapping[str, Any]
    banners: Sequence[Banner] = ()
    topics: Sequence[str] = ()
    again_s: int | None = None
    status: int = 200
    extra: Mapping[str, Any] = field(default_factory=dict)


def respond(request: PageRequest, dashboard: Dashboard, page: Page) -> Response[Any]:
    if wants_json(request):
        return Response({"success": True, "data": page.data}, status_code=page.status, media_type="application/json")
    text = dashboard.templates.get_template(page.template).render(
        {**_frame(request, dashboard, page), **page.data, **page.extra, "title": page.title}
    )
    return Response(text, status_code=page.status, headers=HEADERS, media_type="text/html")


def _frame(request: PageRequest, dashboard: Dashboard, page: Page) -> dict[str, Any]:
    user: Principal | None = request.scope.get("user")
    theme = request.cookies.get("gateway_theme")
    return {
        "base": base(request),
        "assets": {name: f"{base(request)}/{asset.path}" for name, asset in ASSETS.items()},
        "place": page.place,
        "navigation": [entry for entry in dashboard.entries if user is not None and user.may(entry.access)],
        "counts": dashboard.counts.known,
        "user": user,
        "may_operate": user is not None and user.may(Scope.ADMIN_OPERATE),
        "may_write": user is not None and user.may(Scope.ADMIN_WRITE),
        "open_to_all": dashboard.authenticator.open_to_all,
        "mode": dashboard.health.mode,
        "banners": sorted([*_banners(dashboard, user, page), *page.banners], key=lambda one: one.kind != "alert"),
        "done": dashboard.notices.get(request.query_params.get("done", "")),
        "theme": theme if theme in ("light", "dark") else "auto",
        "topics": ",".join(page.topics),
        "again_s": page.again_s,
        "version": __version__,
    }


def template_name(feature: str, template: str) -> str:
    return f"{feature}/{template}"


def notice_name(feature: str, notice: str) -> str:
    return f"{feature}.{notice}"


def _banners(dashboard: Dashboard, user: Principal | None, page: Page) -> list[Banner]:
    """That there is no Redis by choice is said on the first page; the mode stands in each page's head."""
    found = []
    match dashboard.health.redis:
        case RedisState.DISCONNECTED:
            since, reason = dashboard.history.down_since, dashboard.history.reason
            when = f" since {since:%Y-%m-%d %H:%M:%S} UTC" if since else ""
            text = (
                "Jobs are accepted, run and shown from PostgreSQL (direct mode): rate limits, pauses, retries and "
                "every action here work. Redis is tried four times a second."
            )
            text += f" Last error: {reason}" if reason else ""
            found.append(Banner(kind="alert", title=f"Redis does not answer{when}.", text=text))
        case RedisState.UNUSED if page.place == "overview":
            text = "No Redis is configured: jobs are taken from PostgreSQL itself."
            found.append(Banner(kind="status", title="Direct mode.", text=text))
        case _:
            pass
    if dashboard.authenticator.open_to_all:
        text = "Anyone who can reach this port is an administrator (AUTH_MODE=none)."
        found.append(Banner(kind="status", title="Development.", text=text))
    elif user is not None and not user.may(Scope.ADMIN_OPERATE):
        found.append(Banner(kind="status", title="Viewer.", text="You can look but not change."))
    return found


def wants_json(request: Request[Any, Any, Any]) -> bool:
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


def base(request: Request[Any, Any, Any]) -> str:
    """The dashboard's address as the browser has to write it, behind a proxy's prefix too."""
    return str(request.scope.get("root_path", "")).rstrip("/") + ADDRESS


def go_to(request: Request[Any, Any, Any], path: str, **query: str) -> Redirect:
    """After a change: another page, by GET, and what was done."""
    words = f"?{urlencode(query)}" if query else ""
    return Redirect(f"{base(request)}{path}{words}", status_code=303)
