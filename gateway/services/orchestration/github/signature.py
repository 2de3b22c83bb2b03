"""GitHub's signature of a webhook's body. Pure."""

from __future__ import annotations

import hashlib
import hmac

_SCHEME = "sha256="


def verify_github_signature(secret: str, body: bytes, header: str | None) -> bool:
    """Whether ``header`` (X-Hub-Signature-256) is the HMAC-SHA256 of exactly these bytes under ``secret``.

    Takes the same time wherever they differ. False for no header, another scheme, and an empty secret, which would
    let everybody sign. Source: docs.github.com, "Validating webhook deliveries".
    """
    if not secret or header is None or not header.startswith(_SCHEME):
        return False
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    # As bytes: compare_digest takes no text that is not ASCII.
    return hmac.compare_digest(expected.encode(), header.removeprefix(_SCHEME).encode("utf-8", "replace"))
