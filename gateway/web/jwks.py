"""Public keys of an identity provider (JWKS, RFC 7517), fetched when they are needed and kept when it is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import httpx
import jwt
import msgspec
import structlog

log = structlog.get_logger(__name__)

REFETCH_S: Final = 30.0  # a flood of tokens with made-up key ids asks the provider twice a minute, not each time
KEPT_S: Final = 3600.0  # a key that the provider withdrew is forgotten within the hour
_MAX_BYTES: Final = 1_000_000


class KeysUnavailable(Exception):
    """No keys were ever fetched, and they cannot be now."""


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


class JwksKeys:
    """Keys by ``kid``. ``clock`` is monotonic, in seconds."""

    def __init__(self, url: str, client: httpx.AsyncClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._client = client
        self._clock = clock
        self.version = 0  # grows with each set that was fetched: what an older set vouched for is to be asked again
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None  # last success
        self._tried_at: float | None = None  # last try
        self._fetching = asyncio.Lock()

    async def find(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of that id; without an id, the only key there is. Raises KeysUnavailable."""
        if (found := self._held(kid)) is None or self._aged:
            async with self._fetching:
                if self._may_try and (self._held(kid) is None or self._aged):
                    await self._fetch()
            found = self._held(kid)
        if found is None and self._fetched_at is None:
            raise KeysUnavailable("the identity provider's keys could not be fetched")
        return found

    def _held(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is not None:
            return self._keys.get(kid)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    @property
    def _aged(self) -> bool:
        return self._fetched_at is None or self._clock() - self._fetched_at >= KEPT_S

    @property
    def _may_try(self) -> bool:
        return self._tried_at is None or self._clock() - self._tried_at >= REFETCH_S

    async def _fetch(self) -> None:
        self._tried_at = self._clock()
        try:
            response = await self._client.get(self._url)
            response.raise_for_status()
            if len(response.content) > _MAX_BYTES:
                raise ValueError(f"the answer has {len(response.content)} bytes")
            keys = _usable(msgspec.json.decode(response.content, type=_KeySet))
        except (httpx.HTTPError, ValueError) as error:  # msgspec's errors are ValueErrors
            log.warning("jwks_fetch_failed", url=self._url, error=str(error), keys_kept=len(self._keys))
            return
        self._keys, self._fetched_at = keys, self._clock()
        self.version += 1
        log.info("jwks_fetched", url=self._url, keys=len(keys))


def _usable(key_set: _KeySet) -> dict[str, jwt.PyJWK]:
    """Signing keys with a public half. A shared secret (``oct``) has no place in a published set and is passed over."""
    keys = {}
    for position, raw in enumerate(key_set.keys):
        if raw.get("kty") not in ("RSA", "EC", "OKP") or raw.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK.from_dict(raw)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue  # a kind of key that we do not know: tokens signed with it are refused by name
        keys[str(raw.get("kid", f"unnamed-{position}"))] = key
    return keys
