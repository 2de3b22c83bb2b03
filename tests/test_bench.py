"""The measurements still run, and say what the table of goals reads. Their figures are not judged here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.__main__ import measures
from bench.goals import GOALS, WITH_PEERS, Goal, derived, table
from bench.peers import compared
from tests.support.modes import LONG


@LONG
@pytest.mark.timeout(300)
def test_every_measure_runs_and_every_goal_is_measured() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "--short"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    measured = {line.pop("measure"): line for line in map(json.loads, done.stdout.splitlines())}
    assert list(measured) == list(measures(short=True))
    assert "not measured" not in table(GOALS, derived(measured))
    assert table(GOALS, derived(measured)) in done.stderr


def test_one_measure_of_each_kind_runs() -> None:
    names = ["submit_queue", "boot", "runs"]
    command = [sys.executable, "-m", "bench", "--short", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["measure"] for line in done.stdout.splitlines()] == names


def test_our_side_of_the_comparison_with_others_runs() -> None:
    options = ["--only", "gateway", "--rounds", "1", "--jobs", "200", "--cases", "drain_50,latency"]
    command = [sys.executable, "-m", "bench.peers", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["measure"] for line in lines] == ["drain_50", "latency"]
    assert lines[0]["per_s"] > 0


def test_a_ratio_compares_figures_of_the_same_round_and_drains_at_their_best() -> None:
    rates = {"gateway": [(10, 1000), (50, 3000)], "bullmq": [(10, 2000), (50, 1000)]}
    lines = [
        {
            "round": number,
            "measure": f"drain_{concurrency}",
            "contestant": name,
            "per_s": rate * number,
            "cpu_us": rate / 10,
        }
        for number in (1, 2)
        for name, both in rates.items()
        for concurrency, rate in both
    ]

    ratios = compared(lines)

    found = {ratio["measure"]: ratio for ratio in ratios if ratio["field"] == "per_s"}
    assert found["drain_10"]["ratios"] == [0.5, 0.5]
    assert found["drain_50"]["ratios"] == [3.0, 3.0]
    assert found["drain"]["ratios"] == [1.5, 1.5]
    assert found["drain"]["median"] == 1.5
    least = [ratio["median"] for ratio in ratios if (ratio["measure"], ratio["field"]) == ("drain", "cpu_us")]
    assert least == [1.0]


@pytest.mark.parametrize("goal", [*GOALS, *WITH_PEERS], ids=lambda goal: goal.text)
def test_a_goal_is_met_at_its_value_and_missed_on_the_wrong_side(goal: Goal) -> None:
    wrong = goal.value * (1.1 if goal.at_most else 0.9)

    assert goal.row(goal.value).endswith("  met")
    assert goal.row(wrong).endswith("  missed")
