"""The stages of a research: what each iteration does, and what comes after it. Pure.

plan -> literature_search, one question at a time -> analysis -> (once more, for what it found missing) -> writing ->
done
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

QUESTIONS_MAX: Final = 6  # of one plan, and of one analysis
_QUESTION_MAX: Final = 500  # characters
_ROUNDS_MAX: Final = 1  # analyses that may ask for more
_MICROS_PER_CENT: Final = 10_000
_LAST: Final = 2  # iterations that are kept for analysis and writing


class Stage(StrEnum):
    PLAN = "plan"
    LITERATURE_SEARCH = "literature_search"
    ANALYSIS = "analysis"
    WRITING = "writing"
    DONE = "done"


class Research(msgspec.Struct, frozen=True, kw_only=True):
    """``stage``: what the next iteration does; ``iteration``: how many are done; ``questions``: those that are left;
    ``round``: how many analyses asked for more. ``budget_micros``: millionths of a US dollar, None is any."""

    id: UUID
    stage: Stage
    percent: int
    iteration: int
    round: int
    max_iterations: int
    budget_micros: int | None
    questions: list[str]
    plan: dict[str, Any] | None

    @property
    def subject(self) -> str | None:
        """The question of the next iteration, if that is a search."""
        return self.questions[0] if self.stage is Stage.LITERATURE_SEARCH and self.questions else None

    def used_up(self, cost_micros: int) -> str | None:
        """Why no further iteration may begin after so much was spent; None: one may."""
        if self.budget_micros is None or cost_micros < self.budget_micros:
            return None
        return f"its budget of {self.budget_micros / _MICROS_PER_CENT:g} US cents is used up; notes are kept"


def after(research: Research, output: dict[str, Any], question: str) -> Research:
    """How it stands after its iteration brought ``output``. ``question``: the user's; what is searched for when a plan
    names nothing."""
    done = msgspec.structs.replace(research, iteration=research.iteration + 1)
    match research.stage:
        case Stage.PLAN:
            asked = _questions(output.get("questions")) or [question[:_QUESTION_MAX]]
            following = _search(done, asked, plan=output)
        case Stage.LITERATURE_SEARCH:
            following = _search(done, research.questions[1:])
        case Stage.ANALYSIS if research.round < _ROUNDS_MAX:
            following = _search(done, _questions(output.get("furtherQuestions")))
            if following.stage is Stage.LITERATURE_SEARCH:
                following = msgspec.structs.replace(following, round=research.round + 1)
            else:
                following = msgspec.structs.replace(done, stage=Stage.WRITING)
        case Stage.ANALYSIS:
            following = msgspec.structs.replace(done, stage=Stage.WRITING)
        case _:
            following = msgspec.structs.replace(done, stage=Stage.DONE)
    return msgspec.structs.replace(following, percent=max(research.percent, _percent(following)))


def _search(research: Research, questions: list[str], plan: dict[str, Any] | None = None) -> Research:
    """Search for as many of the questions as there are iterations left for; with none, analyse."""
    room = max(0, research.max_iterations - research.iteration - _LAST)
    asked = questions[:room]
    stage = Stage.LITERATURE_SEARCH if asked else Stage.ANALYSIS
    return msgspec.structs.replace(research, stage=stage, questions=asked, plan=plan or research.plan)


def _questions(found: Any) -> list[str]:
    texts = [each.strip()[:_QUESTION_MAX] for each in found if isinstance(each, str)] if isinstance(found, list) else []
    return [text for text in dict.fromkeys(texts) if text][:QUESTIONS_MAX]


def _percent(research: Research) -> int:
    match research.stage:
        case Stage.PLAN:
            return 0
        case Stage.LITERATURE_SEARCH:
            searched = research.iteration - 1 - research.round
            return 10 + round(60 * searched / (searched + len(research.questions)))
        case Stage.ANALYSIS:
            return 75
        case Stage.WRITING:
            return 85
        case _:
            return 100
