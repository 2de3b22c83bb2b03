"""Kubernetes' autoscaler as arithmetic: tolerance, missing pods, windows, policies; and what the shipped objects do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.autoscale.algorithm import Behavior, Policy, Rules, Sample, Scaler, average, behavior_of, external
from gateway.jobs.demand import Work, demand_slots, rate_limited
from gateway.jobs.policy import QueuePolicy, RateLimit

K8S = Path(__file__).resolve().parents[2] / "k8s"
PASS_S = 15.0


def shipped() -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((K8S / "base" / "hpa.yaml").read_text("utf-8"))["spec"]
    return spec


def shipped_scaler() -> Scaler:
    spec = shipped()
    return Scaler(spec["minReplicas"], spec["maxReplicas"], behavior_of(spec))


def shares(waiting: float, replicas: int) -> list[Sample]:
    return [Sample(waiting / replicas)] * replicas


@pytest.mark.parametrize(("values", "current", "wanted"), [
    ([50, 50, 50], 3, 3),
    ([54, 54, 54], 3, 3),  # within a tenth
    ([46, 46, 46], 3, 3),
    ([56, 56, 56], 3, 4),
    ([100, 100, 100], 3, 6),
    ([20, 20, 20], 3, 2),
    ([0, 0, 0], 3, 0),
    ([100, None], 2, 2),  # the one that was not scraped counts as idle: (100 + 0) / 2 is the target
    ([200, None], 2, 4),
    ([10, None], 2, 2),  # and as on target on the way down: 60 of 100, rounded up
    ([10, 10, 10, None], 4, 2),
    ([None, None], 2, None),
])  # fmt: skip
def test_a_metric_of_pods(values: list[float | None], current: int, wanted: int | None) -> None:
    assert average([Sample(value) for value in values], 50, current) == wanted


def test_pods_that_start_do_not_multiply_the_wish() -> None:
    running, starting = [Sample(100.0)] * 3, [Sample(None, pending=True)] * 3
    assert average([*running, *starting], 50, 6) == 6


@pytest.mark.parametrize(
    ("total", "current", "wanted"), [(150, 3, 3), (164, 3, 3), (166, 3, 4), (600, 3, 12), (0, 3, 0)]
)
def test_an_external_metric_does_not_depend_on_what_runs(total: float, current: int, wanted: int) -> None:
    assert external(total, 50, current) == wanted
    if wanted and wanted != current:
        assert external(total, 50, current + 7) == math.ceil(total / 50)


def test_the_largest_wish_wins_and_a_metric_without_an_answer_never_shrinks() -> None:
    assert Scaler(1, 20, Behavior()).decide(0, 3, [2, 5]) == 5
    assert Scaler(1, 20, Behavior()).decide(0, 3, [None, 5]) == 5
    scaler = Scaler(1, 20, Behavior(down=Rules(0.0, (Policy("Percent", 100, 15.0),))))
    assert scaler.decide(0, 6, [None, 2]) == 6
    assert scaler.decide(15, 6, [None, None]) == 6
    assert scaler.decide(30, 6, [1, 2]) == 2


def test_outside_its_bounds_it_goes_to_the_bound_and_zero_is_off() -> None:
    assert Scaler(3, 20, Behavior()).decide(0, 1, [None]) == 3
    assert Scaler(3, 20, Behavior()).decide(0, 30, [25]) == 20
    assert Scaler(3, 20, Behavior()).decide(0, 0, [25]) == 0
    with pytest.raises(ValueError, match="minimum 4 and maximum 3"):
        Scaler(4, 3)


def test_the_first_step_differs_with_and_without_behavior() -> None:
    assert Scaler(1, 20).decide(0, 3, [20]) == 6
    assert Scaler(1, 20, Behavior()).decide(0, 3, [20]) == 7


def test_policies_count_what_changed_within_their_period() -> None:
    scaler = Scaler(1, 100, Behavior(up=Rules(0.0, (Policy("Pods", 2, 60.0),))))
    assert scaler.decide(0, 10, [50]) == 12
    assert scaler.decide(15, 12, [50]) == 12
    assert scaler.decide(59, 12, [50]) == 12
    assert scaler.decide(60, 12, [50]) == 14


def test_a_change_that_could_not_be_made_limits_no_other() -> None:
    scaler = Scaler(1, 100, Behavior(up=Rules(0.0, (Policy("Pods", 2, 60.0),))))
    assert scaler.decide(0, 10, [50]) == 12
    scaler.not_made()
    assert scaler.decide(15, 10, [50]) == 12


def test_the_smallest_change_or_none_can_be_chosen() -> None:
    policies = (Policy("Pods", 2, 15.0), Policy("Percent", 100, 15.0))
    assert Scaler(1, 100, Behavior(up=Rules(0.0, policies, "Min"))).decide(0, 10, [50]) == 12
    assert Scaler(1, 100, Behavior(up=Rules(0.0, policies, "Max"))).decide(0, 10, [50]) == 20
    assert Scaler(1, 100, Behavior(up=Rules(0.0, policies, "Disabled"))).decide(0, 10, [50]) == 10


def test_it_shrinks_to_the_highest_wish_of_the_window() -> None:
    scaler = shipped_scaler()
    replicas = scaler.decide(0, 3, [9])
    assert replicas == 9
    for at in range(15, 300, 15):
        assert scaler.decide(at, replicas, [3]) == 9
    assert scaler.decide(301, 9, [3]) == 6, "a quarter, or two: the larger change"
    assert scaler.decide(316, 6, [3]) == 6, "and no more in this minute"
    assert scaler.decide(362, 6, [3]) == 4
    assert scaler.decide(423, 4, [3]) == 3


def course(waiting: list[float], *, scaler: Scaler, whole: bool = False) -> list[int]:
    """Replicas pass by pass. ``whole``: each pod reports the whole queue, as the source's snippet would."""
    replicas, found = 3, []
    for number, depth in enumerate(waiting):
        samples = [Sample(depth)] * replicas if whole else shares(depth, replicas)
        replicas = scaler.decide(number * PASS_S, replicas, [average(samples, 50, replicas)])
        found.append(replicas)
    return found


def test_sixty_constant_jobs_stay_at_the_minimum() -> None:
    assert course([60] * 240, scaler=shipped_scaler()) == [3] * 240


def test_sixty_constant_jobs_run_away_where_each_pod_reports_the_whole_queue() -> None:
    assert course([60] * 12, scaler=Scaler(3, 20), whole=True) == [4, 5, 6, 8, 10, 12, 15, 18, 20, 20, 20, 20]


def test_six_hundred_jobs_take_twelve_pods() -> None:
    assert max(course([600] * 240, scaler=shipped_scaler())) in {12, 13}


MAIL = QueuePolicy(
    name="email-queue", concurrency=5, rate=RateLimit(10, 1000), attempts=3, backoff_ms=60_000, timeout_s=60
)


def test_ten_thousand_mails_that_the_rate_limit_holds_back_start_no_pod() -> None:
    by_depth, by_demand = shipped_scaler(), shipped_scaler()
    first = second = 3
    for number in range(67):  # a thousand seconds at ten a second
        work = Work(waiting=10_000 - number * 150, active=5, job_s=0.5)
        waiting = work.waiting - rate_limited(MAIL, work)
        first = by_depth.decide(number * PASS_S, first, [average(shares(waiting, first), 50, first)])
        second = by_demand.decide(number * PASS_S, second, [external(demand_slots(MAIL, work), 4, second)])
        assert (first, second) == (3, 3)


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 200)), min_size=1, max_size=80),
    st.integers(1, 10),
    st.integers(0, 20),
    st.booleans(),
)
def test_it_stays_within_its_bounds_and_obeys_its_policies(
    wishes: list[int | None], minimum: int, more: int, guided: bool
) -> None:
    maximum = minimum + more
    scaler = Scaler(minimum, maximum, behavior_of(shipped()) if guided else None)
    replicas, past = minimum, [minimum]
    for number, wish in enumerate(wishes):
        wanted = scaler.decide(number * PASS_S, replicas, [wish])
        assert minimum <= wanted <= maximum
        if wish is None:
            assert wanted == replicas
        if guided:
            ago = past[-2:][0]  # two passes are the 30 s of the policies up
            assert wanted <= max(past[-1], 2 * ago, ago + 6)
            assert past[-1] - wanted <= max(2, math.ceil(past[-1] / 4))
        replicas = wanted
        past.append(wanted)


@given(st.floats(0, 10**6), st.integers(3, 20))
def test_shares_ask_for_what_the_whole_queue_would(waiting: float, replicas: int) -> None:
    wanted = average(shares(waiting, replicas), 50, replicas)
    assert wanted == replicas or abs(wanted - math.ceil(waiting / 50)) <= 1  # type: ignore[operator]
