"""The dashboard as Grafana's JSON, of what ``panels.py`` lists. The classic form: newer versions convert it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from monitoring.panels import ROWS, Panel

UID: Final = "api-gateway"
COLUMNS: Final = 24
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_SINGLE_HEIGHT: Final = 4
_HEIGHT: Final = 8


def dashboard() -> dict[str, Any]:
    return {
        "annotations": {"list": [_alerts()]},
        "description": "Queues, jobs, requests and replicas of the gateway.",
        "editable": True,
        "graphTooltip": 1,  # one crosshair over all panels
        "id": None,
        "links": [],
        "panels": list(_panels()),
        "refresh": "30s",
        "schemaVersion": 39,
        "tags": ["gateway"],
        "templating": {"list": [_datasource(), *_variables()]},
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "title": "Gateway",
        "uid": UID,
        "version": 1,
    }


def _panels() -> Iterator[dict[str, Any]]:
    y, number = 0, 0
    for title, panels in ROWS:
        number += 1
        yield {
            "collapsed": False,
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
            "id": number,
            "panels": [],
            "title": title,
            "type": "row",
        }
        y, x = y + 1, 0
        for panel in panels:
            height = _SINGLE_HEIGHT if panel.single else _HEIGHT
            number += 1
            yield _panel(panel, number, {"h": height, "w": panel.width, "x": x, "y": y})
            x += panel.width
            if x >= COLUMNS:
                x, y = 0, y + height
        if x:
            raise ValueError(f"the row {title} is not full")


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"color": {"mode": "thresholds" if panel.single else "palette-classic"}}
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    defaults |= {"thresholds": {"mode": "absolute", "steps": steps}, "unit": panel.unit}
    if not panel.signed:
        defaults["min"] = 0
    if not panel.single:
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 0,
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
        }
    return {
        "datasource": DATASOURCE,
        "description": panel.meaning,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "gridPos": place,
        "id": number,
        "options": _SINGLE_OPTIONS if panel.single else _LINES_OPTIONS,
        "targets": [
            {
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": expr,
                "instant": panel.single,
                "legendFormat": legend or "__auto",
                "range": not panel.single,
                "refId": chr(ord("A") + at),
            }
            for at, (expr, legend) in enumerate(panel.queries)
        ],
        "title": panel.title,
        "type": "stat" if panel.single else "timeseries",
    }


_SINGLE_OPTIONS: Final = {
    "colorMode": "value",
    "graphMode": "none",
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    "textMode": "auto",
}
_LINES_OPTIONS: Final = {
    "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}


def _datasource() -> dict[str, Any]:
    return {
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "type": "datasource",
    }


def _variables() -> Iterator[dict[str, Any]]:
    for name, label, query in (
        ("namespace", "Namespace", "label_values(gateway_event_loop_lag_seconds, namespace)"),
        ("queue", "Queue", 'label_values(gateway_queue_depth{namespace=~"$namespace"}, queue)'),
    ):
        yield {
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "datasource": DATASOURCE,
            "definition": query,
            "hide": 0,
            "includeAll": True,
            "label": label,
            "multi": True,
            "name": name,
            "options": [],
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "type": "query",
        }


def _alerts() -> dict[str, Any]:
    return {
        "datasource": DATASOURCE,
        "enable": True,
        "expr": 'ALERTS{alertstate="firing",severity=~"page|ticket",namespace=~"$namespace"}',
        "iconColor": "red",
        "name": "Alerts",
        "titleFormat": "{{alertname}}",
    }
