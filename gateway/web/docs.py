"""``/openapi.json`` for programs and ``/docs`` for people. The page is plain HTML: it loads nothing from anywhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from typing import Any, Final

from litestar import MediaType, Request, Response, Router, get
from litestar.handlers import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.routes import BaseRoute
from litestar.serialization import encode_json
from litestar.types import ControllerRouterHandler

from gateway import __version__
from gateway.access import PUBLIC

DOCS_PATH: Final = "/docs"
OPENAPI_PATH: Final = "/openapi.json"
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "td{padding:.2rem 1rem .2rem 0;vertical-align:top}code{font-family:ui-monospace,monospace}h2{margin-top:2rem}"
)
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()


class DocsPage(OpenAPIRenderPlugin):
    """Every operation with its summary and what it demands."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        groups: dict[str, list[str]] = {}
        for tag, row in _rows(openapi_schema):
            groups.setdefault(tag, []).append(row)
        tables = "".join(
            f"<h2>{escape(tag)}</h2><table>{''.join(rows)}</table>" for tag, rows in sorted(groups.items())
        )
        title = f"Gateway {escape(__version__)}"
        link = f'<a href="{OPENAPI_PATH}">{OPENAPI_PATH}</a>'
        head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        body = f"<h1>{title}</h1><p>Every field and answer: {link}</p>{tables}"
        return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'.encode()


def _rows(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, operations in schema.get("paths", {}).items():
        for method, operation in operations.items():
            if not isinstance(operation, dict):
                continue
            what = escape(str(operation.get("summary", "")))
            row = f"<tr><td><code>{method.upper()}</code></td><td><code>{escape(path)}</code></td><td>{what}</td></tr>"
            yield (operation.get("tags") or ["other"])[0], row


@get(OPENAPI_PATH, opt={"access": PUBLIC}, include_in_schema=False)
async def openapi_route(request: Request[Any, Any, Any]) -> Response[bytes]:
    return Response(encode_json(request.app.openapi_schema.to_schema()), media_type=MediaType.JSON)


class _DocsRouter(Router):
    """Only the page: Litestar would add an HTML answer for each unknown path, and a second copy of the schema."""

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        if isinstance(value, BaseRouteHandler) and value.paths != {"/"}:
            return []
        return super().register(value)


def openapi_config() -> OpenAPIConfig:
    router = _DocsRouter(
        DOCS_PATH,
        route_handlers=[],
        opt={"access": PUBLIC},
        include_in_schema=False,
        response_headers={"Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'"},
    )
    token = SecurityScheme(type="http", scheme="bearer", description="A JWT, or an API key (gw_...).")
    return OpenAPIConfig(
        title="Gateway",
        version=__version__,
        openapi_router=router,
        render_plugins=[DocsPage(path="/")],
        components=Components(security_schemes={"bearer": token}),
        security=[{"bearer": []}],
    )
