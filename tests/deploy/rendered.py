"""The manifests as ``kubectl kustomize`` writes them, and what is asked of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

Object = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("base", "overlays/dev", "overlays/prod", "overlays/sentinel", "overlays/split", "overlays/keda")
NO_KUSTOMIZE = "neither kubectl nor kustomize is installed, and no package index has them as a wheel"
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def _command() -> list[str] | None:
    if kustomize := shutil.which("kustomize"):
        return [kustomize, "build"]
    kubectl = shutil.which("kubectl")
    return [kubectl, "kustomize"] if kubectl else None


needs_kustomize = pytest.mark.skipif(_command() is None, reason=NO_KUSTOMIZE)


@cache
def text_of(overlay: str) -> str:
    """Skips the test where nothing can build it."""
    command = _command()
    if command is None:
        pytest.skip(NO_KUSTOMIZE)
    done = subprocess.run([*command, str(K8S / overlay)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(overlay: str) -> list[Object]:
    """Fresh ones at each call: a test may spoil them."""
    return [found for found in yaml.safe_load_all(text_of(overlay)) if found]


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
