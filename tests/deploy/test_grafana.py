"""The dashboard for Grafana, checked without Grafana: grid, variables, units, and every expression by Prometheus."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import generate
from monitoring.__main__ import HERE, RULES
from monitoring.dashboard import COLUMNS, dashboard
from tests.deploy.rendered import of_kind
from tests.support.debian import TRIXIE, program

Json = dict[str, Any]

FILLED = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}
# Of Prometheus itself and of kube-state-metrics.
OF_OTHERS = re.compile(r"up|ALERTS|kube_horizontalpodautoscaler_\w+")
METRIC = re.compile(r"\b([a-zA-Z_:][\w:]*)\{")


def exported() -> set[str]:
    found = set[str]()
    for name, kind, _, _ in generate.metric_rows():
        found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    rules = yaml.safe_load(RULES.read_text("utf-8"))
    return found | {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}


def expressions(of: Json) -> list[str]:
    found = [target["expr"] for panel in of["panels"] for target in panel.get("targets", ())]
    return found + [one["expr"] for one in of["annotations"]["list"]]


def faults(of: Json) -> list[str]:
    """What Grafana would show wrongly or not at all."""
    bad = [] if of["id"] is None and of["uid"] else ["id must be null, uid fixed"]
    ids = [panel["id"] for panel in of["panels"]]
    bad += [] if len(ids) == len(set(ids)) else ["panels share an id"]
    taken: set[tuple[int, int]] = set()
    for panel in of["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        bad += [f"{panel['title']}: overlaps"] if cells & taken else []
        bad += [f"{panel['title']}: off the grid"] if place["x"] + place["w"] > COLUMNS else []
        taken |= cells
        if panel["type"] != "row":
            bad += _panel_faults(panel)
    return bad + _expression_faults(of)


def _panel_faults(panel: Json) -> list[str]:
    demanded = {
        "a unit": panel["fieldConfig"]["defaults"].get("unit"),
        "a description": panel["description"].endswith("."),
        "the chosen data source": {one["datasource"]["uid"] for one in (panel, *panel["targets"])} == {"${datasource}"},
        "reference letters": len({one["refId"] for one in panel["targets"]}) == len(panel["targets"]) > 0,
    }
    return [f"{panel['title']}: lacks {what}" for what, there in demanded.items() if not there]


def _expression_faults(of: Json) -> list[str]:
    variables = {one["name"] for one in of["templating"]["list"]} | {name[1:] for name in FILLED}
    known = exported()
    bad = []
    for expression in expressions(of):
        bad += [f"unknown variable {name}" for name in re.findall(r"\$\{?(\w+)", expression) if name not in variables]
        bad += [f"unknown metric {name}" for name in METRIC.findall(expression) if not _known(name, known)]
        if re.search(r"rate\([^()]*\[\d", expression):
            bad.append(f"a window that does not follow the zoom: {expression}")
    return bad


def _known(name: str, known: set[str]) -> bool:
    return name in known or OF_OTHERS.fullmatch(name) is not None


def test_the_dashboard_is_sound() -> None:
    assert faults(dashboard()) == []
    assert len(expressions(dashboard())) > 30


def _overlap(of: Json) -> None:
    of["panels"][2]["gridPos"]["x"] -= 1


def _same_id(of: Json) -> None:
    of["panels"][2]["id"] = of["panels"][1]["id"]


def _hard_wired(of: Json) -> None:
    of["panels"][1]["targets"][0]["datasource"] = {"type": "prometheus", "uid": "abc"}


def _no_unit(of: Json) -> None:
    del of["panels"][1]["fieldConfig"]["defaults"]["unit"]


def _misspelt_metric(of: Json) -> None:
    of["panels"][1]["targets"][0]["expr"] = "sum(gateway_queue_dept{queue=~'$queue'})"


def _unknown_variable(of: Json) -> None:
    of["panels"][1]["targets"][0]["expr"] = "sum(up{pod=~'$pod'})"


def _fixed_window(of: Json) -> None:
    of["panels"][1]["targets"][0]["expr"] = "sum(rate(gateway_jobs_total{queue=~'$queue'}[5m]))"


@pytest.mark.parametrize(
    "spoil", [_overlap, _same_id, _hard_wired, _no_unit, _misspelt_metric, _unknown_variable, _fixed_window]
)
def test_a_spoilt_dashboard_is_noticed(spoil: Callable[[Json], None]) -> None:
    spoilt = deepcopy(dashboard())
    spoil(spoilt)
    assert len(faults(spoilt)) == 1


def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    rules = []
    for number, expression in enumerate(expressions(dashboard())):
        filled = expression
        for name, value in FILLED.items():
            filled = filled.replace(name, value)
        rules.append({"record": f"panel:{number}", "expr": re.sub(r"\$\{?\w+\}?", "x", filled)})
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    command = [program("promtool", "promtool", suite=TRIXIE), "check", "rules", "rules.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout + done.stderr


def test_numbers_of_whole_queues_are_never_added_up_over_replicas() -> None:
    """Each replica reports the same: a sum over series would show them once for each replica."""
    whole = "gateway_queue_depth|gateway_queue_oldest_waiting_seconds|queue_demand_slots|queue_rate_limited_jobs"
    for expression in expressions(dashboard()):
        for found in re.finditer(rf"(\w+)(?: by \([^)]*\))? \(?(?:{whole})|(\w+)\((?:{whole})", expression):
            assert (found[1] or found[2]) == "max", expression


def test_grafana_is_given_the_dashboard() -> None:
    (shipped,) = [
        one for one in of_kind("overlays/prod", "ConfigMap") if one["metadata"]["name"].endswith("-dashboard")
    ]
    assert shipped["metadata"]["labels"]["grafana_dashboard"] == "1", "Grafana's sidecar looks for it"
    assert shipped["data"]["gateway.json"] == (HERE / "grafana" / "dashboards" / "gateway.json").read_text("utf-8")
    provisioning = HERE / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text("utf-8"))["datasources"]
    scrapes = yaml.safe_load((HERE / "prometheus.yml").read_text("utf-8"))["global"]["scrape_interval"]
    assert (source["type"], source["jsonData"]["timeInterval"]) == ("prometheus", scrapes)
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "gateway.yaml").read_text("utf-8"))["providers"]
    assert provider["type"] == "file" and provider["options"]["path"] == "/var/lib/grafana/dashboards"
