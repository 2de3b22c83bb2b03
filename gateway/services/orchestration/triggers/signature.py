"""Signatures of webhook deliveries: that somebody who has the secret signed exactly these bytes. Pure."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
from typing import Final

from gateway.services.orchestration.github import verify_github_signature

TOLERANCE_S: Final = 300  # between the sender's clock and ours, and on the way
SIGNATURE_HEADER: Final = "X-Gateway-Signature"
DELIVERY_HEADER: Final = "X-Gateway-Delivery"
GITHUB_SIGNATURE_HEADER: Final = "X-Hub-Signature-256"
GITHUB_DELIVERY_HEADER: Final = "X-GitHub-Delivery"
GITHUB_EVENT_HEADER: Final = "X-GitHub-Event"

_HEADER_MAX: Final = 1000
_SIGNATURES_MAX: Final = 5  # of one delivery: a sender that changes its secret signs with both
_TIME: Final = re.compile(r"[0-9]{1,12}")


class Scheme(StrEnum):
    """``gateway``: the time and the body are signed. ``github``: the body alone."""

    GATEWAY = "gateway"
    GITHUB = "github"


def signature_of(secret: str, body: bytes, at: int) -> str:
    """``X-Gateway-Signature`` of a body that is sent at ``at`` (seconds since 1970)."""
    return f"t={at},v1={_mac(secret, body, str(at)).hex()}"


def verify(scheme: Scheme, secret: str, body: bytes, headers: Mapping[str, str], now: float) -> bytes | None:
    """What tells this delivery from every other one that was signed; None: not signed with ``secret``, or too long ago.

    ``headers`` are looked up as given (case-insensitive in requests). A trigger takes its own scheme only: GitHub's has
    no time, so it could be used to repeat a delivery of the other.
    """
    if scheme is Scheme.GITHUB:
        header = headers.get(GITHUB_SIGNATURE_HEADER)
        sound = verify_github_signature(secret, body, header)
        return sha256(b"github" + hmac.new(secret.encode(), body, sha256).digest()).digest() if sound else None
    return _verify_own(secret, body, headers.get(SIGNATURE_HEADER), now)


def _verify_own(secret: str, body: bytes, header: str | None, now: float) -> bytes | None:
    if header is None or len(header) > _HEADER_MAX:
        return None
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v1"][:_SIGNATURES_MAX]
    if len(times) != 1 or _TIME.fullmatch(times[0]) is None:
        return None
    expected = _mac(secret, body, times[0])
    # Each is compared, also after one was right.
    right = sum(hmac.compare_digest(expected.hex().encode(), one.encode("utf-8", "replace")) for one in given)
    if not right or abs(now - int(times[0])) > TOLERANCE_S:
        return None
    return sha256(b"gateway" + expected).digest()


def _mac(secret: str, body: bytes, at: str) -> bytes:
    return hmac.new(secret.encode(), at.encode() + b"." + body, sha256).digest()
