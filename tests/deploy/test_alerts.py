"""The shipped alerts fire when they should, by Prometheus' own rule tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from tests.deploy.rendered import K8S
from tests.support.debian import TRIXIE, program

CASES = Path(__file__).parent / "alerts.test.yaml"


def promtool(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = program("promtool", "promtool", suite=TRIXIE)
    rules = yaml.safe_load((K8S / "components/monitoring/prometheusrule.yaml").read_text("utf-8"))["spec"]
    (directory / "rules.yaml").write_text(yaml.safe_dump(rules))
    return subprocess.run([command, *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False)


def test_the_rules_are_rules(tmp_path: Path) -> None:
    done = promtool(tmp_path, "check", "rules", "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    (tmp_path / "cases.yaml").write_text(CASES.read_text("utf-8"))
    done = promtool(tmp_path, "test", "rules", "cases.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_expectation_is_noticed(tmp_path: Path) -> None:
    spoilt = CASES.read_text("utf-8").replace("has 60 waiting jobs", "has 61 waiting jobs")
    (tmp_path / "cases.yaml").write_text(spoilt)
    assert promtool(tmp_path, "test", "rules", "cases.yaml").returncode == 1
