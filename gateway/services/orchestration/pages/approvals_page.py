"""``/admin/queues/approvals``: what agents want to do, and people's decisions on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from gateway.access import Principal
from gateway.masking import CONTENT_MASK, pretty
from gateway.pages import Asked, Done, View
from gateway.services.orchestration.action_routes import COMMENT_MAX
from gateway.services.orchestration.action_store import Action
from gateway.services.orchestration.actions import OPEN, ActionStatus
from gateway.services.orchestration.approvals import Approvals, no_action, without_content
from gateway.services.orchestration.pages.badges import Badge, badge_of_action
from gateway.services.orchestration.pages.queries import address, id_in, word_in, wrong
from gateway.services.orchestration.pages.store import PageStore, ShownAction
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE

QUERY: Final = ("show", "cursor")
SHOWN: Final = 25


class Shelf(StrEnum):
    WAITING = "waiting"
    DECIDED = "decided"


class ActionCard(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``arguments``: exactly what would be done, as JSON for reading. ``proposed``: what the agent asked for, where a
    person changed it."""

    action: Action
    project: str
    badge: Badge
    arguments: str
    proposed: str | None
    outcome: str | None


class ApprovalsPage:
    def __init__(self, store: PageStore, approvals: Approvals) -> None:
        self._store = store
        self._approvals = approvals

    async def load(self, asked: Asked) -> View:
        """Raises Problem 400."""
        shelf = word_in(asked.query, "show", Shelf) or Shelf.WAITING
        cursor = id_in(asked.query, "cursor")
        list_of = self._store.pending if shelf is Shelf.WAITING else self._store.decided
        found = await list_of(cursor, SHOWN + 1)
        following = found[SHOWN - 1].action.id if len(found) > SHOWN else None
        return View(
            template="approvals.html",
            title="Approvals",
            data={
                "actions": _cards(found[:SHOWN], asked.user),
                "following": None if following is None else address(asked.query, ("show",), cursor=following),
            },
            extra={"shelf": shelf, "shelves": list(Shelf), "may_read": asked.user.reads_content},
            topics=[f"queue:{ORCHESTRATION_QUEUE}"],
        )

    async def one(self, asked: Asked) -> View:
        """Raises Problem 404."""
        found = await self._approvals.get(asked.user, _action_id(asked.path))
        names = await self._store.names_of([found.project_id])
        (card,) = _cards([ShownAction(found, names.get(found.project_id, ""))], asked.user)
        waits = found.status is ActionStatus.PENDING
        return View(
            template="approval.html",
            title=f"Approval {str(found.id)[:8]}",
            data={"card": card},
            extra={"may_read": asked.user.reads_content, "waits": waits},
            topics=[f"project:{found.project_id}"] if found.status in OPEN else [],
        )

    async def approve(self, asked: Asked) -> Done:
        """Raises Problem 404, 403, 409 saying who decided and when, 422 for arguments that do not fit."""
        action_id = _action_id(asked.path)
        edited = await self._edited(asked, action_id)
        await self._approvals.approve(asked.user, action_id, _comment(asked.form), edited)
        return Done(path=f"/approvals/{action_id}", notice="approve", change=None)  # it is in the audit already

    async def reject(self, asked: Asked) -> Done:
        """Raises Problem as ``approve`` does."""
        action_id = _action_id(asked.path)
        await self._approvals.reject(asked.user, action_id, _comment(asked.form))
        return Done(path=f"/approvals/{action_id}", notice="reject", change=None)

    async def _edited(self, asked: Asked, action_id: UUID) -> Any:
        """None: what was asked for shall be done."""
        text = asked.form.get("arguments")
        if text is None:
            return None
        try:
            given = msgspec.json.decode(text.encode())
        except (msgspec.DecodeError, RecursionError) as error:
            raise wrong("arguments", f"is not JSON: {error}") from None
        return None if given == (await self._approvals.get(asked.user, action_id)).arguments else given


def _action_id(path: Mapping[str, str]) -> UUID:
    try:
        return UUID(path["action_id"])
    except ValueError:
        raise no_action() from None


def _comment(form: Mapping[str, str]) -> str | None:
    """Raises Problem 400."""
    comment = form.get("comment")
    if comment is not None and (len(comment) > COMMENT_MAX or "\x00" in comment):
        raise wrong("comment", f"must be at most {COMMENT_MAX} characters, none of them NUL")
    return comment


def _cards(found: Sequence[ShownAction], reader: Principal) -> list[ActionCard]:
    return [_card(action, project, reader.reads_content) for action, project in found]


def _card(action: Action, project: str, may_read: bool) -> ActionCard:
    shown = action if may_read else without_content(action)
    return ActionCard(
        action=shown,
        project=project,
        badge=badge_of_action(action.status),
        # Whole: nobody says yes to what is not shown; ``actions.py`` bounds how long it may be.
        arguments=pretty(action.arguments, None) if may_read else CONTENT_MASK,
        proposed=pretty(action.proposed, None) if may_read and action.proposed is not None else None,
        outcome=None if action.outcome is None else pretty(action.outcome),
    )
