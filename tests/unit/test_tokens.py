"""Tokens: which are accepted, and what the bearer of the others is told."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import Role, Scope
from gateway.infra.http import open_http
from gateway.settings import Settings
from gateway.web import tokens
from gateway.web.jwks import KEPT_S, REFETCH_S, JwksKeys, KeysUnavailable
from gateway.web.tokens import REMEMBERED_S, InvalidToken, TokenVerifier, mint_token
from tests.support.eventually import eventually
from tests.support.jwks_server import SigningKey, jwks_server

SECRET = "mX2vQ9sLw4Rk7TzB1nYc6HdJ0pGfE8ua"
ODD_SUBJECT = "The token's subject (sub) is not of 1 to 255 printable characters"


def settings(**others: Any) -> Settings:
    return Settings.model_validate({"database_url": "postgresql://db/x", "jwt_secret": SECRET} | others)


def soon(minutes: float = 600) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


def claims(**others: Any) -> dict[str, Any]:
    return {"sub": "u1", "exp": soon()} | others


def signed(content: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(content, secret, algorithm)


async def refusal(token: str, **others: Any) -> str:
    with pytest.raises(InvalidToken) as raised:
        await TokenVerifier(settings(**others), None).principal_of(token)
    return str(raised.value)


@pytest.mark.parametrize("role", list(Role))
async def test_minted_tokens_are_accepted_with_their_role(role: Role) -> None:
    configured = settings(jwt_issuer="https://shop", jwt_audience="gateway")
    principal = await TokenVerifier(configured, None).principal_of(mint_token(configured, "me", role, soon()))
    assert (principal.id, principal.kind, principal.role) == ("me", "user", role)
    assert principal.may(Scope.ADMIN_WRITE) == (role is Role.ADMIN)


@pytest.mark.parametrize("sub", ["s" * 255, "auth0|5f7c", "Ærøskøbing 7", "a@example.com"])
async def test_subjects_of_identity_providers_are_taken_as_they_are(sub: str) -> None:
    assert (await TokenVerifier(settings(), None).principal_of(signed(claims(sub=sub)))).id == sub


@pytest.mark.parametrize(
    ("extra", "role"),
    [
        ({}, Role.USER),
        ({"role": "authenticated"}, Role.USER),
        ({"role": ["admin"]}, Role.USER),
        ({"is_admin": True}, Role.ADMIN),
        ({"is_admin": "false", "role": "viewer"}, Role.VIEWER),
    ],
)
async def test_roles_of_other_issuers(extra: dict[str, Any], role: Role) -> None:
    principal = await TokenVerifier(settings(), None).principal_of(signed(claims(**extra)))
    assert principal.role is role


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (claims(exp=soon(-2)), {}, "The token has expired"),
        ({"exp": soon()}, {}, "The token lacks the claim sub"),
        ({"sub": "u1"}, {}, "The token lacks the claim exp"),
        (claims(sub=""), {}, ODD_SUBJECT),
        (claims(sub="s" * 256), {}, ODD_SUBJECT),
        (claims(sub="a\ud800b"), {}, ODD_SUBJECT),
        (claims(sub="a\x00b"), {}, ODD_SUBJECT),
        (claims(sub="a\nb"), {}, ODD_SUBJECT),
        (claims(nbf=soon()), {}, "The token is not valid yet (nbf or iat)"),
        (claims(aud="other"), {"jwt_audience": "gateway"}, "The token is for another audience (aud)"),
        (claims(), {"jwt_audience": "gateway"}, "The token lacks the claim aud"),
        (claims(iss="other"), {"jwt_issuer": "shop"}, "The token is from another issuer (iss)"),
        (claims(exp="never"), {}, "The token is not valid"),
        (claims(exp=float("inf")), {}, "The token is not valid"),
    ],
)
async def test_refusals_say_why(content: dict[str, Any], options: dict[str, Any], said: str) -> None:
    assert (await refusal(signed(content), **options)).startswith(said)


async def test_clock_difference_is_forgiven_up_to_the_leeway() -> None:
    late = signed(claims(exp=datetime.now(UTC) - timedelta(seconds=20)))
    assert (await TokenVerifier(settings(jwt_leeway_s=30), None).principal_of(late)).id == "u1"
    assert await refusal(late, jwt_leeway_s=5) == "The token has expired"


async def test_an_audience_that_nobody_asked_for_is_no_error() -> None:
    assert (await TokenVerifier(settings(), None).principal_of(signed(claims(aud="shop")))).id == "u1"


async def test_a_wrong_signature_and_no_signature_are_refused() -> None:
    assert await refusal(signed(claims(), "another secret of thirty-two bytes")) == "The token's signature is wrong"
    assert (
        await refusal(jwt.encode(claims(), None, "none")) == "The token is signed with none, which is not accepted here"
    )
    assert "HS512" in await refusal(signed(claims(), SECRET * 2, "HS512"))


@given(st.text(max_size=300))
def test_no_text_is_accepted_or_breaks_the_check(text: str) -> None:
    with pytest.raises(InvalidToken):
        TokenVerifier(settings(), None).principal_of(text).send(None)


@pytest.mark.parametrize(
    "header",
    [
        "[" * 5000,
        '{"alg": ["HS256"]}',
        '{"alg": "HS256", "kid": 7}',
        '{"alg": "HS256", "crit": ["x"]}',
        '{"alg": "HS256", "b64": false}',
        "[]",
    ],
)
async def test_hostile_headers_are_refused(header: str) -> None:
    head = base64.urlsafe_b64encode(header.encode()).rstrip(b"=").decode()
    assert await refusal(f"{head}.{signed(claims()).split('.', 1)[1]}")


async def test_endless_tokens_are_refused_unread() -> None:
    assert "longer than 8192" in await refusal("a" * 9000)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_keys_of_an_identity_provider(algorithm: str) -> None:
    key = SigningKey(algorithm, "k1")
    async with jwks_server() as provider, open_http() as client:
        provider.keys = [key.jwk]
        verifier = TokenVerifier(settings(jwt_secret=None), JwksKeys(provider.url, client))
        for _ in range(3):
            assert (await verifier.principal_of(key.sign(claims(role="viewer")))).role is Role.VIEWER
        assert provider.requests == 1
        forged = SigningKey(algorithm, "k1").sign(claims())
        with pytest.raises(InvalidToken, match="signature is wrong"):
            await verifier.principal_of(forged)


async def test_a_public_key_never_checks_a_shared_secret_signature() -> None:
    """Algorithm confusion: HS256 with the text of the public key as the secret (RFC 8725, 2.1)."""
    key = SigningKey("RS256", "k1")
    public = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "k1"}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps({"sub": "u1", "exp": 9_999_999_999}).encode()).rstrip(b"=")
    signature = jwt.get_algorithm_by_name("HS256").sign(head + b"." + body, public)
    token = b".".join([head, body, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()
    async with jwks_server() as provider, open_http() as client:
        provider.keys = [key.jwk]
        keys = JwksKeys(provider.url, client)
        with pytest.raises(InvalidToken, match="HS256, which is not accepted"):
            await TokenVerifier(settings(jwt_secret=None), keys).principal_of(token)
        with pytest.raises(InvalidToken, match="signature is wrong"):
            await TokenVerifier(settings(), keys).principal_of(token)


async def test_a_key_serves_its_own_algorithm_only_and_secrets_are_no_public_keys() -> None:
    elliptic = SigningKey("ES256", "k1")
    shared = {"kty": "oct", "kid": "k2", "k": base64.urlsafe_b64encode(SECRET.encode()).decode(), "alg": "HS256"}
    async with jwks_server() as provider, open_http() as client:
        provider.keys = [elliptic.jwk, shared, {"kty": "RSA", "kid": "broken"}]
        verifier = TokenVerifier(settings(jwt_secret=None), JwksKeys(provider.url, client))
        assert (await verifier.principal_of(elliptic.sign(claims()))).id == "u1"
        assert (await verifier.principal_of(SigningKey.sign(_without_kid(elliptic), claims()))).id == "u1"
        with pytest.raises(InvalidToken, match="not one for RS256"):
            await verifier.principal_of(SigningKey("RS256", "k1").sign(claims()))


def _without_kid(key: SigningKey) -> SigningKey:
    copy = SigningKey.__new__(SigningKey)
    copy.algorithm, copy.kid, copy.private = key.algorithm, None, key.private
    return copy


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_new_keys_are_found_but_unknown_ids_do_not_flood_the_provider() -> None:
    old, new = SigningKey("ES256", "old"), SigningKey("ES256", "new")
    clock = Clock()
    async with jwks_server() as provider, open_http() as client:
        provider.keys = [old.jwk]
        keys = JwksKeys(provider.url, client, clock)
        assert await keys.find("old") is not None
        provider.keys = [old.jwk, new.jwk]
        for _ in range(5):
            assert await keys.find("new") is None
        assert provider.requests == 1
        clock.now += REFETCH_S
        assert await keys.find("new") is not None
        assert provider.requests == 2


async def test_keys_are_kept_while_the_provider_is_away_and_dropped_when_it_withdraws_them() -> None:
    key = SigningKey("ES256", "k1")
    clock = Clock()
    async with jwks_server() as provider, open_http() as client:
        keys = JwksKeys(provider.url, client, clock)
        provider.broken = True
        with pytest.raises(KeysUnavailable):
            await keys.find("k1")
        provider.broken, provider.keys = False, [key.jwk]
        clock.now += REFETCH_S
        assert await keys.find("k1") is not None
        provider.broken = True
        clock.now += KEPT_S
        assert await keys.find("k1") is not None
        provider.broken, provider.keys = False, []
        clock.now += REFETCH_S
        assert await keys.find("k1") is None


class UnixClock:
    """Unix seconds for the verifier; PyJWT's own clock goes on."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tokens that were verified in full."""
    seen: list[str] = []
    decode = jwt.decode

    def counted(token: str, *args: Any, **kwargs: Any) -> Any:
        seen.append(token)
        return decode(token, *args, **kwargs)

    monkeypatch.setattr(tokens.jwt, "decode", counted)
    return seen


async def test_a_token_that_passed_is_verified_again_after_a_while(decoded: list[str]) -> None:
    clock = UnixClock()
    verifier = TokenVerifier(settings(), None, clock)
    token, other = signed(claims()), signed(claims(sub="u2"))
    first = await verifier.principal_of(token)
    assert await verifier.principal_of(token) == first
    assert (await verifier.principal_of(other)).id == "u2"
    assert decoded == [token, other]
    clock.now += REMEMBERED_S
    await verifier.principal_of(token)
    assert decoded == [token, other, token]


async def test_no_token_is_accepted_beyond_its_expiry_because_it_passed_before(decoded: list[str]) -> None:
    clock = UnixClock()
    verifier = TokenVerifier(settings(jwt_leeway_s=0), None, clock)
    expiry = int(clock.now) + 4
    token = signed(claims(exp=expiry))
    await verifier.principal_of(token)
    clock.now = expiry
    await eventually(lambda: datetime.now(UTC).timestamp() > expiry)
    with pytest.raises(InvalidToken, match="has expired"):
        await verifier.principal_of(token)
    assert decoded == [token, token]


async def test_refusals_are_not_remembered_and_a_changed_token_is_another(decoded: list[str]) -> None:
    verifier = TokenVerifier(settings(), None)
    token = signed(claims())
    await verifier.principal_of(token)
    forged = token[:-2] + ("AA" if not token.endswith("AA") else "BB")
    for _ in range(2):
        with pytest.raises(InvalidToken):
            await verifier.principal_of(forged)
    assert decoded == [token, forged, forged]


async def test_the_tokens_that_are_remembered_are_bounded(decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_REMEMBERED_MAX", 2)
    verifier = TokenVerifier(settings(), None)
    first, second, third = (signed(claims(sub=name)) for name in ("u1", "u2", "u3"))
    for token in (first, second, first, third, first, second):
        await verifier.principal_of(token)
    assert decoded == [first, second, third, second]


async def test_a_key_that_was_withdrawn_is_not_honoured_by_memory() -> None:
    kept, withdrawn = SigningKey("ES256", "k1"), SigningKey("ES256", "k2")
    async with jwks_server() as provider, open_http() as client:
        provider.keys = [kept.jwk, withdrawn.jwk]
        clock = UnixClock()
        jwks = JwksKeys(provider.url, client, clock)
        verifier = TokenVerifier(settings(jwt_secret=None), jwks)
        token = withdrawn.sign(claims())
        await verifier.principal_of(token)
        provider.keys = [kept.jwk]
        clock.now += KEPT_S
        await verifier.principal_of(kept.sign(claims()))  # fetches anew
        with pytest.raises(InvalidToken, match="not among"):
            await verifier.principal_of(token)
