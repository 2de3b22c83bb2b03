"""The compose files as ``docker compose config`` resolves them: checked by the schema, merged, without an engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.deploy.rendered import ROOT, Object
from tests.support.debian import TRIXIE, program

FILES = tuple(sorted(path.name for path in ROOT.glob("compose*.yaml")))
WORKERS = "compose.worker.yaml"
each_file = pytest.mark.parametrize("file", FILES)
_TIMEOUT = 60


def environment_file(file: str) -> str:
    return ".env.worker.example" if file == WORKERS else ".env.example"


def config(file: str, directory: Path = ROOT, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    compose = program("docker-compose", "docker-compose", suite=TRIXIE)
    command = [compose, "-f", file, "--env-file", ROOT / environment_file(file), "config", *arguments]
    own = {"PATH": os.defpath, "HOME": str(directory), **variables}
    return subprocess.run(
        command, cwd=directory, env=own, capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )


@cache
def _resolved(file: str) -> str:
    """In a copy: a developer's own ``.env`` is none of the tests' business."""
    with TemporaryDirectory() as made:
        directory = copied(Path(made).resolve())
        done = config(file, directory, "--format", "json")
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(str(directory), str(ROOT))


def model(file: str) -> Object:
    """A fresh one at each call: a test may spoil it."""
    found: Object = json.loads(_resolved(file))
    return found


def services(file: str) -> Iterator[tuple[str, Object]]:
    yield from model(file)["services"].items()


def gateways(file: str) -> Iterator[tuple[str, Object]]:
    """The services that run the gateway's image."""
    return ((name, service) for name, service in services(file) if service["image"].startswith("gateway:"))


def copied(directory: Path) -> Path:
    """The files where a test may change them."""
    for file in FILES:
        shutil.copy(ROOT / file, directory / file)
    shutil.copytree(ROOT / "compose", directory / "compose")
    return directory


def seconds(duration: str) -> float:
    """Of ``1m30s``, as compose writes it."""
    total, number = 0.0, ""
    for letter in duration:
        if letter in "hms":
            total += float(number) * {"h": 3600, "m": 60, "s": 1}[letter]
            number = ""
        else:
            number += letter
    return total


def leads_outside(found: Object, service: Object) -> bool:
    return not all(found["networks"][name].get("internal") for name in service["networks"])


def faults(found: Object) -> list[str]:
    """What ``docker compose config`` lets pass, and what then hangs, vanishes or is open to everybody."""
    said = [
        f"{name} waits for {other}, which {fault}"
        for name, service in found["services"].items()
        for other, wait in service.get("depends_on", {}).items()
        if (fault := _never(found["services"][other], wait["condition"]))
    ]
    for name, service in found["services"].items():
        said += [f"{name}: {fault}" for fault, there in _loose(found, service).items() if there]
    return said


def _never(other: Object, condition: str) -> str | None:
    checked = "healthcheck" in other and not other["healthcheck"].get("disable")
    if condition == "service_healthy" and not checked:
        return "has no health check"
    if condition == "service_completed_successfully" and other.get("restart", "no") != "no":
        return "is started again whenever it ends"
    return None


def _loose(found: Object, service: Object) -> dict[str, bool]:
    image = service["image"].rpartition("/")[2]
    once = "depends_on" in service and service.get("restart", "no") == "no"
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    return {
        "its image has no fixed tag": ":" not in image or image.endswith(":latest"),
        "its root file system can be written to": service.get("read_only") is not True,
        "it keeps capabilities": service.get("cap_drop") != ["ALL"],
        "its log grows for ever": not {"max-size", "max-file"} <= set(service.get("logging", {}).get("options", ())),
        "it stays away when it ends": not once and service.get("restart") != "unless-stopped",
        "its memory has no limit": not once and "memory" not in limits,
        "it is published, and no network of it leads outside": bool(service.get("ports"))
        and not leads_outside(found, service),
    }
