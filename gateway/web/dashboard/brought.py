"""Pages that features bring (``gateway/pages.py``), served like the dashboard's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from gateway.access import Scope
from gateway.feature import Feature, ThePlatform
from gateway.pages import Action, Asked, Page, Raw
from gateway.web.auth import demand_scope
from gateway.web.dashboard import frame
from gateway.web.dashboard.forms import FORM_MAX_BYTES, read_form
from gateway.web.dashboard.frame import PageRequest, TheDashboard, go_to, notice_name, respond, template_name
from gateway.web.dashboard.look import attachment
from gateway.web.dashboard.queue import audited
from gateway.web.deadline import within


def routes_of(features: Iterable[Feature]) -> list[HTTPRouteHandler]:
    routes: list[HTTPRouteHandler] = []
    for feature in features:
        if feature.pages is not None:
            routes += [_page_route(feature.name, page) for page in feature.pages.pages]
            routes += [_action_route(feature.name, action) for action in feature.pages.actions]
    return routes


def _page_route(feature: str, page: Page) -> HTTPRouteHandler:
    opt = {"access": page.access, "session": True, "query": (*page.query, "done")}

    @get(page.path, opt=opt, include_in_schema=False)
    async def show(request: PageRequest, dashboard: TheDashboard) -> Response[Any]:
        if page.content:
            demand_scope(request.user, Scope.ADMIN_CONTENT)
        found = await within(page.within_s, page.load(_asked(request, {})))
        if isinstance(found, Raw):
            return _raw(found)
        shown = frame.Page(
            template=template_name(feature, found.template),
            title=found.title,
            place=page.place,
            data=found.data,
            extra=found.extra,
            banners=found.banners,
            topics=found.topics,
            again_s=found.again_s,
        )
        return respond(request, dashboard, shown)

    return show


def _action_route(feature: str, action: Action) -> HTTPRouteHandler:
    opt = {"access": action.access, "session": True, "form": True}

    @post(action.path, opt=opt, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
    async def act(request: PageRequest, platform: ThePlatform) -> Response[Any]:
        done = await action.act(_asked(request, await read_form(request)))
        if done.change is not None:
            await audited(request, platform, *done.change)
        return go_to(request, done.path, done=notice_name(feature, done.notice))

    return act


def _asked(request: PageRequest, form: Mapping[str, str]) -> Asked:
    path = {name: str(value) for name, value in request.path_params.items()}
    return Asked(user=request.user, path=path, query=dict(request.query_params.items()), form=form)


def _raw(raw: Raw) -> Response[Any]:
    headers = {
        "Content-Type": raw.media_type,
        "Content-Security-Policy": raw.policy,
        "X-Frame-Options": "SAMEORIGIN" if raw.framed else "DENY",
        "X-DNS-Prefetch-Control": "off",  # browsers look up the names of links, which no policy forbids
    }
    if raw.filename is not None:
        headers["Content-Disposition"] = attachment(raw.filename)
    return Response(raw.content, headers=headers)
