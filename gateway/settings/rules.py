"""What settings must be together, what they must find on this machine, and what a secret must be."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.settings.conversations import PROFILES
from gateway.settings.model import QUEUES, Settings
from gateway.settings.problems import SECRET_HINT, SettingProblem
from gateway.settings.redis_rules import check_authorities, check_redis
from gateway.settings.values import words

RUN_DAYS_MIN = 32  # longer than any month
SECRET_BYTES = 32  # HS256: a key as long as the hash, RFC 7518 section 3.2
_EXAMPLES = (
    "change-me",
    "changeme",
    "change_me",
    "your-",
    "your_",
    "example",
    "placeholder",
    "replace-me",
    "default",
    "supersecret",
    "super-secret",
)


def weak_secret(value: str) -> str | None:
    """Why this is no secret, or None."""
    lowered = value.lower()
    for example in _EXAMPLES:
        if example in lowered:
            return f'is an example value (it contains "{example}")'
    size = len(value.encode())
    if size < SECRET_BYTES:
        return f"has {size} bytes, {SECRET_BYTES} are needed"
    if len(set(value)) < 6:
        return "repeats the same few characters"
    return None


def check_together(settings: Settings, broken: frozenset[str], *, serving: bool) -> Iterator[SettingProblem]:
    """Problems between settings. ``serving`` False: a command that needs the database only.

    ``broken``: fields that are wrong by themselves. A rule that reads one of them is left out: it would complain of
    what is not there.
    """
    for rule, fields, always in _RULES:
        if (serving or always) and not any(name.startswith(fields) for name in broken):
            yield from rule(settings)


def _callers(settings: Settings) -> Iterator[SettingProblem]:
    if not settings.serves_api:
        return
    if settings.auth_mode == "none":
        if not settings.on_loopback:
            yield SettingProblem(
                "AUTH_MODE",
                f"is none, but HOST={settings.host} can be reached from other machines",
                "Set AUTH_MODE=jwt, or HOST=127.0.0.1.",
            )
        return
    if settings.jwt_secret is None and settings.jwt_jwks_url is None:
        yield SettingProblem(
            "JWT_SECRET",
            "is not set, and neither is JWT_JWKS_URL",
            f"{SECRET_HINT}\nOr set JWT_JWKS_URL to your identity provider's keys.",
        )
    if settings.jwt_jwks_url is not None and settings.jwt_audience is None:
        yield SettingProblem(
            "JWT_AUDIENCE",
            "is not set, but JWT_JWKS_URL is: tokens that the provider made for other services would be accepted",
            "Set it to the aud claim of the tokens that are meant for this gateway.",
        )
    if settings.jwt_jwks_url is not None and not _safe_to_fetch(settings.jwt_jwks_url):
        yield SettingProblem(
            "JWT_JWKS_URL", "is http://: whoever is on the way could replace the keys", "Use its https:// address."
        )


def _safe_to_fetch(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def _mail_login(settings: Settings) -> Iterator[SettingProblem]:
    if settings.smtp_user and settings.smtp_password is None:
        yield SettingProblem("SMTP_PASSWORD", "is not set, but SMTP_USER is", "Set both, or neither.")
    if settings.smtp_password and not settings.smtp_user:
        yield SettingProblem("SMTP_USER", "is not set, but SMTP_PASSWORD is", "Set both, or neither.")


def _mail(settings: Settings) -> Iterator[SettingProblem]:
    sends = settings.queue_names is None or any(name.startswith("email") for name in settings.queue_names)
    if settings.runs_workers and sends and settings.smtp_host is None:
        yield SettingProblem(
            "SMTP_HOST",
            "is not set, and this process sends e-mails",
            "Set your mail server, for example SMTP_HOST=smtp.shop.example.\n"
            "To send none from here: GATEWAY_ROLE=api, or GATEWAY_QUEUES without email.",
        )


def _role(settings: Settings) -> Iterator[SettingProblem]:
    if not settings.serves_api and not settings.runs_workers:
        yield SettingProblem(
            "DISABLE_BACKGROUND_WORKERS",
            "is true, and GATEWAY_ROLE is worker: this process would do nothing",
            "Unset it here: it is for processes with the API.",
        )


def _queues(settings: Settings) -> Iterator[SettingProblem]:
    known = (*QUEUES, *settings.profiles)
    if settings.queue_names == ():
        yield SettingProblem("GATEWAY_QUEUES", "names no queue", f"Known: {', '.join(known)}. Default is *, all.")
    for name in settings.queue_names or ():
        if name in settings.profiles or name.removesuffix("-queue") in QUEUES:
            continue
        if name in PROFILES:
            fix = f"Set GATEWAY_PROFILES={','.join((*settings.profiles, name))} too."
            yield SettingProblem("GATEWAY_QUEUES", f'names "{name}", a profile that is off', fix)
            continue
        near = get_close_matches(name, known, n=1)
        fix = f'Did you mean "{near[0]}"?' if near else "Default is *, all of them."
        yield SettingProblem("GATEWAY_QUEUES", f'No queue named "{name}". Known: {", ".join(known)}.', fix)


def _profiles(settings: Settings) -> Iterator[SettingProblem]:
    for name in words(settings.gateway_profiles):
        if name not in PROFILES:
            near = get_close_matches(name, PROFILES, n=1)
            fix = f'Did you mean "{near[0]}"?' if near else "Unset it, or name one or both, with a comma between."
            yield SettingProblem("GATEWAY_PROFILES", f'No profile named "{name}". Known: {", ".join(PROFILES)}.', fix)


def _mail_authorities(settings: Settings) -> Iterator[SettingProblem]:
    yield from check_authorities("SMTP_CA_BUNDLE", settings.smtp_ca_bundle)


def _redis_authorities(settings: Settings) -> Iterator[SettingProblem]:
    yield from check_authorities("REDIS_CA_BUNDLE", settings.redis_ca_bundle)


def _host(settings: Settings) -> Iterator[SettingProblem]:
    try:
        ip_address(settings.host)
        return
    except ValueError:
        pass  # a name
    try:
        socket.getaddrinfo(settings.host, None)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no host name"
        yield SettingProblem("HOST", f'"{settings.host}" is no address ({why})', "Use 0.0.0.0 or 127.0.0.1.")


def _github(settings: Settings) -> Iterator[SettingProblem]:
    token = settings.github_token.get_secret_value() if settings.github_token else None
    if token is None:
        return
    if not (token.isascii() and token.isprintable() and " " not in token):
        yield SettingProblem(
            "GITHUB_TOKEN", "holds spaces or characters that no token has", "Copy the token alone, on one line."
        )
    if not _safe_to_fetch(settings.github_api_url):
        yield SettingProblem(
            "GITHUB_API_URL",
            "is http://, and GITHUB_TOKEN would be sent there in the clear",
            "Use its https:// address.",
        )


def _agents(settings: Settings) -> Iterator[SettingProblem]:
    if settings.agents_dir is not None and not settings.agents_dir.is_dir():
        yield SettingProblem(
            "AGENTS_DIR", f"is {settings.agents_dir}, which is no directory", "Create it, or unset this."
        )


def _retention(settings: Settings) -> Iterator[SettingProblem]:
    if 0 < settings.run_retention_days < RUN_DAYS_MIN:
        yield SettingProblem(
            "RUN_RETENTION_DAYS",
            f"is {settings.run_retention_days}: monthly budgets could not see what the month's first runs cost",
            f"Set {RUN_DAYS_MIN} or more, or 0 to keep runs.",
        )
    if 0 < settings.email_retention_days < settings.email_content_retention_days:
        yield SettingProblem(
            "EMAIL_CONTENT_RETENTION_DAYS",
            f"is {settings.email_content_retention_days}, but the mails themselves are deleted after "
            f"{settings.email_retention_days} days (EMAIL_RETENTION_DAYS)",
            "Set it no higher than that.",
        )


# Each with the beginnings of the fields that it reads, and whether it holds for commands that serve nothing too.
_RULES: tuple[tuple[Callable[[Settings], Iterator[SettingProblem]], tuple[str, ...], bool], ...] = (
    (check_redis, ("redis_", "use_job_queue"), True),
    (_mail_login, ("smtp_user", "smtp_password"), True),
    (_queues, ("gateway_queues", "gateway_profiles"), True),
    (_profiles, ("gateway_profiles",), True),
    (_callers, ("gateway_role", "auth_mode", "host", "jwt_"), False),
    (_role, ("gateway_role", "disable_"), False),
    (_mail, ("gateway_role", "gateway_queues", "disable_", "smtp_host"), False),
    (_mail_authorities, ("smtp_ca_bundle",), False),
    (_redis_authorities, ("redis_ca_bundle",), False),
    (_host, ("host",), False),
    (_github, ("github_",), False),
    (_agents, ("agents_dir",), False),
    (_retention, ("run_retention_", "email_retention_", "email_content_"), False),
)
