"""Settings: where they come from, and how wrong ones are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from gateway.services.conversations.queues import Profile, UserLimit, limit_of, policy_of
from gateway.services.email.queue import email_policy
from gateway.services.orchestration.queue import orchestration_policy
from gateway.settings import QUEUES, Role, Settings, SettingsError, load, masked_url, setting_rows

SECRET = "mX2vQ9sLw4Rk7TzB1nYc6HdJ0pGfE8ua"
GOOD = {"DATABASE_URL": "postgresql://gw:pw@db/gateway", "JWT_SECRET": SECRET, "SMTP_HOST": "smtp.example"}


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    return tmp_path / "no-secrets"


def problems_of(environ: dict[str, str], secrets_dir: Path) -> dict[str, str]:
    with pytest.raises(SettingsError) as raised:
        load(environ, secrets_dir)
    return {problem.name: problem.seen for problem in raised.value.problems}


def test_defaults_are_those_of_the_documents(nowhere: Path) -> None:
    settings = load(GOOD, nowhere).settings
    assert settings.port == 3003
    assert settings.gateway_role is Role.ALL
    assert (settings.email_queue_concurrency, settings.email_rate_max, settings.email_rate_duration_ms) == (5, 10, 1000)
    assert (settings.email_attempts, settings.email_backoff_ms) == (3, 60_000)
    assert (settings.orchestration_queue_concurrency, settings.orchestration_rate_max) == (3, 5)
    assert settings.orchestration_rate_duration_ms == 60_000
    assert (settings.orchestration_backoff_ms, settings.orchestration_timeout_ms) == (30_000, 600_000)
    assert (settings.completed_retention_s, settings.completed_retention_count) == (86_400, 1000)
    assert (settings.orchestration_completed_retention_count, settings.failed_retention_s) == (500, 604_800)
    assert (settings.stalled_interval_ms, settings.max_stalled_count, settings.lock_duration_ms) == (30_000, 2, 30_000)
    assert settings.shutdown_grace_s == 630
    assert settings.queue_redis is None


def test_all_problems_are_reported_together_with_secrets_masked(nowhere: Path) -> None:
    environ = {
        "DATABASE_URL": "mysql://root:hunter2@db/x",
        "REDIS_URL": "http://:hunter2@redis:6380",
        "JWT_SECRET": "change-me",
        "EMAIL_ATTEMPTS": "many",
        "SMTP_FROM_EMAIL": "Shop",
        "SMTP_HOST": "smtp.example",
    }
    with pytest.raises(SettingsError) as raised:
        load(environ, nowhere)
    message = str(raised.value)
    assert message.startswith("Cannot start: 5 settings need attention\n\n  ")
    assert message.endswith("\n\n  All settings: gateway config docs")
    for name in set(environ) - {"SMTP_HOST"}:
        assert f"\n  {name:<16}" in message
    assert "hunter2" not in message
    assert "mysql://root:•••@db/x" in message
    assert '"many" is not a whole number' in message
    assert "Default is 3." in message
    assert "openssl rand -hex 32" in message


def test_the_fix_stands_below_what_was_seen(nowhere: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        load(GOOD | {"PORT": "99999"}, nowhere)
    assert str(raised.value).splitlines() == [
        "Cannot start: 1 setting needs attention",
        "",
        '  PORT "99999" is more than 65535',
        "       Default is 3003.",
        "",
        "  All settings: gateway config docs",
    ]


@pytest.mark.parametrize(
    "secret",
    [
        "change-me-change-me-change-me-change-me",
        "your-256-bit-secret-your-256-bit-secret",
        "short",
        "a" * 40,
        "x1y2" * 8,
    ],
)
def test_default_and_short_secrets_stop_the_start(secret: str, nowhere: Path) -> None:
    assert set(problems_of(GOOD | {"JWT_SECRET": secret}, nowhere)) == {"JWT_SECRET"}


def test_weak_secrets_are_a_warning_in_development(nowhere: Path) -> None:
    loaded = load(GOOD | {"JWT_SECRET": "short", "GATEWAY_ENV": "development"}, nowhere)
    assert any("JWT_SECRET has 5 bytes" in warning for warning in loaded.warnings)


def test_missing_ones_are_named(nowhere: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        load({"SMTP_HOST": "smtp.example"}, nowhere)
    assert [(p.name, p.seen) for p in raised.value.problems] == [
        ("DATABASE_URL", "is not set"),
        ("JWT_SECRET", "is not set, and neither is JWT_JWKS_URL"),
    ]
    assert set(problems_of({"DATABASE_URL": GOOD["DATABASE_URL"]}, nowhere)) == {"JWT_SECRET", "SMTP_HOST"}


def test_a_command_that_needs_the_database_only_asks_for_no_more(nowhere: Path) -> None:
    assert load({"DATABASE_URL": GOOD["DATABASE_URL"]}, nowhere, serving=False).settings.jwt_secret is None


def test_without_tokens_only_on_loopback(nowhere: Path) -> None:
    open_to_all = {name: value for name, value in GOOD.items() if name != "JWT_SECRET"} | {"AUTH_MODE": "none"}
    assert "HOST=0.0.0.0" in problems_of(open_to_all, nowhere)["AUTH_MODE"]
    for host in ("127.0.0.1", "localhost", "::1"):
        assert load(open_to_all | {"HOST": host}, nowhere).settings.auth_mode == "none"


def test_files_win_over_plain_variables(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "JWT_SECRET").write_text(SECRET[::-1] + "\n")
    password = tmp_path / "password"
    password.write_text("of the file\n")
    environ = GOOD | {"SMTP_USER": "me", "SMTP_PASSWORD": "plain", "SMTP_PASSWORD_FILE": str(password)}
    loaded = load(environ, secrets)
    assert loaded.settings.jwt_secret is not None and loaded.settings.jwt_secret.get_secret_value() == SECRET[::-1]
    assert loaded.settings.smtp_password is not None
    assert loaded.settings.smtp_password.get_secret_value() == "of the file"
    assert loaded.sources["jwt_secret"] == f"file {secrets / 'JWT_SECRET'}"
    assert loaded.sources["smtp_password"] == f"file {password}"
    assert loaded.sources["smtp_host"] == "environment"
    assert "port" not in loaded.sources


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    environ = {name: value for name, value in GOOD.items() if name != "DATABASE_URL"}
    seen = problems_of(environ | {"DATABASE_URL_FILE": str(tmp_path / "gone")}, tmp_path)
    assert set(seen) == {"DATABASE_URL_FILE"}
    assert "No such file" in seen["DATABASE_URL_FILE"]


def test_env_file_gives_way_to_the_environment_and_names_its_lines(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("# mine\nPORT=4000\nLOG_LEVEL='debug'\n")
    loaded = load(GOOD | {"PORT": "5000"}, tmp_path, env_file=env_file)
    assert (loaded.settings.port, loaded.settings.log_level) == (5000, "debug")
    assert (loaded.sources["port"], loaded.sources["log_level"]) == ("environment", ".env:3")


def test_unknown_names_get_a_suggestion(nowhere: Path) -> None:
    loaded = load(
        GOOD | {"REDIS_ULR": "x", "SMTP_COLOUR": "x", "PATH": "/bin", "REDIS_SERVICE_HOST": "10.0.0.1"}, nowhere
    )
    assert loaded.warnings == (
        "REDIS_ULR is not a setting. Did you mean REDIS_URL?",
        "SMTP_COLOUR is not a setting.",
    )


def test_roles_decide_what_is_needed(nowhere: Path) -> None:
    worker = load({k: v for k, v in GOOD.items() if k != "JWT_SECRET"} | {"GATEWAY_ROLE": "worker"}, nowhere).settings
    assert worker.runs_workers and not worker.serves_api
    api = load({k: v for k, v in GOOD.items() if k != "SMTP_HOST"} | {"GATEWAY_ROLE": "API"}, nowhere).settings
    assert api.serves_api and not api.runs_workers
    assert not load(GOOD | {"DISABLE_BACKGROUND_WORKERS": "true"}, nowhere).settings.runs_workers


@pytest.mark.parametrize(
    ("given", "mode"), [("true", "tls"), ("false", "auto"), ("STARTTLS", "starttls"), ("none", "none")]
)
def test_smtp_secure_understands_other_mailers(given: str, mode: str, nowhere: Path) -> None:
    assert load(GOOD | {"SMTP_SECURE": given}, nowhere).settings.smtp_secure == mode


def test_nothing_shown_holds_a_secret(nowhere: Path) -> None:
    environ = GOOD | {"REDIS_URL": "redis://:hunter2@r:1", "SMTP_USER": "u", "SMTP_PASSWORD": "hunter2"}
    loaded = load(environ, nowhere)
    rows = setting_rows(loaded.settings, loaded.sources)
    text = repr(rows) + repr(loaded.settings)
    assert "hunter2" not in text and ":pw@" not in text and SECRET not in text
    by_name = {row.name: row for row in rows}
    assert by_name["REDIS_URL"].value == "redis://:•••@r:1"
    assert by_name["EMAIL_ATTEMPTS"].source == "default"


def test_every_setting_has_a_sentence() -> None:
    for row in setting_rows():
        assert row.description.endswith(".") and len(row.description) > 15, row.name


def test_settings_do_not_change() -> None:
    settings = Settings(database_url="postgresql://db/x")
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_masked_url_keeps_what_helps() -> None:
    assert masked_url("postgresql://gw:pw@db:5432/x?sslmode=require&password=pw") == (
        "postgresql://gw:•••@db:5432/x?sslmode=require&password=•••"
    )


@pytest.mark.parametrize("name", ["password", "sslpassword", "token", "access_token", "client_secret", "apiKey", "pwd"])
def test_masked_url_hides_whatever_is_named_like_a_secret(name: str) -> None:
    assert masked_url(f"https://h/x?{name}=hunter2&db=1") == f"https://h/x?{name}=•••&db=1"


@pytest.mark.parametrize(
    ("given", "name", "said"),
    [
        ({"SMTP_FROM_EMAIL": "a@b"}, "SMTP_FROM_EMAIL", "should have a period"),
        ({"SMTP_FROM_EMAIL": "é@example.com"}, "SMTP_FROM_EMAIL", "SMTPUTF8"),
        ({"SMTP_FROM_EMAIL": "Shop <a@example.com>"}, "SMTP_FROM_EMAIL", "one bare address"),
        ({"SMTP_FROM_NAME": "x" * 201}, "SMTP_FROM_NAME", "at most 200"),
        ({"SMTP_FROM_NAME": "Shop\r\nBcc: x@evil.example"}, "SMTP_FROM_NAME", "line break"),
        (
            {"GATEWAY_ROLE": "worker", "DISABLE_BACKGROUND_WORKERS": "true"},
            "DISABLE_BACKGROUND_WORKERS",
            "this process would do nothing",
        ),
        ({"GATEWAY_QUEUES": "mail"}, "GATEWAY_QUEUES", 'No queue named "mail". Known: email, orchestration.'),
        ({"GATEWAY_QUEUES": "email,emial"}, "GATEWAY_QUEUES", 'No queue named "emial"'),
        ({"GATEWAY_QUEUES": ","}, "GATEWAY_QUEUES", "names no queue"),
        ({"GATEWAY_QUEUES": "chat"}, "GATEWAY_QUEUES", 'names "chat", a profile that is off'),
        (
            {"GATEWAY_PROFILES": "chat,research"},
            "GATEWAY_PROFILES",
            'No profile named "research". Known: chat, deep-res',
        ),
        ({"HOST": "nonexistent.invalid"}, "HOST", "is no address"),
        ({"CORS_ORIGIN": "not a url"}, "CORS_ORIGIN", "is no origin"),
        ({"CORS_ORIGIN": "https://a.example, https://b.example/"}, "CORS_ORIGIN", '"https://b.example/"'),
        ({"JWT_JWKS_URL": "https://id.example/jwks"}, "JWT_AUDIENCE", "JWT_JWKS_URL is"),
        ({"SMTP_CA_BUNDLE": "/nonexistent"}, "SMTP_CA_BUNDLE", "No such file"),
        ({"SMTP_CA_BUNDLE": __file__}, "SMTP_CA_BUNDLE", "no certificate in PEM form"),
        ({"SMTP_HOST": "smtp\udcff.example"}, "SMTP_HOST", "is not UTF-8 text"),
    ],
)
def test_what_would_fail_later_stops_the_start(given: dict[str, str], name: str, said: str, nowhere: Path) -> None:
    found = problems_of(GOOD | given, nowhere)
    assert said in found[name]


@pytest.mark.parametrize(
    "given",
    [
        {"SMTP_FROM_EMAIL": "no-reply@bücher.example", "SMTP_FROM_NAME": "Müller, Ada"},
        {"SMTP_FROM_EMAIL": "gateway@localhost"},
        {"GATEWAY_QUEUES": "email-queue, orchestration"},
        {"GATEWAY_QUEUES": "chat,email", "GATEWAY_PROFILES": "deep-research,chat"},
        {"CORS_ORIGIN": "*"},
        {"CORS_ORIGIN": "https://shop.example:8443,capacitor://localhost"},
        {"HOST": "localhost"},
        {"JWT_JWKS_URL": "https://id.example/jwks", "JWT_AUDIENCE": "gateway"},
    ],
)
def test_what_will_work_is_accepted(given: dict[str, str], nowhere: Path) -> None:
    assert load(GOOD | given, nowhere).warnings == ()


def test_a_bundle_of_authorities_is_read(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(bundle)
    assert load(GOOD | {"SMTP_CA_BUNDLE": str(bundle)}, tmp_path / "no-secrets").settings.smtp_ca_bundle == bundle


def test_the_queues_that_may_be_named_are_those_that_there_are() -> None:
    settings = Settings(database_url="postgresql://db/x")
    policies = (email_policy(settings), orchestration_policy(settings))
    assert tuple(policy.name for policy in policies) == tuple(f"{name}-queue" for name in QUEUES)


def test_the_profiles_are_off_and_have_the_numbers_of_document_002() -> None:
    settings = Settings(database_url="postgresql://db/x")
    assert settings.profiles == ()
    both = Settings(database_url="postgresql://db/x", gateway_profiles="deep-research, chat")
    assert both.profiles == ("chat", "deep-research")
    chat, research = (policy_of(Profile(name), settings) for name in both.profiles)
    assert (chat.name, chat.concurrency, chat.attempts, chat.backoff_ms) == ("chat", 5, 3, 1000)
    assert (chat.retention.completed_s, chat.retention.failed_s) == (3600, 86_400)
    assert (research.name, research.concurrency, research.attempts, research.backoff_ms) == (
        "deep-research",
        3,
        2,
        5000,
    )
    assert (research.retention.completed_s, research.retention.failed_s) == (86_400, 604_800)
    assert limit_of(Profile.CHAT, settings) == UserLimit(10, 60)
    assert limit_of(Profile.DEEP_RESEARCH, settings) == UserLimit(3, 300)


def test_a_value_that_is_wrong_does_not_hide_what_others_are_together(nowhere: Path) -> None:
    environ = {"GATEWAY_QUEUES": "mail", "EMAIL_ATTEMPTS": "many", "REDIS_URL": "nonsense", "REDIS_REQUIRED": "true"}
    # No complaint that REDIS_REQUIRED is without a Redis: one is named.
    assert set(problems_of(environ, nowhere)) == {
        "DATABASE_URL",
        "EMAIL_ATTEMPTS",
        "GATEWAY_QUEUES",
        "JWT_SECRET",
        "REDIS_URL",
    }


def test_a_missing_setting_is_told_with_the_name_that_was_given_instead(nowhere: Path) -> None:
    environ = GOOD | {"DATABSE_URL": "postgresql://db/x", "REDIS_ULR": "x"}
    del environ["DATABASE_URL"]
    with pytest.raises(SettingsError) as raised:
        load(environ, nowhere)
    [problem] = raised.value.problems
    assert problem.seen == "is not set. DATABSE_URL is no setting: did you mean DATABASE_URL?"
    assert raised.value.warnings == ("REDIS_ULR is not a setting. Did you mean REDIS_URL?",)
    assert "\n  warning: REDIS_ULR is not a setting. Did you mean REDIS_URL?\n" in str(raised.value)


def test_an_env_file_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_bytes(b"PORT=4000\nSMTP_FROM_NAME=Caf\xe9\n")
    with pytest.raises(SettingsError) as raised:
        load(GOOD, tmp_path, env_file=env_file)
    assert [(p.name, p.seen) for p in raised.value.problems] == [(".env", "cannot be read (not UTF-8 text)")]


def test_an_env_file_may_point_at_secrets_and_its_unknown_names_are_told(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("of the file\n")
    env_file = tmp_path / ".env"
    env_file.write_text(f"\ufeffSMTP_USER=me\nSMTP_PASSWORD_FILE={password}\nREDIS_ULR=x\n")
    loaded = load(GOOD, tmp_path / "no-secrets", env_file=env_file)
    assert loaded.settings.smtp_password is not None
    assert loaded.settings.smtp_password.get_secret_value() == "of the file"
    assert loaded.sources["smtp_password"] == f"file {password}"
    assert loaded.warnings == ("REDIS_ULR is not a setting. Did you mean REDIS_URL?",)
    over = load(GOOD | {"SMTP_PASSWORD": "plain"}, tmp_path / "no-secrets", env_file=env_file).settings.smtp_password
    assert over is not None and over.get_secret_value() == "plain"


def test_settings_that_are_not_valid_are_still_shown_each_with_its_problem(nowhere: Path) -> None:
    environ = {"EMAIL_ATTEMPTS": "many", "PORT": "4000", "REDIS_URL": "redis://:hunter2@r:1", "JWT_SECRET": SECRET}
    with pytest.raises(SettingsError) as raised:
        load(environ, nowhere, serving=False)
    rows = {row.name: row for row in raised.value.rows}
    assert set(rows) == {row.name for row in setting_rows()}
    assert (rows["EMAIL_ATTEMPTS"].value, rows["EMAIL_ATTEMPTS"].problem) == ("many", '"many" is not a whole number')
    assert (rows["DATABASE_URL"].value, rows["DATABASE_URL"].problem) == (None, "is not set")
    assert (rows["PORT"].value, rows["PORT"].source, rows["PORT"].problem) == ("4000", "environment", None)
    assert (rows["REDIS_URL"].value, rows["JWT_SECRET"].value) == ("redis://:•••@r:1", "•••")
    assert rows["EMAIL_QUEUE_CONCURRENCY"].value == "5"


def test_a_command_without_a_database_asks_for_none(nowhere: Path) -> None:
    for environ in ({"JWT_SECRET": SECRET}, {"JWT_SECRET": SECRET, "DATABASE_URL": "mysql://db"}):
        assert load(environ, nowhere, serving=False, database=False).settings.jwt_secret is not None


@pytest.mark.parametrize("wrong", ["proxy.internal", "10.0.0.1/8", "10.0.0.0/33", "*, 10.0.0.0/8"])
def test_proxies_are_addresses_and_networks(nowhere: Path, wrong: str) -> None:
    seen = problems_of(GOOD | {"TRUSTED_PROXIES": wrong}, nowhere)["TRUSTED_PROXIES"]
    assert "is not an address or network such as 10.0.0.0/8" in seen
    good = load(GOOD | {"TRUSTED_PROXIES": "10.0.0.0/8, ::1"}, nowhere).settings
    assert good.trusted_networks == ["10.0.0.0/8", "::1"]
