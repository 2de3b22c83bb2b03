"""Shapes of the API of projects, and reading what callers sent. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from gateway.problem import Problem
from gateway.services.orchestration.budgets import MICROS_PER_CENT, BudgetState, Spending, cents
from gateway.services.orchestration.github import GitHubRefused, check_repository
from gateway.services.orchestration.projects import MemberRole, NewProject, Project, ProjectFilter

FACTS_MAX_BYTES: Final = 16_000  # as JSON: every agent of every run reads them
AGENTS_MAX: Final = 200  # in one choice
PRINCIPAL_MAX: Final = 255
LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 100

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Repository = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,38}/[A-Za-z0-9._-]{1,100}$")]
_Cents = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
_Slugs = Annotated[list[str], msgspec.Meta(max_length=AGENTS_MAX)]


class NewProjectBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``repository``: owner/name on GitHub. ``facts``: what every agent is told, at most 16,000 bytes as JSON.
    ``monthlyBudgetCents``: US cents for a calendar month in UTC; without it there is no bound."""

    name: _Name
    repository: _Repository | None = None
    facts: dict[str, Any] = {}
    monthly_budget_cents: _Cents | None = None


class ProjectPatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What is named is changed; ``facts`` as a whole. ``archived`` false opens an archived project again."""

    name: _Name | UnsetType = UNSET
    repository: _Repository | UnsetType | None = UNSET
    facts: dict[str, Any] | UnsetType = UNSET
    monthly_budget_cents: _Cents | UnsetType | None = UNSET
    archived: bool | UnsetType = UNSET


class MemberBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``role``: owners change the project and its members; members see it and start runs."""

    role: MemberRole = MemberRole.MEMBER


class ChoiceBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``enabled``: slugs of the agents that batches run; null takes the choice back, so that all run."""

    enabled: _Slugs | None


class BudgetView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The present month in US cents. ``warning``: 80 % are spent; ``exhausted``: no run starts before ``resetsAt``."""

    monthly_cents: float | None
    spent_cents: float
    warning: bool
    exhausted: bool
    resets_at: datetime


class ProjectView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``role``: the caller's; null if he is no member."""

    id: UUID
    name: str
    repository: str | None
    facts: dict[str, Any]
    budget: BudgetView
    role: MemberRole | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


def new_project(body: NewProjectBody) -> NewProject:
    """Raises Problem 400."""
    return NewProject(
        name=_name(body.name),
        repository=_repository(body.repository),
        facts=_facts(body.facts),
        monthly_budget_micros=_micros(body.monthly_budget_cents),
    )


def project_changes(body: ProjectPatch) -> dict[str, Any]:
    """What is named, under the names of ``Projects.change``. Raises Problem 400."""
    given = {name: value for name in ProjectPatch.__struct_fields__ if (value := getattr(body, name)) is not UNSET}
    if not given:
        raise wrong("body", f"names nothing to change; there are {', '.join(ProjectPatch.__struct_encode_fields__)}")
    checked: dict[str, Callable[[Any], Any]] = {"name": _name, "repository": _repository, "facts": _facts}
    changes = {name: checked[name](value) if name in checked else value for name, value in given.items()}
    if "monthly_budget_cents" in changes:
        changes["monthly_budget_micros"] = _micros(changes.pop("monthly_budget_cents"))
    return changes


def project_view(project: Project, spending: Spending) -> ProjectView:
    budget = spending.budget_micros
    return ProjectView(
        **{name: getattr(project, name) for name in _SAME},
        budget=BudgetView(
            monthly_cents=None if budget is None else cents(budget),
            spent_cents=cents(spending.spent_micros),
            warning=spending.state in (BudgetState.WARNING, BudgetState.EXHAUSTED),
            exhausted=spending.state is BudgetState.EXHAUSTED,
            resets_at=spending.resets_at,
        ),
    )


_SAME: Final = frozenset(ProjectView.__struct_fields__) & frozenset(Project.__struct_fields__)


def read_page(query: Mapping[str, str], member: str | None) -> tuple[ProjectFilter, int]:
    """What to list, and the most rows. Raises Problem 400 naming the parameter."""
    limit, archived, cursor = (
        query.get("limit", str(LIMIT_DEFAULT)),
        query.get("archived", "false"),
        query.get("cursor"),
    )
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 3 and 1 <= int(limit) <= LIMIT_MAX):
        raise wrong("limit", f"must be a whole number from 1 to {LIMIT_MAX}")
    if archived not in ("true", "false"):
        raise wrong("archived", "must be true or false")
    try:
        before = None if cursor is None else UUID(cursor)
    except ValueError:
        raise wrong("cursor", "is not page.nextCursor of an earlier answer") from None
    return ProjectFilter(member=member, archived=archived == "true", before=before), int(limit)


def read_principal(text: str) -> str:
    """Raises Problem 400: a token's subject or the id of an API key is short, and of one line."""
    if len(text) > PRINCIPAL_MAX or not text.isprintable() or text != text.strip():
        raise wrong("principal", f"must be a token's subject or a key's id: 1 to {PRINCIPAL_MAX} printable characters")
    return text


def wrong(field: str, message: str) -> Problem:
    return Problem(400, "validation_error", f"{field}: {message}", details=[{"field": field, "message": message}])


def _name(text: str) -> str:
    if not text.strip():
        raise wrong("name", "must not be empty")
    return text.strip()


def _repository(text: str | None) -> str | None:
    try:
        return None if text is None else check_repository(text)
    except GitHubRefused as error:
        raise wrong("repository", str(error)) from None


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    size = len(msgspec.json.encode(facts))
    if size > FACTS_MAX_BYTES:
        raise wrong(
            "facts", f"have {size} bytes as JSON, at most {FACTS_MAX_BYTES} are allowed: every agent reads them"
        )
    return facts


def _micros(budget_cents: int | None) -> int | None:
    return None if budget_cents is None else budget_cents * MICROS_PER_CENT
