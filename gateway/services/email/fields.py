"""Reading a JSON object from a stranger: all problems are collected with their fields' names. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from gateway.problem import Problem

T = TypeVar("T")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
PROBLEMS_MAX = 50  # named in one answer: a body of megabytes can hold a hundred thousand
_SUGGESTIONS_MAX = 5  # for one object; each costs a comparison with every known field
_NAME_MAX = 64  # characters of an unknown name that are repeated
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


class FieldProblem(msgspec.Struct, frozen=True):
    """One thing wrong with one field. ``status`` and ``code`` say how the whole request ends if nothing is worse."""

    field: str
    message: str
    status: int = 400
    code: str = "validation_error"


class Problems:
    """What is wrong with one request so far: ``count`` in all, of which the first ``PROBLEMS_MAX`` are ``found``."""

    def __init__(self) -> None:
        self.found: list[FieldProblem] = []
        self.count = 0
        self._worst: FieldProblem | None = None

    def add(self, field: str, message: str, *, status: int = 400, code: str = "validation_error") -> None:
        problem = FieldProblem(field, message, status, code)
        self.count += 1
        if len(self.found) < PROBLEMS_MAX:
            self.found.append(problem)
        if self._worst is None or status < self._worst.status:
            self._worst = problem

    def worst(self) -> FieldProblem | None:
        """The problem that names the answer: a malformed field (400) before one whose meaning is refused (413, 422)."""
        return self._worst

    def lines(self) -> list[str]:
        """A sentence for each that was found, and how many more there are."""
        sentences = [f"{problem.field}: {problem.message}" for problem in self.found]
        return [*sentences, *([self._more] if self._more else [])]

    def details(self) -> list[dict[str, Any]]:
        details = [{"field": problem.field, "message": problem.message} for problem in self.found]
        return [*details, *([{"field": "", "message": self._more}] if self._more else [])]

    @property
    def _more(self) -> str:
        left_out = self.count - len(self.found)
        return f"and {left_out} more" if left_out else ""

    def summary(self) -> str:
        """One sentence: the problem if it is alone, else how many there are and the first of them."""
        worst = self.worst()
        if worst is None:
            return ""
        first = f"{worst.field}: {worst.message}" if worst.field else worst.message
        return first if self.count == 1 else f"{self.count} fields need attention, first {first}"

    def as_problem(self) -> Problem:
        """The answer: every problem is one of its details."""
        worst = self.worst() or FieldProblem("", "the request is not acceptable")
        return Problem(worst.status, worst.code, self.summary(), details=self.details())

    def raise_if_any(self) -> None:
        """Raises ``Problem``."""
        if self.found:
            raise self.as_problem()


def snake_case(name: str) -> str:
    return _HUMP.sub(lambda hump: "_" + hump.group(1).lower(), name)


def decode_json(body: bytes) -> Any:
    """Raises ``Problem`` 400 ``invalid_json`` when the body is not JSON (RFC 8259) or is nested too deeply to read."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        seen = "the body is empty" if not body.strip() else f"the body is not JSON: {error}"
    except RecursionError:
        seen = "the body is nested too deeply"
    raise Problem(400, "invalid_json", seen)


def json_type(value: object) -> str:
    """The JSON word for a decoded value, for messages."""
    words: list[tuple[type, str]] = [(bool, "a boolean"), (str, "a string"), (list, "an array"), (dict, "an object")]
    for python_type, word in words:
        if isinstance(value, python_type):
            return word
    return "null" if value is None else "a number"


def iso_instant(text: str) -> datetime:
    """An ISO 8601 date and time with a zone, in UTC. Raises ValueError with a sentence."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not an ISO 8601 date and time like 2026-12-25T09:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: end it with Z or an offset like +01:00")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is outside the years 1 to 9999") from None


class ObjectReader:
    """Reads one JSON object's fields by their camelCase names; the snake_case spelling of each is accepted too.

    ``known`` lists the fields that exist, ``unsupported`` those that exist elsewhere and are refused here, with the
    reason. Null counts as absent. ``path`` prefixes the names in problems ("attachments[0].").
    """

    def __init__(
        self,
        raw: Mapping[str, Any],
        problems: Problems,
        *,
        known: tuple[str, ...],
        unsupported: Mapping[str, str] | None = None,
        path: str = "",
    ) -> None:
        self.problems = problems
        self.path = path
        refused = unsupported or {}
        spelled = _spellings(known, tuple(refused))
        self._values: dict[str, Any] = {}
        unknown = 0
        for spelling, value in raw.items():
            name = spelled.get(spelling)
            if name is None:
                unknown += 1
                self.problem(spelling[:_NAME_MAX], _unknown(spelling, known, suggest=unknown <= _SUGGESTIONS_MAX))
            elif name in refused and value is not None:
                problems.add(path + name, refused[name], status=422, code="unsupported_field")
            elif name in self._values:
                self.problem(name, f"is given twice, as {name} and as {snake_case(name)}")
            elif value is not None:
                self._values[name] = value

    def problem(self, name: str, message: str) -> None:
        self.problems.add(self.path + name, message)

    def raw(self, name: str) -> Any:
        return self._values.get(name)

    def text(self, name: str, limit: int | None, *, single_line: bool = True) -> str | None:
        """A string of at most ``limit`` characters; on a single line no control characters, elsewhere no NUL (which
        PostgreSQL cannot keep)."""
        value = self._values.get(name)
        if value is None:
            return None
        if problem := text_problem(value, limit, single_line=single_line):
            self.problem(name, problem)
            return None
        return str(value)

    def parsed(self, name: str, parse: Callable[[str], T]) -> T | None:
        """A string through ``parse``, whose ValueError becomes the field's problem."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            self.problem(name, f"must be a string, not {json_type(value)}")
            return None
        try:
            return parse(value)
        except ValueError as error:
            self.problem(name, str(error))
            return None

    def whole_number(self, name: str, low: int, high: int) -> int | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, float):  # JSON has one kind of number: 5.0 is 5
            if not value.is_integer():
                self.problem(name, f"must be a whole number, not {value}")
                return None
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            self.problem(name, f"must be a whole number, not {json_type(value)}")
        elif not low <= value <= high:
            self.problem(name, f"must be {low} to {high}, not {str(value)[:20]}")
        else:
            return value
        return None

    def word(self, name: str, words: tuple[str, ...]) -> str | None:
        value = self._values.get(name)
        if value is None or (isinstance(value, str) and value in words):
            return value
        self.problem(name, f"must be one of {', '.join(words)}")
        return None

    def items(self, name: str, most: int, *, single: type | None = None) -> list[Any]:
        """The elements of an array; a lone value of type ``single`` counts as an array of one."""
        value = self._values.get(name)
        if value is None:
            return []
        if single is not None and isinstance(value, single):
            return [value]
        if not isinstance(value, list):
            self.problem(name, f"must be an array, not {json_type(value)}")
            return []
        if len(value) > most:
            self.problem(name, f"has {len(value)} entries, at most {most} are allowed")
            return []
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        value = self._values.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problem(name, f"must be an object, not {json_type(value)}")
            return {}
        return value


@lru_cache(maxsize=64)  # of names that stand in the code
def _spellings(known: tuple[str, ...], refused: tuple[str, ...]) -> Mapping[str, str]:
    return {spelling: name for name in (*known, *refused) for spelling in (name, snake_case(name))}


def text_problem(value: object, limit: int | None, *, single_line: bool) -> str | None:
    if not isinstance(value, str):
        return f"must be a string, not {json_type(value)}"
    if limit is not None and len(value) > limit:
        return f"has {len(value)} characters, at most {limit} are allowed"
    if single_line and _CONTROL.search(value):
        return "must not contain line breaks or other control characters"
    if "\x00" in value:
        return "must not contain NUL characters"
    return None


def _unknown(spelling: str, known: tuple[str, ...], *, suggest: bool) -> str:
    if not suggest or len(spelling) > _NAME_MAX:
        return "unknown field"
    near = difflib.get_close_matches(spelling, known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known fields are {', '.join(known)}"
    return f"unknown field; {hint}"
