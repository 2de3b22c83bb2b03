"""From environment, secret files and ``.env`` to ``Settings``. Every problem of one start is reported together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic import ValidationError

from gateway.settings.model import Settings
from gateway.settings.names import KNOWN, NAMES, said_with_missing, unknown_names, warnings_of
from gateway.settings.problems import SECRET_HINT, SettingProblem, SettingsError
from gateway.settings.rules import check_together, weak_secret
from gateway.settings.show import raw_rows, shown, shown_raw

SECRETS_DIR = Path("/run/secrets")
_NO_DATABASE = "postgresql://not-set"  # stands in while the other settings are judged; never connected to
_GUESSED_AT = ("jwt_secret", "cron_secret", "trigger_secret_key")  # secrets that everybody who reaches us may try
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
    names: set[str] = field(default_factory=set)  # all that were given, ours or not

    def put(self, name: str, value: str, source: str) -> None:
        if not _is_text(value):
            self.problems.append(SettingProblem(name, "is not UTF-8 text", "Write it in UTF-8."))
        elif value != "":  # compose files and shells pass on unset variables as empty ones
            self.values[NAMES[name]] = value
            self.sources[NAMES[name]] = source


def load(
    environ: Mapping[str, str],
    secrets_dir: Path = SECRETS_DIR,
    *,
    env_file: Path | None = None,
    serving: bool = True,
    database: bool = True,
) -> Loaded:
    """Read all settings. The later wins: default, ``env_file``, ``environ``, ``secrets_dir/X``, the file of ``X_FILE``.

    ``serving`` False leaves out what only a serving process needs (callers' secrets, the mail server): for ``migrate``
    and the like. ``database`` False: DATABASE_URL may be missing or wrong, nothing may connect to it. Raises
    SettingsError with all problems.
    """
    found = _gather(environ, secrets_dir, env_file)
    settings, broken = _validated(found)
    unknown = unknown_names(found.names)
    problems, notes = found.problems, list[str]()
    weak = _weak_secrets(found)
    if found.values.get("gateway_env", "").strip().lower() == "development":
        notes = [f"{problem.name} {problem.seen}. {problem.fix}" for problem in weak]
    elif serving:
        problems += weak
    problems += check_together(settings, broken, serving=serving)
    if not database:
        problems = [problem for problem in problems if problem.name.removesuffix("_FILE") != "DATABASE_URL"]
    problems = said_with_missing(problems, unknown)
    warnings = (*warnings_of(unknown), *notes)
    if problems:
        seen = {problem.name.removesuffix("_FILE"): problem.seen for problem in reversed(problems)}
        raise SettingsError(problems, warnings, raw_rows(found.values, found.sources, seen))
    return Loaded(settings, found.sources, warnings)


def _gather(environ: Mapping[str, str], secrets_dir: Path, env_file: Path | None) -> _Gathered:
    found = _Gathered(names=set(environ))
    if env_file is not None and env_file.is_file():
        _read_env_file(env_file, found)
    for name in NAMES:
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
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows put a mark before the first name
    except (OSError, UnicodeDecodeError) as error:
        problem = SettingProblem(
            path.name, f"cannot be read ({_reason(error)})", "Save it as UTF-8 text, or remove it."
        )
        found.problems.append(problem)
        return
    files: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        place = f"{path.name}:{binding.original.line}"
        if binding.error:
            found.problems.append(SettingProblem(place, "is not NAME=value", "Correct or remove the line."))
        elif binding.key is not None:
            found.names.add(binding.key)
            if binding.key in NAMES:
                found.put(binding.key, binding.value or "", place)
            elif binding.key in KNOWN and binding.value:
                files[binding.key] = binding.value
    for name, pointed in files.items():
        _read_secret(name.removesuffix("_FILE"), name, Path(pointed), found)


def _read_secret(name: str, told_by: str, path: Path, found: _Gathered) -> None:
    try:
        value = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        seen = f"names {path}, which cannot be read ({_reason(error)})"
        found.problems.append(SettingProblem(told_by, seen, "Mount the file, or unset this."))
        return
    if value == "":
        found.problems.append(
            SettingProblem(told_by, f"names {path}, which is empty", "Write the value into the file.")
        )
        return
    found.put(name, value, f"file {path}")


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else "not UTF-8 text"


def _is_text(value: str) -> bool:
    """False for what Python makes of bytes in the environment that are no text (PEP 383)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _validated(found: _Gathered) -> tuple[Settings, frozenset[str]]:
    """The settings, and the fields that are wrong: those stand at their default, so that the others can be judged."""
    broken = {NAMES[name] for p in found.problems for name in (p.name, p.name.removesuffix("_FILE")) if name in NAMES}
    try:
        return Settings.model_validate(found.values), frozenset(broken)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            name = str(detail["loc"][0])
            if name not in broken:  # its file could not be read: one problem, said once
                found.problems.append(_problem_of(name, dict(detail), found.values))
                broken.add(name)
    good = {name: value for name, value in found.values.items() if name not in broken}
    return Settings.model_validate({"database_url": _NO_DATABASE, **good}), frozenset(broken)


def _problem_of(field_name: str, detail: dict[str, Any], values: Mapping[str, str]) -> SettingProblem:
    name = field_name.upper()
    info = Settings.model_fields[field_name]
    default = None if info.is_required() else shown(info.default)
    fix = _EXAMPLES.get(name) or (f"Default is {default}." if default else f"{info.description}")
    if detail["type"] == "missing":
        return SettingProblem(name, "is not set", fix)
    seen = shown_raw(field_name, values[field_name])
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


def _weak_secrets(found: _Gathered) -> list[SettingProblem]:
    weak = {name: weak_secret(found.values[name]) for name in _GUESSED_AT if name in found.values}
    return [SettingProblem(name.upper(), why, SECRET_HINT) for name, why in weak.items() if why is not None]
