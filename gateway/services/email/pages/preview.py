"""A mail's HTML as a page of its own for a sandboxed frame: shown with its styles, without scripts, forms and requests.

In ``srcdoc`` it would get the policy of the page around it and lose its styles. What it may do says the policy: the
HTML is not cleaned, but for what no policy forbids. Pure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from gateway.pages import Raw
from gateway.services.email.message import CID, Attachment

POLICY: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
POLICY_WITH_IMAGES: Final = POLICY.replace("img-src data:", "img-src https: data:")
# <link rel=preconnect> tells a host that somebody looks, whatever the policy says; a frame's srcdoc can hide one.
_TELLING: Final = re.compile(r"<(?=link|iframe)", re.IGNORECASE)
_IMAGE_TYPE: Final = re.compile(r"image/[\w.+-]{1,60}", re.ASCII)


def preview(html: str, images: Sequence[Attachment], *, outside: bool) -> Raw:
    """``images`` stand in it as data: a request of theirs from the sandbox would carry no session. ``outside``: images
    of other hosts are loaded, which tells them that somebody looks."""
    addresses = {image.content_id: _as_data(image) for image in images if image.content_id}
    content = CID.sub(lambda match: addresses.get(unquote(match[1]), match[0]), _TELLING.sub("<x-", html))
    return Raw(
        content=content.encode("utf-8", "replace"),
        media_type="text/html; charset=utf-8",
        policy=POLICY_WITH_IMAGES if outside else POLICY,
        framed=True,
    )


def asks_for_images(query: Mapping[str, str]) -> bool:
    return query.get("images") == "1"


def _as_data(image: Attachment) -> str:
    kind = image.content_type if _IMAGE_TYPE.fullmatch(image.content_type) else "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(image.content).decode()}"
