"""The manifests as ``kubectl kustomize`` writes them, and what is asked of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.debian import TRIXIE, program

Object = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("base", "overlays/dev", "overlays/prod", "overlays/sentinel", "overlays/split", "overlays/keda")
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@cache
def text_of(overlay: str) -> str:
    kubectl = program("kubectl", "kubectl", suite=TRIXIE)
    command = [kubectl, "kustomize", K8S / overlay]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def _parsed(overlay: str) -> str:
    return json.dumps([found for found in yaml.load_all(text_of(overlay), yaml.CSafeLoader) if found])


def objects(overlay: str) -> list[Object]:
    """Fresh ones at each call: a test may spoil them."""
    found: list[Object] = json.loads(_parsed(overlay))
    return found


def of_kind(overlay: str, *kinds: str) -> list[Object]:
    return [found for found in objects(overlay) if found["kind"] in kinds]


def the(overlay: str, kind: str, name: str) -> Object:
    (found,) = [found for found in of_kind(overlay, kind) if found["metadata"]["name"] == name]
    return found


def pods(documents: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Each workload with its pod's spec."""
    for found in documents:
        if found["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield found, found["spec"]["template"]["spec"]


def gateways(overlay: str) -> list[tuple[Object, Object]]:
    """The workloads that run the gateway's image."""
    return [(work, pod) for work, pod in pods(objects(overlay)) if "gateway" in pod["containers"][0]["image"]]
