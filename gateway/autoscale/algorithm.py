"""The arithmetic of Kubernetes' HorizontalPodAutoscaler (autoscaling/v2), after its documentation. No clock, no I/O.

One pass: each metric proposes a number, the largest wins; a metric without an answer never shrinks anything; then
``behavior`` slows changes down. Quantities are thousandths, as Kubernetes carries them. Times are seconds on one clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

TOLERANCE: Final = 0.1
_UNLIMITED_WINDOW_S: Final = 300.0  # of scaling down where there is no behavior
_SCALE_UP_FACTOR: Final = 2
_SCALE_UP_AT_LEAST: Final = 4


class Policy(msgspec.Struct, frozen=True):
    """At most ``value`` pods, or per cent of them, in ``period_s`` seconds."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: float


class Rules(msgspec.Struct, frozen=True):
    """One direction. Of several policies ``select`` takes the largest change (Max), the smallest (Min), or none."""

    window_s: float
    policies: tuple[Policy, ...]
    select: Literal["Max", "Min", "Disabled"] = "Max"


# What Kubernetes fills in where ``behavior`` leaves a side out.
UP: Final = Rules(0.0, (Policy("Pods", 4, 15.0), Policy("Percent", 100, 15.0)))
DOWN: Final = Rules(300.0, (Policy("Percent", 100, 15.0),))


class Behavior(msgspec.Struct, frozen=True):
    up: Rules = UP
    down: Rules = DOWN

    def faster(self, factor: float) -> Behavior:
        """The same with all times divided, for trials."""
        return Behavior(_faster(self.up, factor), _faster(self.down, factor))


def _faster(rules: Rules, factor: float) -> Rules:
    policies = tuple(Policy(one.kind, one.value, one.period_s / factor) for one in rules.policies)
    return Rules(rules.window_s / factor, policies, rules.select)


class Sample(msgspec.Struct, frozen=True):
    """A pod's value; None: it was not scraped. ``pending``: it does not run yet. Ending pods are left out before."""

    value: float | None
    pending: bool = False


def average(samples: Sequence[Sample], target: float, current: int, tolerance: float = TOLERANCE) -> int | None:
    """A metric of type Pods with an AverageValue; None: no pod was scraped.

    Pods without a sample count as if they wanted no change: as idle on the way up, as on target on the way down.
    """
    goal = _thousandths(target)
    known = [_thousandths(one.value) for one in samples if one.value is not None and not one.pending]
    pending = sum(1 for one in samples if one.pending)
    missing = sum(1 for one in samples if one.value is None and not one.pending)
    if not known:
        return None
    ratio = sum(known) // len(known) / goal
    if not missing and not (ratio > 1 and pending):
        return current if _near(ratio, tolerance) else math.ceil(ratio * len(known))
    idle = missing + pending if ratio > 1 else 0
    on_target = missing if ratio < 1 else 0
    counted = len(known) + idle + on_target
    again = (sum(known) + on_target * goal) // counted / goal
    if _near(again, tolerance) or (ratio < 1) != (again < 1):
        return current
    wanted = math.ceil(again * counted)
    return current if (again < 1 and wanted > current) or (again > 1 and wanted < current) else wanted


def external(total: float, target: float, current: int, tolerance: float = TOLERANCE) -> int:
    """A metric of type External or Object with an AverageValue: ``ceil(total / target)``, whatever runs now."""
    usage, goal = _thousandths(total), _thousandths(target)
    if current and _near(usage / (goal * current), tolerance):
        return current
    return math.ceil(usage / goal)


def _near(ratio: float, tolerance: float) -> bool:
    return 1 - tolerance <= ratio <= 1 + tolerance


def _thousandths(value: float) -> int:
    return int(value * 1000)


class Scaler:
    """Remembers what was recommended and what was changed. ``behavior`` None: as objects without that section."""

    def __init__(self, minimum: int, maximum: int, behavior: Behavior | None = None) -> None:
        if not 1 <= minimum <= maximum:
            raise ValueError(f"minimum {minimum} and maximum {maximum}: 1 <= minimum <= maximum is demanded")
        self.minimum = minimum
        self.maximum = maximum
        self._behavior = behavior
        self._wishes: list[tuple[float, int]] = []
        self._changes: list[tuple[float, int]] = []

    def decide(self, now: float, current: int, proposals: Iterable[int | None]) -> int:
        """How many there should be now. ``current``: how many were last asked for; ``proposals``: one of each metric,
        None where it has no answer. The caller makes it so, or calls ``not_made``."""
        if not self._wishes:
            self._wishes.append((now, current))
        wanted = self._within_limits(now, current, proposals)
        if wanted != current:
            self._changes.append((now, wanted - current))
        return wanted

    def not_made(self) -> None:
        """The change that was decided last could not be made: it limits no further one."""
        self._changes.pop()

    def _within_limits(self, now: float, current: int, proposals: Iterable[int | None]) -> int:
        if current == 0:
            return 0  # somebody turned it off
        if not self.minimum <= current <= self.maximum:
            return min(max(current, self.minimum), self.maximum)
        wish = self._wish(current, list(proposals))
        if wish is None:
            return current
        self._wishes.append((now, wish))
        return self._unguided(now, current) if self._behavior is None else self._guided(now, current, self._behavior)

    @staticmethod
    def _wish(current: int, proposals: list[int | None]) -> int | None:
        known = [one for one in proposals if one is not None]
        if not known or (len(known) < len(proposals) and max(known) < current):
            return None
        return max(known)

    def _unguided(self, now: float, current: int) -> int:
        wanted = max(self._since(now, _UNLIMITED_WINDOW_S))
        limit = max(_SCALE_UP_FACTOR * current, _SCALE_UP_AT_LEAST)
        self._forget(now, _UNLIMITED_WINDOW_S, 0.0)
        return max(self.minimum, min(wanted, self.maximum, limit))

    def _guided(self, now: float, current: int, behavior: Behavior) -> int:
        up, down = behavior.up, behavior.down
        wanted = max(current, min(self._since(now, up.window_s)))
        wanted = min(wanted, max(self._since(now, down.window_s)))
        if wanted > current:
            wanted = min(wanted, self.maximum, max(current, self._up_limit(now, current, up)))
        elif wanted < current:
            wanted = max(wanted, self.minimum, min(current, self._down_limit(now, current, down)))
        longest = max(policy.period_s for policy in (*up.policies, *down.policies))
        self._forget(now, max(up.window_s, down.window_s), longest)
        return wanted

    def _since(self, now: float, window_s: float) -> list[int]:
        """This wish, and those that are younger than the window."""
        return [self._wishes[-1][1], *(wish for at, wish in self._wishes[:-1] if at > now - window_s)]

    def _up_limit(self, now: float, current: int, rules: Rules) -> int:
        if rules.select == "Disabled":
            return current
        limits = []
        for policy in rules.policies:
            start = self._start(now, current, policy)
            more = start + policy.value if policy.kind == "Pods" else math.ceil(start * (100 + policy.value) / 100)
            limits.append(more)
        return max(limits) if rules.select == "Max" else min(limits)

    def _down_limit(self, now: float, current: int, rules: Rules) -> int:
        if rules.select == "Disabled":
            return current
        limits = []
        for policy in rules.policies:
            start = self._start(now, current, policy)
            less = start - policy.value if policy.kind == "Pods" else int(start * (100 - policy.value) / 100)
            limits.append(less)
        return min(limits) if rules.select == "Max" else max(limits)

    def _start(self, now: float, current: int, policy: Policy) -> int:
        """How many there were when the policy's period began."""
        return current - sum(change for at, change in self._changes if at > now - policy.period_s)

    def _forget(self, now: float, window_s: float, period_s: float) -> None:
        self._wishes = [*(one for one in self._wishes[:-1] if one[0] > now - window_s), self._wishes[-1]]
        self._changes = [one for one in self._changes if one[0] > now - period_s]


def behavior_of(spec: Mapping[str, Any]) -> Behavior | None:
    """``spec.behavior`` of an autoscaling/v2 object. Raises KeyError for a policy without one of its fields."""
    given = spec.get("behavior")
    if given is None:
        return None
    return Behavior(_rules(given.get("scaleUp"), UP), _rules(given.get("scaleDown"), DOWN))


def _rules(given: Mapping[str, Any] | None, default: Rules) -> Rules:
    if given is None:
        return default
    policies = tuple(Policy(one["type"], one["value"], one["periodSeconds"]) for one in given.get("policies", ()))
    window = given.get("stabilizationWindowSeconds", default.window_s)
    return Rules(window, policies or default.policies, given.get("selectPolicy", "Max"))
