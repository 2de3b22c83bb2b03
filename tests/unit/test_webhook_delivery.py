"""Signed deliveries: whose they are, what they say, and how much of them a run is given."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.problem import Problem
from gateway.services.orchestration.triggers.delivery import (
    PAYLOAD_BYTES,
    Wanted,
    bounded,
    read_delivery,
    unwanted,
)
from gateway.services.orchestration.triggers.secrets import Sealed, TriggerSecrets
from gateway.services.orchestration.triggers.signature import Scheme, signature_of, verify
from tests.support.web import settings_for

NOW = 1_800_000_000.0
SECRET = "whsec_of-the-tests"
BODY = b'{"event": "deploy"}'
TRIGGER = UUID("018f2f6e-7c1c-7000-8000-000000000000")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=20), inner, max_size=8),
    max_leaves=60,
)


def own(body: bytes = BODY, secret: str = SECRET, at: float = NOW) -> dict[str, str]:
    return {"X-Gateway-Signature": signature_of(secret, body, int(at))}


def github(body: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def is_signed(scheme: Scheme, headers: dict[str, str], body: bytes = BODY) -> bool:
    return verify(scheme, SECRET, body, headers, NOW) is not None


def test_what_was_signed_with_the_secret_is_taken() -> None:
    assert is_signed(Scheme.GATEWAY, own())
    assert is_signed(Scheme.GITHUB, github())


def test_the_signature_is_the_documented_one() -> None:
    """As any sender computes it."""
    mac = hmac.new(SECRET.encode(), b"1800000000." + BODY, hashlib.sha256).hexdigest()
    assert own()["X-Gateway-Signature"] == f"t=1800000000,v1={mac}"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        own(body=b'{"event": "other"}'),
        own(secret="whsec_another"),
        own(at=NOW - 301),
        own(at=NOW + 301),
        github(),
        {"X-Gateway-Signature": ""},
        {"X-Gateway-Signature": "v1=00"},
        {"X-Gateway-Signature": "t=1800000000"},
        {"X-Gateway-Signature": own()["X-Gateway-Signature"].replace("t=", "t=+")},
        {"X-Gateway-Signature": own()["X-Gateway-Signature"] + ",t=1800000001"},
        {"X-Gateway-Signature": own()["X-Gateway-Signature"].replace("v1=", "v0=")},
        {"X-Gateway-Signature": "t=١٨٠٠٠٠٠٠٠٠,v1=00"},
        {"X-Gateway-Signature": "t=1800000000,v1=ü"},
        {"X-Gateway-Signature": "x" * 2000},
    ],
)
def test_anything_else_is_not(headers: dict[str, str]) -> None:
    assert not is_signed(Scheme.GATEWAY, headers)


def test_a_trigger_takes_its_own_scheme_only() -> None:
    assert not is_signed(Scheme.GITHUB, own())
    assert not is_signed(Scheme.GATEWAY, github())
    assert not is_signed(Scheme.GITHUB, {"X-Hub-Signature-256": github()["X-Hub-Signature-256"][:-1]})


def test_within_five_minutes_clocks_may_differ() -> None:
    assert is_signed(Scheme.GATEWAY, own(at=NOW - 299))
    assert is_signed(Scheme.GATEWAY, own(at=NOW + 299))


def test_a_sender_that_changes_its_secret_signs_with_both() -> None:
    header = own(secret="whsec_new")["X-Gateway-Signature"] + "," + own()["X-Gateway-Signature"].partition(",")[2]
    assert is_signed(Scheme.GATEWAY, {"X-Gateway-Signature": header})


def test_two_deliveries_are_told_apart_by_what_was_signed() -> None:
    told = {
        verify(Scheme.GATEWAY, SECRET, body, own(body, at=at), NOW) for body in (b"1", b"2") for at in (NOW, NOW - 1)
    }
    assert len(told) == 4 and None not in told
    # A further signature beside the right one is no other delivery.
    padded = {"X-Gateway-Signature": own()["X-Gateway-Signature"] + ",v1=00"}
    assert verify(Scheme.GATEWAY, SECRET, BODY, padded, NOW) == verify(Scheme.GATEWAY, SECRET, BODY, own(), NOW)


def secrets_with(**settings: Any) -> TriggerSecrets:
    return TriggerSecrets(settings_for("postgresql://unused/unused", **settings))


def test_secrets_are_derived_and_not_stored() -> None:
    keys = secrets_with(trigger_secret_key="0123456789abcdefghijklmnopqrstuvwxyz")
    (first, sealed), (second, _) = keys.new(TRIGGER), keys.new(TRIGGER)
    assert first.startswith("whsec_") and len(first) == 49 and first != second
    assert keys.of(TRIGGER, sealed) == first
    assert keys.of(UUID(int=1), sealed) != first
    assert first.encode() not in sealed.salt + sealed.key_check


def test_another_key_makes_them_void() -> None:
    secret, sealed = secrets_with().new(TRIGGER)  # from JWT_SECRET
    assert secrets_with().of(TRIGGER, sealed) == secret
    assert secrets_with(trigger_secret_key="0123456789abcdefghijklmnopqrstuvwxyz").of(TRIGGER, sealed) is None


def test_without_any_key_there_are_none() -> None:
    keys = secrets_with(jwt_secret=None)
    with pytest.raises(Problem, match="TRIGGER_SECRET_KEY"):
        keys.new(TRIGGER)
    assert keys.of(TRIGGER, Sealed(b"salt", b"check")) is None


@pytest.mark.parametrize(
    ("payload", "event", "action", "branch"),
    [
        ({"ref": "refs/heads/feature/x"}, "push", None, "feature/x"),
        ({"ref": "refs/tags/v1"}, "push", None, None),
        ({"action": "opened", "pull_request": {"base": {"ref": "main"}}}, "pull_request", "opened", "main"),
        ({"action": "completed", "workflow_run": {"head_branch": "dev"}}, "workflow_run", "completed", "dev"),
        ({"event": "deploy", "branch": "main"}, None, None, "main"),
        ({"type": "deploy", "pull_request": "?", "action": 3}, None, None, None),
        (["a", "list"], None, None, None),
    ],
)
def test_what_a_delivery_says(payload: Any, event: str | None, action: str | None, branch: str | None) -> None:
    read = read_delivery(payload, event)
    named = event or (payload.get("event") or payload.get("type") if isinstance(payload, dict) else None)
    assert (read.event, read.action, read.branch) == (named, action, branch)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (Wanted(), None),
        (Wanted(events=["push"], branches=["main"]), None),
        (Wanted(branches=["release/*", "ma?n"]), None),
        (Wanted(events=["pull_request"]), "the event 'push' is none of pull_request"),
        (Wanted(actions=["opened"]), "it names no action"),
        (Wanted(branches=["release/*"]), "the branch 'main' is none of release/*"),
    ],
)
def test_what_a_trigger_wants(wanted: Wanted, reason: str | None) -> None:
    assert unwanted(wanted, read_delivery({"ref": "refs/heads/main"}, "push")) == reason


def test_a_ping_starts_nothing() -> None:
    assert "ping" in str(unwanted(Wanted(), read_delivery({"zen": "Keep it simple"}, "ping")))


def test_a_small_payload_goes_in_as_it_is() -> None:
    payload = {"a": [1, {"b": "c" * 5000}]}
    assert bounded(payload) == (payload, False)


def test_a_large_one_keeps_what_stands_first() -> None:
    payload = {"commits": [{"message": "m" * 3000, "id": n} for n in range(200)], "ref": "refs/heads/main"}
    kept, cut = bounded(payload)
    assert cut and kept["ref"] == "refs/heads/main" and kept["commits"][0]["id"] == 0


@given(JSON, st.integers(50, 400))
def test_whatever_comes_it_is_bounded(payload: Any, most: int) -> None:
    kept, cut = bounded(payload, most)
    assert len(msgspec.json.encode(kept)) <= most
    assert cut or kept == payload


@pytest.mark.parametrize("payload", [{"k" * 5000 + str(n): n for n in range(1000)}, "x" * 900_000, [[[[]]]] * 200_000])
def test_hostile_shapes_are_bounded_too(payload: Any) -> None:
    deep: Any = payload
    for _ in range(200):
        deep = [deep]
    for one in (payload, deep):
        kept, cut = bounded(one)
        assert cut and len(msgspec.json.encode(kept)) <= PAYLOAD_BYTES
