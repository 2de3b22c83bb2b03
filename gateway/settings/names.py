"""Names that are no settings: probably typing errors, and then often the reason why another one is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches

from gateway.settings.model import Settings
from gateway.settings.problems import SettingProblem

NAMES = {name.upper(): name for name in Settings.model_fields}
KNOWN = frozenset({*NAMES, *(f"{name}_FILE" for name in NAMES)})
_PREFIXES = ("GATEWAY_", "REDIS_", "DATABASE_", "EMAIL_", "ORCHESTRATION_", "SMTP_", "JWT_", "REALTIME_")
_OF_CLIENTS = {"GATEWAY_TOKEN", "GATEWAY_URL"}  # read by the command line when it talks to a remote gateway
# A Kubernetes service named "redis" puts REDIS_SERVICE_HOST, REDIS_PORT=tcp://10.0.0.1:6379 and more into each pod.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP)|_PORT$")


def unknown_names(names: Iterable[str]) -> dict[str, str | None]:
    """Names that look like ours and are not, each with the setting that was probably meant."""
    found: dict[str, str | None] = {}
    for name in sorted(set(names) - KNOWN - _OF_CLIENTS):
        if _SERVICE_LINK.search(name):
            continue
        near = get_close_matches(name, sorted(KNOWN), n=1, cutoff=0.85)
        if near or name.startswith(_PREFIXES):
            found[name] = near[0] if near else None
    return found


def said_with_missing(problems: Iterable[SettingProblem], unknown: dict[str, str | None]) -> list[SettingProblem]:
    """The problems, a missing setting's with the name that was given instead; those names are taken out of
    ``unknown``."""
    given_for = {near.removesuffix("_FILE"): (name, near) for name, near in unknown.items() if near is not None}
    told = []
    for problem in problems:
        if problem.seen.startswith("is not set") and problem.name in given_for:
            name, near = given_for[problem.name]
            unknown.pop(name, None)
            rest = problem.seen.removeprefix("is not set")
            told.append(replace(problem, seen=f"is not set{rest}. {name} is no setting: did you mean {near}?"))
        else:
            told.append(problem)
    return told


def warnings_of(unknown: Mapping[str, str | None]) -> list[str]:
    return [
        f"{name} is not a setting." + (f" Did you mean {near}?" if near is not None else "")
        for name, near in unknown.items()
    ]
