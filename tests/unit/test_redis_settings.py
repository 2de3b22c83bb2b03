"""Redis settings: every form that works, and for every one that cannot, which setting and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from gateway.settings import RedisForm, RedisTarget, SettingsError, load, masked_url

GOOD = {
    "DATABASE_URL": "postgresql://gw:pw@db/gateway",
    "JWT_SECRET": "mX2vQ9sLw4Rk7TzB1nYc6HdJ0pGfE8ua",
    "SMTP_HOST": "smtp.example",
}
A, B, C = ("a", 6379), ("b", 6380), ("c", 6379)


def target_of(given: dict[str, str], tmp_path: Path) -> RedisTarget | None:
    return load(GOOD | given, tmp_path / "no-secrets").settings.queue_redis


def refusal_of(given: dict[str, str], tmp_path: Path) -> SettingsError:
    with pytest.raises(SettingsError) as raised:
        load(GOOD | given, tmp_path / "no-secrets")
    return raised.value


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ({"REDIS_URL": "redis://a:6379"}, RedisTarget((A,))),
        ({"REDIS_URL": "redis://a/3"}, RedisTarget((A,), database=3)),
        ({"REDIS_URL": "redis://[::1]:7000/0?db=2"}, RedisTarget((("::1", 7000),), database=2)),
        ({"REDIS_URL": "redis://user:p%40s%2Fs@a"}, RedisTarget((A,), username="user", password="p@s/s")),
        ({"REDIS_URL": "redis://a", "REDIS_PASSWORD": "p@ss"}, RedisTarget((A,), password="p@ss")),
        ({"REDIS_URL": "redis://:own@a", "REDIS_PASSWORD": "p@ss"}, RedisTarget((A,), password="own")),
        ({"REDIS_URL": "unix:///run/redis.sock"}, RedisTarget((), socket="/run/redis.sock")),
        (
            {"REDIS_URL": "redis://a", "REDIS_PASSWORD": "cache", "REDIS_QUEUE_URL": "rediss://u:p@b:6380"},
            RedisTarget((B,), username="u", password="p", tls=True),
        ),
        ({"REDIS_HOST": "c", "REDIS_PASSWORD": "p@ss/word"}, RedisTarget((C,), password="p@ss/word")),
        ({"REDIS_HOST": "c", "REDIS_PORT": "tcp://10.0.0.7:6379"}, RedisTarget((C,))),
        ({"REDIS_URL": ""}, None),
        ({"REDIS_URL": "redis://a:6379", "USE_JOB_QUEUE": "false"}, None),
        (
            {"REDIS_URL": "redis://:pw@s1,s2:26380,s3/1", "REDIS_SENTINEL_NAME": "mymaster"},
            RedisTarget(
                (("s1", 26379), ("s2", 26380), ("s3", 26379)),
                RedisForm.SENTINEL,
                password="pw",
                database=1,
                sentinel_name="mymaster",
            ),
        ),
        (
            {"REDIS_URL": "redis://sentinel", "REDIS_SENTINEL_NAME": "m", "REDIS_SENTINEL_PASSWORD": "s"},
            RedisTarget((("sentinel", 26379),), RedisForm.SENTINEL, sentinel_name="m", sentinel_password="s"),
        ),
        (
            {"REDIS_URL": "rediss://:pw@a,b:6380", "REDIS_CLUSTER_MODE": "true"},
            RedisTarget((A, B), RedisForm.CLUSTER, password="pw", tls=True),
        ),
    ],
)
def test_forms_of_redis(given: dict[str, str], target: RedisTarget | None, tmp_path: Path) -> None:
    assert target_of(given, tmp_path) == target


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("localhost:6379", "redis:// or rediss:// or unix://"),
        ("redis+sentinel://:hunter2@h", "redis:// or rediss:// or unix://"),
        ("redis://:hunter2@h:port", "port"),
        ("redis://:hunter2@h:99999", "port"),
        ("redis://:hunter2@", "host"),
        ("redis://:hunter2@a,,b", "host"),
        ("redis://:hunter2@h/first", "database"),
        ("redis://:hunter2@h/0?socket_timeout=100", '"socket_timeout"'),
        ("redis://:hunter2@a,redis://b", "once"),
        ("redis://:hunter2@a,:hunter2@b", "once"),
        ("redis://:hunter/2hunter2@h", "%2F"),
        ("redis://:hunter2#hunter2@h", "%23"),
        ("unix://:hunter2@/", "unix:///"),
    ],
)
def test_refused_addresses_name_the_setting_and_no_password(url: str, complaint: str, tmp_path: Path) -> None:
    said = str(refusal_of({"REDIS_URL": url}, tmp_path))
    assert "REDIS_URL" in said
    assert complaint in said
    assert "hunter" not in said


@pytest.mark.parametrize(
    ("given", "name", "fix"),
    [
        ({"REDIS_URL": "redis://a,b"}, "REDIS_URL", "REDIS_CLUSTER_MODE=true"),
        ({"REDIS_QUEUE_URL": "redis://a,b"}, "REDIS_QUEUE_URL", "REDIS_SENTINEL_NAME=mymaster"),
        (
            {"REDIS_URL": "redis://a,b", "REDIS_SENTINEL_NAME": "m", "REDIS_CLUSTER_MODE": "true"},
            "REDIS_CLUSTER_MODE",
            "Keep",
        ),
        ({"REDIS_SENTINEL_NAME": "m"}, "REDIS_SENTINEL_NAME", "REDIS_URL=redis://host-1"),
        ({"REDIS_HOST": "h", "REDIS_SENTINEL_NAME": "m"}, "REDIS_SENTINEL_NAME", "REDIS_URL=redis://host-1"),
        ({"REDIS_URL": "redis://h:6379", "REDIS_SENTINEL_NAME": "m"}, "REDIS_SENTINEL_NAME", "26379"),
        ({"REDIS_URL": "unix:///r.sock", "REDIS_SENTINEL_NAME": "m"}, "REDIS_SENTINEL_NAME", "unset"),
        ({"REDIS_URL": "redis://h", "REDIS_SENTINEL_PASSWORD": "m"}, "REDIS_SENTINEL_PASSWORD", "unset"),
        ({"REDIS_CLUSTER_MODE": "true"}, "REDIS_CLUSTER_MODE", "REDIS_URL=redis://host-1"),
        ({"REDIS_HOST": "h", "REDIS_CLUSTER_MODE": "true"}, "REDIS_CLUSTER_MODE", "REDIS_URL=redis://host-1"),
        ({"REDIS_URL": "redis://a,b/1", "REDIS_CLUSTER_MODE": "true"}, "REDIS_URL", "Remove /1"),
        ({"REDIS_HOST": "a,b"}, "REDIS_HOST", "REDIS_URL"),
        ({"REDIS_URL": "redis://h", "REDIS_CA_BUNDLE": __file__}, "REDIS_CA_BUNDLE", "rediss://"),
        ({"REDIS_URL": "rediss://h", "REDIS_CA_BUNDLE": __file__}, "REDIS_CA_BUNDLE", "PEM"),
        ({"REDIS_URL": "rediss://h", "REDIS_CA_BUNDLE": "/nonexistent"}, "REDIS_CA_BUNDLE", "Mount"),
        ({"USE_JOB_QUEUE": "true"}, "USE_JOB_QUEUE", "REDIS_URL"),
        ({"REDIS_REQUIRED": "1"}, "REDIS_REQUIRED", "REDIS_URL"),
    ],
)
def test_what_cannot_work_together_is_refused_with_a_fix(
    given: dict[str, str], name: str, fix: str, tmp_path: Path
) -> None:
    problem = next(problem for problem in refusal_of(given, tmp_path).problems if problem.name == name)
    assert fix in f"{problem.seen} {problem.fix}"


def test_problems_of_redis_stand_beside_the_others(tmp_path: Path) -> None:
    refused = refusal_of({"REDIS_URL": "redis://a,b/1", "EMAIL_ATTEMPTS": "many", "JWT_SECRET": "short"}, tmp_path)
    assert {problem.name for problem in refused.problems} == {"REDIS_URL", "EMAIL_ATTEMPTS", "JWT_SECRET"}


def test_an_own_authority_goes_with_rediss(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(bundle)
    target = target_of({"REDIS_URL": "rediss://h", "REDIS_CA_BUNDLE": str(bundle)}, tmp_path)
    assert target is not None
    assert (target.tls, target.ca_bundle) == (True, bundle)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"REDIS_URL": "rediss://u:hunter2@[::1]/1"}, "rediss://[::1]:6379/1"),
        (
            {"REDIS_URL": "redis://:hunter2@a,b", "REDIS_SENTINEL_NAME": "m", "REDIS_SENTINEL_PASSWORD": "hunter2"},
            "redis://a:26379,b:26379/0 (sentinels of m)",
        ),
        ({"REDIS_URL": "redis://:hunter2@a,b", "REDIS_CLUSTER_MODE": "true"}, "redis://a:6379,b:6379 (cluster)"),
        ({"REDIS_URL": "unix:///run/redis.sock"}, "unix:///run/redis.sock"),
    ],
)
def test_a_target_is_shown_without_passwords(given: dict[str, str], shown: str, tmp_path: Path) -> None:
    target = target_of(given, tmp_path)
    assert str(target) == shown
    assert "hunter2" not in repr(target)


@pytest.mark.parametrize("sign", "/?#")
def test_a_password_that_should_have_been_encoded_is_masked_all_the_same(sign: str) -> None:
    assert masked_url(f"redis://:hun{sign}ter@h:1/0") == "redis://•••"
