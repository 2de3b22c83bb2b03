"""Secrets of webhook triggers. None is stored: each is derived from a random salt with a key of the settings.

A copy of the database signs nothing. Who has the key and the salts can derive them all; another key makes all of them
void, which ``key_check`` tells. Source: HKDF, RFC 5869.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final
from uuid import UUID

import msgspec

from gateway.problem import Problem
from gateway.settings import Settings

PREFIX: Final = "whsec_"
_SALT_BYTES: Final = 16
_PURPOSE: Final = b"gateway webhook trigger "
_CHECK: Final = b"gateway webhook trigger key"


class Sealed(msgspec.Struct, frozen=True):
    """What is stored instead of a secret."""

    salt: bytes
    key_check: bytes


class TriggerSecrets:
    """Raises Problem 409 ``webhooks_not_configured`` where no key is set."""

    def __init__(self, settings: Settings) -> None:
        given = settings.trigger_secret_key or settings.jwt_secret
        # With another purpose than tokens have, nothing learned of one helps with the other.
        self._key = None if given is None else _mac(b"gateway triggers", given.get_secret_value().encode())

    def new(self, trigger_id: UUID) -> tuple[str, Sealed]:
        """A secret for its owner's eyes, and what to store."""
        salt = secrets.token_bytes(_SALT_BYTES)
        return self._derived(trigger_id, salt), Sealed(salt, self._check)

    def of(self, trigger_id: UUID, sealed: Sealed) -> str | None:
        """None: it was made with another key, and has to be rotated."""
        if self._key is None or not hmac.compare_digest(sealed.key_check, self._check):
            return None
        return self._derived(trigger_id, sealed.salt)

    @property
    def _check(self) -> bytes:
        return _mac(self._sound, _CHECK)[:8]

    @property
    def _sound(self) -> bytes:
        if self._key is None:
            message = "Webhook triggers need a key for their secrets: set TRIGGER_SECRET_KEY"
            raise Problem(409, "webhooks_not_configured", message)
        return self._key

    def _derived(self, trigger_id: UUID, salt: bytes) -> str:
        material = _mac(self._sound, _PURPOSE + trigger_id.bytes + salt)
        return PREFIX + urlsafe_b64encode(material).rstrip(b"=").decode()


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, sha256).digest()
