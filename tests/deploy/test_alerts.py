"""The shipped alerts fire when they should and are silent when they should be, by Prometheus' own rule tests."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.__main__ import RULES, generated
from tests.deploy.rendered import K8S, ROOT
from tests.support.debian import TRIXIE, program

CASES = ("alerts.test.yaml", "promises.test.yaml")
# Document 001's, in its words.
DOCUMENTED = {
    "HighQueueDepth": ("10m", "Queue depth is high", "{{ $labels.queue }} has {{ $value }} waiting jobs"),
    "NoActiveWorkers": ("1m", "No workers are running", "All workers are down - jobs will not be processed"),
    "HighJobFailureRate": ("5m", "Job failure rate is high", "{{ $value }} jobs/sec are failing"),
}

Rule = dict[str, Any]


def rules() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(RULES.read_text("utf-8"))
    return found


def alerts(of: dict[str, Any]) -> dict[str, Rule]:
    return {rule["alert"]: rule for group in of["groups"] for rule in group["rules"] if "alert" in rule}


def promtool(directory: Path, of: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a directory with these rules and the cases."""
    (directory / "rules.yaml").write_text(yaml.safe_dump(of))
    for name in CASES:
        (directory / name).write_text((Path(__file__).parent / name).read_text("utf-8"))
    command = program("promtool", "promtool", suite=TRIXIE)
    return subprocess.run([command, *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False)


def test_the_rules_are_rules(tmp_path: Path) -> None:
    done = promtool(tmp_path, rules(), "check", "rules", "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout + done.stderr


def test_the_scrape_configuration_is_one(tmp_path: Path) -> None:
    command = program("promtool", "promtool", suite=TRIXIE)
    configuration = [command, "check", "config", str(RULES.with_name("prometheus.yml"))]
    done = subprocess.run(configuration, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_scrape_of_all_processes_behind_one_port_is_not_refused() -> None:
    """One sample beyond the limit and nothing of the scrape is taken: GatewayDown, while all is well."""
    of_one = yaml.safe_load((K8S / "components/monitoring/podmonitor.yaml").read_text("utf-8"))["spec"]["sampleLimit"]
    (job,) = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text("utf-8"))["scrape_configs"]
    assert job["sample_limit"] >= 16 * of_one


def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    done = promtool(tmp_path, rules(), "test", "rules", *CASES)
    assert done.returncode == 0, done.stdout + done.stderr


def _silenced(rule: Rule) -> None:
    rule["expr"] = "vector(0) > 1"


def _firing(rule: Rule) -> None:
    rule.update({"expr": "vector(1)", "for": "0s"})


@pytest.mark.parametrize("spoil", [_silenced, _firing])
def test_every_alert_is_tested_firing_and_silent(spoil: Callable[[Rule], None], tmp_path: Path) -> None:
    """With rules that never fire, or always do, the cases of each alert must fail."""
    spoilt = alerts(rules())
    for rule in spoilt.values():
        spoil(rule)
    group = {"name": "spoilt", "rules": list(spoilt.values())}
    done = promtool(tmp_path, {"groups": [group]}, "test", "rules", *CASES)
    assert done.returncode == 1
    noticed = set(re.findall(r"alertname: ?(\w+)", done.stdout + done.stderr))
    assert noticed == set(alerts(rules()))


def test_a_wrong_expectation_is_noticed(tmp_path: Path) -> None:
    cases = yaml.safe_load((Path(__file__).parent / CASES[0]).read_text("utf-8"))
    cases["tests"] = [case for case in cases["tests"] if case["name"] == "three replicas report one queue, one alert"]
    for words, ending in (("has 60 waiting jobs", 0), ("has 61 waiting jobs", 1)):
        (tmp_path / "one.yaml").write_text(yaml.safe_dump(cases).replace("has 60 waiting jobs", words))
        assert promtool(tmp_path, rules(), "test", "rules", "one.yaml").returncode == ending


def test_the_alerts_of_document_001_have_its_names_and_words() -> None:
    found = alerts(rules())
    shown = {
        name: (found[name]["for"], found[name]["annotations"]["summary"], found[name]["annotations"]["description"])
        for name in DOCUMENTED
    }
    assert shown == DOCUMENTED
    assert found["HighQueueDepth"]["expr"].endswith('gateway_queue_depth{state="waiting"}) > 50')
    assert "[5m])) > 0.1" in found["HighJobFailureRate"]["expr"]


@pytest.mark.parametrize("name", sorted(alerts(rules())))
def test_an_alert_says_how_urgent_it_is_and_where_it_is_explained(name: str) -> None:
    rule = alerts(rules())[name]
    assert rule["labels"]["severity"] in {"page", "ticket", "info"}
    assert "for" in rule
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    text = (ROOT / page).read_text("utf-8")
    assert anchor == name.lower()
    section = text.partition(f"\n### {name}\n")[2].partition("\n##")[0].lower()
    assert "**means**" in section and "**look**" in section and "**do**" in section


def test_what_is_made_of_the_rules_and_the_panels_is_current() -> None:
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text("utf-8") != text]
    assert stale == [], "run: python -m monitoring"
    operators = yaml.safe_load((K8S / "components" / "monitoring" / "prometheusrule.yaml").read_text("utf-8"))
    assert operators["spec"] == rules()
