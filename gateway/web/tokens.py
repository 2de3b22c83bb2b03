"""Tokens of people (JWT, RFC 7519): minted by ``gateway token``, checked at each request."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

import jwt
from pydantic import SecretStr

from gateway.access import SCOPES_OF, Principal, Role
from gateway.settings import Settings
from gateway.web.jwks import JwksKeys

SHARED: Final = "HS256"
# RFC 8725, 3.1: the algorithms are ours to choose, and each is tied to one kind of key.
ASYMMETRIC: Final = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
_TOKEN_MAX: Final = 8192  # characters
SUBJECT_MAX: Final = 255  # characters
# A token that passed is not verified again for so long, nor beyond its exp: decoding it costs 50 us. A key that the
# identity provider withdrew is honoured so much longer than ``jwks.KEPT_S``.
REMEMBERED_S: Final = 60.0
_REMEMBERED_MAX: Final = 4096  # tokens; the one used longest ago makes room
_SENTENCES: Final[dict[type[jwt.PyJWTError], str]] = {
    jwt.ExpiredSignatureError: "The token has expired",
    jwt.InvalidAudienceError: "The token is for another audience (aud)",
    jwt.InvalidIssuerError: "The token is from another issuer (iss)",
    jwt.ImmatureSignatureError: "The token is not valid yet (nbf or iat)",
    jwt.InvalidSignatureError: "The token's signature is wrong",
}


class InvalidToken(Exception):
    """Why a token is refused: one sentence for its bearer."""


def mint_token(settings: Settings, sub: str, role: Role | str, expires: datetime) -> str:
    """A token that this installation accepts. Raises ValueError without JWT_SECRET, or for an unknown role."""
    if settings.jwt_secret is None:
        raise ValueError("JWT_SECRET is not set")
    now = datetime.now(UTC)
    claims: dict[str, Any] = {"sub": sub, "role": Role(role).value, "iat": now, "exp": expires}
    if settings.jwt_issuer is not None:
        claims["iss"] = settings.jwt_issuer
    if settings.jwt_audience is not None:
        claims["aud"] = settings.jwt_audience
    return jwt.encode(claims, settings.jwt_secret.get_secret_value(), SHARED)


class _Passed(NamedTuple):
    """A token that was verified with that version of the provider's keys, and holds until then (Unix seconds)."""

    principal: Principal
    until: float
    keys: int
    ends: float  # when the token itself stops being accepted


class TokenVerifier:
    """Checks signature, times, issuer and audience. A shared secret only ever checks HS256, a public key never does.

    Remembers whom it let pass for ``REMEMBERED_S``, by the token's hash, and forgets it when public keys are fetched
    anew. Refusals are not remembered. ``clock``: Unix seconds.
    """

    def __init__(self, settings: Settings, jwks: JwksKeys | None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._passed: OrderedDict[bytes, _Passed] = OrderedDict()
        self._secret: SecretStr | None = settings.jwt_secret
        self._jwks = jwks
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._leeway = settings.jwt_leeway_s

    async def principal_of(self, token: str) -> Principal:
        """Raises InvalidToken, and KeysUnavailable when the identity provider's keys cannot be fetched."""
        return (await self.verified(token))[0]

    async def verified(self, token: str) -> tuple[Principal, float]:
        """The same, and until when the token is accepted, in seconds since 1970."""
        digest = sha256(token.encode(errors="surrogatepass")).digest()
        passed = self._passed.get(digest)
        if passed is not None and self._clock() < passed.until and passed.keys == self._keys_version:
            self._passed.move_to_end(digest)
            return passed.principal, passed.ends
        claims = await self._verified(token)
        principal = _principal(claims)
        until = min(self._clock() + REMEMBERED_S, int(claims["exp"]))
        ends = float(claims["exp"]) + self._leeway
        self._passed[digest] = _Passed(principal, until, self._keys_version, ends)
        if len(self._passed) > _REMEMBERED_MAX:
            self._passed.popitem(last=False)
        return principal, ends

    @property
    def _keys_version(self) -> int:
        return self._jwks.version if self._jwks is not None else 0

    async def _verified(self, token: str) -> dict[str, Any]:
        algorithm, kid = _header(token)
        key: str | jwt.PyJWK
        if algorithm == SHARED and self._secret is not None:
            key = self._secret.get_secret_value()
        elif algorithm in ASYMMETRIC and self._jwks is not None:
            key = await self._public_key(self._jwks, algorithm, kid)
        else:
            raise InvalidToken(f"The token is signed with {algorithm}, which is not accepted here")
        return self._claims(token, key, algorithm)

    async def _public_key(self, jwks: JwksKeys, algorithm: str, kid: str | None) -> jwt.PyJWK:
        key = await jwks.find(kid)
        if key is None:
            raise InvalidToken("The token's key id is not among the identity provider's keys")
        if key.key_type != ASYMMETRIC[algorithm] or key.algorithm_name != algorithm:
            raise InvalidToken(f"The token's key is not one for {algorithm}")
        return key

    def _claims(self, token: str, key: str | jwt.PyJWK, algorithm: str) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=self._leeway,
                options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
            )
        except jwt.PyJWTError as error:
            raise InvalidToken(_sentence(error)) from error
        except (ValueError, OverflowError) as error:  # times that are no times
            raise InvalidToken("The token's claims are not valid") from error


def _header(token: str) -> tuple[str, str | None]:
    if len(token) > _TOKEN_MAX:
        raise InvalidToken(f"The token is longer than {_TOKEN_MAX} characters")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise InvalidToken("The token is neither a JWT nor an API key") from error
    algorithm, kid = header.get("alg"), header.get("kid")
    return (algorithm if isinstance(algorithm, str) else "no algorithm"), kid


def _principal(claims: dict[str, Any]) -> Principal:
    subject: str = claims["sub"]
    # It is stored as the owner of rows, in an index, and logged. Surrogates, which no UTF-8 has, are not printable.
    if not 1 <= len(subject) <= SUBJECT_MAX or not subject.isprintable():
        raise InvalidToken(f"The token's subject (sub) is not of 1 to {SUBJECT_MAX} printable characters")
    role = Role.USER  # a role word of another system (Supabase: "authenticated") is an ordinary user
    if claims.get("is_admin") is True:
        role = Role.ADMIN
    elif claims.get("role") in list(Role):
        role = Role(claims["role"])
    return Principal(id=subject, kind="user", scopes=SCOPES_OF[role], role=role)


def _sentence(error: jwt.PyJWTError) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"The token lacks the claim {error.claim}"
    return _SENTENCES.get(type(error)) or f"The token is not valid: {error}"
