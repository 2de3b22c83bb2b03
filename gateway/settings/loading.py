"""From environment, secret files and ``.env`` to ``Settings``. Every problem of one start is reported together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic import ValidationError

from gateway.settings.model import Settings
from gateway.settings.problems import SECRET_HINT, SettingProblem, SettingsError
from gateway.settings.rules import check_together, weak_secret
from gateway.settings.show import MASK, masked_url, shown

SECRETS_DIR = Path("/run/secrets")
_PREFIXES = ("GATEWAY_", "REDIS_", "DATABASE_", "EMAIL_", "ORCHESTRATION_", "SMTP_", "JWT_")
_OF_CLIENTS = {"GATEWAY_TOKEN", "GATEWAY_URL"}  # read by the command line when it talks to a remote gateway
# A Kubernetes service named "redis" puts REDIS_SERVICE_HOST, REDIS_PORT=tcp://10.0.0.1:6379 and more into each pod.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP)|_PORT$")
_NAMES = {name.upper(): name for name in Settings.model_fields}
_EXAMPLES = {"DATABASE_URL": "Example: DATABASE_URL=postgresql://gateway:password@localhost:5432/gateway"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """``sources``: for each field not at its default, where it came from (``environment``, a file, ``.env:3``)."""

    settings: Settings
    sources: dict[str, str]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Gathered:
    values: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[SettingProblem] = field(default_factory=list)

    def put(self, name: str, value: str, source: str) -> None:
        if value != "":  # compose files and shells pass on unset variables as empty ones
            self.values[_NAMES[name]] = value
            self.sources[_NAMES[name]] = source


def load(
    environ: Mapping[str, str],
    secrets_dir: Path = SECRETS_DIR,
    *,
    env_file: Path | None = None,
    serving: bool = True,
) -> Loaded:
    """Read all settings. The later wins: default, ``env_file``, ``environ``, ``secrets_dir/X``, the file of ``X_FILE``.

    ``serving`` False leaves out what only a serving process needs (callers' secrets, the mail server): for ``migrate``
    and the like. Raises SettingsError with all problems.
    """
    found = _gather(environ, secrets_dir, env_file)
    problems = found.problems
    warnings = [*_unknown_names(environ)]
    settings = _validated(found, problems)
    weak = _weak_secrets(found)
    if found.values.get("gateway_env", "").strip().lower() == "development":
        warnings += [f"{problem.name} {problem.seen}. {problem.fix}" for problem in weak]
    elif serving:
        problems += weak
    if settings is not None:
        problems += check_together(settings, serving=serving)
    if problems or settings is None:
        raise SettingsError(problems)
    return Loaded(settings, found.sources, tuple(warnings))


def _gather(environ: Mapping[str, str], secrets_dir: Path, env_file: Path | None) -> _Gathered:
    found = _Gathered()
    if env_file is not None and env_file.is_file():
        _read_env_file(env_file, found)
    for name in _NAMES:
        value = environ.get(name, "")
        if not (name.endswith("_PORT") and value.startswith(("tcp://", "udp://"))):
            found.put(name, value, "environment")
        for candidate in (secrets_dir / name, secrets_dir / name.lower()):
            if candidate.is_file():
                _read_secret(name, name, candidate, found)
                break
        if pointed := environ.get(f"{name}_FILE"):
            _read_secret(name, f"{name}_FILE", Path(pointed), found)
    return found


def _read_env_file(path: Path, found: _Gathered) -> None:
    for binding in parse_stream(StringIO(path.read_text(encoding="utf-8"))):
        if binding.error:
            problem = SettingProblem(
                f"{path.name}:{binding.original.line}", "is not NAME=value", "Correct or remove the line."
            )
            found.problems.append(problem)
        elif binding.key in _NAMES:
            found.put(binding.key, binding.value or "", f"{path.name}:{binding.original.line}")


def _read_secret(name: str, told_by: str, path: Path, found: _Gathered) -> None:
    try:
        value = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        found.problems.append(
            SettingProblem(told_by, f"names {path}, which cannot be read ({why})", "Mount the file, or unset this.")
        )
        return
    if value == "":
        found.problems.append(
            SettingProblem(told_by, f"names {path}, which is empty", "Write the value into the file.")
        )
        return
    found.put(name, value, f"file {path}")


def _validated(found: _Gathered, problems: list[SettingProblem]) -> Settings | None:
    try:
        return Settings.model_validate(found.values)
    except ValidationError as error:
        broken = {name for problem in problems for name in (problem.name, problem.name.removesuffix("_FILE"))}
        for detail in error.errors(include_url=False):
            problem = _problem_of(str(detail["loc"][0]), dict(detail), found.values)
            if problem.name not in broken:  # its file could not be read: one problem, said once
                problems.append(problem)
        return None


def _problem_of(field_name: str, detail: dict[str, Any], values: Mapping[str, str]) -> SettingProblem:
    name = field_name.upper()
    info = Settings.model_fields[field_name]
    default = None if info.is_required() else shown(info.default)
    fix = _EXAMPLES.get(name) or (f"Default is {default}." if default else f"{info.description}")
    if detail["type"] == "missing":
        return SettingProblem(name, "is not set", fix)
    seen = _seen(field_name, values[field_name])
    context = detail.get("ctx", {})
    match detail["type"]:
        case "int_parsing" | "int_from_float":
            said = "is not a whole number"
        case "float_parsing":
            said = "is not a number"
        case "bool_parsing":
            said = "is not true or false"
        case "greater_than_equal":
            said = f"is less than {context['ge']}"
        case "greater_than":
            said = f"is not more than {context['gt']}"
        case "less_than_equal":
            said = f"is more than {context['le']}"
        case "literal_error" | "enum":
            said = f"is not one of {context['expected'].replace(chr(39), '')}"
        case "value_error":
            said = str(context["error"])
        case _:
            said = str(detail["msg"])
    return SettingProblem(name, f'"{seen}" {said}', fix)


def _seen(field_name: str, value: str) -> str:
    info = Settings.model_fields[field_name]
    # repr=False marks addresses that may hold a password: masked in part if they are addresses, else as a whole.
    secret = "SecretStr" in str(info.annotation) or (info.repr is False and "://" not in value)
    return MASK if secret else masked_url(value)


def _weak_secrets(found: _Gathered) -> list[SettingProblem]:
    value = found.values.get("jwt_secret")
    why = weak_secret(value) if value is not None else None
    return [SettingProblem("JWT_SECRET", why, SECRET_HINT)] if why is not None else []


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    known = {*_NAMES, *(f"{name}_FILE" for name in _NAMES)}
    warnings = []
    for name in sorted(set(environ) - known - _OF_CLIENTS):
        if _SERVICE_LINK.search(name):
            continue
        near = get_close_matches(name, known, n=1, cutoff=0.85)
        if near:
            warnings.append(f"{name} is not a setting. Did you mean {near[0]}?")
        elif name.startswith(_PREFIXES):
            warnings.append(f"{name} is not a setting.")
    return warnings
