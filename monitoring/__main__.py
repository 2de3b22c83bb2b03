"""``python -m monitoring``: write what is made of ``rules.yaml`` and ``panels.py``. A test checks it is current."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import indent

from monitoring.dashboard import dashboard

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RULES = HERE / "rules.yaml"
# Kustomize reads no file outside of a component's own directory: hence a second copy.
K8S = ROOT / "k8s" / "components" / "monitoring"
_RULE = """\
# Made by `python -m monitoring` of monitoring/rules.yaml: change that.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: api-gateway
spec:
"""


def generated() -> dict[Path, str]:
    """The text of each generated file."""
    picture = json.dumps(dashboard(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    rules = RULES.read_text("utf-8")
    return {
        K8S / "prometheusrule.yaml": _RULE + indent(rules[rules.index("groups:") :], "  "),
        K8S / "dashboard.json": picture,
        HERE / "grafana" / "dashboards" / "gateway.json": picture,
    }


def main() -> None:
    for path, text in generated().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            sys.stderr.write(f"wrote {path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
