"""Machines that call with ``CRON_SECRET``: who they are, and that they know it (``opt={"access": MACHINE}``)."""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from typing import Final

import structlog
from pydantic import SecretStr

from gateway.access import Principal
from gateway.problem import Problem

log = structlog.get_logger(__name__)

MACHINE_CALLER: Final = Principal(id="cron", kind="machine", scopes=frozenset())
_BEARER: Final = re.compile(r"bearer +(?P<secret>\S+) *", re.IGNORECASE)


class MachineDoor:
    """Lets in who knows the secret, or one of ``others`` (the token of ``gateway dev``). Without any nobody is."""

    def __init__(self, secret: SecretStr | None, *others: str | None) -> None:
        known = [secret.get_secret_value() if secret else None, *others]
        self._digests = [_digest(each) for each in known if each]
        if secret is None:
            log.info("machine_routes_off", reason="CRON_SECRET is not set: /api/v1/workers answers 401 to everybody")

    def admit(self, authorization: str | None) -> Principal:
        """Raises Problem 401, in the same time whatever is wrong with the secret."""
        if not self._digests:
            raise _refused("Machine routes are off: this gateway has no CRON_SECRET", code="machine_routes_off")
        given = _BEARER.fullmatch(authorization or "")
        if given is None:
            raise _refused("This is for machines: Authorization: Bearer <CRON_SECRET>", code="missing_token")
        # Digests have one length, so not even the secret's is told by how long this takes; each is compared.
        digest = _digest(given["secret"])
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise _refused("This is not the CRON_SECRET of this gateway", code="invalid_token")
        return MACHINE_CALLER


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _refused(message: str, *, code: str) -> Problem:
    return Problem(401, code, message, headers={"WWW-Authenticate": 'Bearer realm="gateway machines"'})
