"""The dashboard's own files: read once, served under an address that names their content, so browsers keep them."""

from __future__ import annotations

import gzip
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath

from gateway.access import PUBLIC
from gateway.problem import Problem

ADDRESS: Final = "/admin/queues"
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """``compressed``: the content by gzip."""

    name: str
    content: bytes
    compressed: bytes
    media_type: str

    @property
    def path(self) -> str:
        """Below the dashboard's address."""
        return f"static/{sha256(self.content).hexdigest()[:16]}/{self.name}"


def _load() -> dict[str, Asset]:
    found = {}
    for entry in files(__package__).joinpath("static").iterdir():
        ending = entry.name.rpartition(".")[2]
        if ending in _TYPES:
            content = entry.read_bytes()
            compressed = gzip.compress(content, mtime=0)
            found[entry.name] = Asset(
                name=entry.name, content=content, compressed=compressed, media_type=_TYPES[ending]
            )
    return found


ASSETS: Final = _load()


@get("/static/{digest:str}/{name:str}", opt={"access": PUBLIC}, include_in_schema=False)
async def asset_route(request: Request[Any, Any, Any], digest: FromPath[str], name: FromPath[str]) -> Response[Any]:
    """While versions are mixed the page may be of another one than who answers here: the file of this version is better
    than none, and not kept."""
    asset = ASSETS.get(name)
    if asset is None:
        raise Problem(404, "not_found", "There is no such file in this version")
    ours = asset.path == f"static/{digest}/{name}"
    # As a media type it would get a second charset.
    headers = {
        "Content-Type": asset.media_type,
        "Cache-Control": _FOR_EVER if ours else "no-store",
        "Vary": "Accept-Encoding",
    }
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(asset.content, headers=headers)
    return Response(asset.compressed, headers=headers | {"Content-Encoding": "gzip"})
