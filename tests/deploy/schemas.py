"""Strict validation: Kubernetes' API by its published schemas, operators' kinds by their definitions."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.deploy.rendered import Object

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

VERSIONS = ("1.31", "1.37")
_PODS_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


@cache
def _operators() -> dict[str, jsonschema.Draft4Validator]:
    found = yaml.safe_load((Path(__file__).parent / "operators.yaml").read_text("utf-8"))
    return {kind: jsonschema.Draft4Validator(_strict(schema)) for kind, schema in found.items()}


def _strict(schema: Any) -> Any:
    """Unknown fields are errors: a server drops them without a word."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items()}
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    if made.get("type") == "object" and "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def problems(found: Object) -> list[str]:
    """What is wrong with one object, by every version of Kubernetes that is looked at."""
    return list(_problems(json.dumps(found, sort_keys=True)))


@cache  # overlays share most of their objects
def _problems(text: str) -> tuple[str, ...]:
    found = json.loads(text)
    kind = f"{found['apiVersion']} {found['kind']}"
    if (operator := _operators().get(kind)) is not None:
        errors = operator.iter_errors(found["spec"])
        return tuple(f"{kind} {'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors)
    return tuple(said for version in VERSIONS if (said := _refused(found, version)))


def _refused(found: Object, version: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kubernetes_validate.validate(found, version, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return f"{found['kind']} {found['metadata']['name']} ({version}): {getattr(error, 'message', error)}"
    return None


def not_restricted(pod: Object) -> list[str]:
    """What the Pod Security Standard "restricted" and our own rules have against a pod's spec."""
    bad = [
        f"volume {volume['name']}" for volume in pod.get("volumes", ()) if not set(volume) - {"name"} <= _PODS_VOLUMES
    ]
    bad += [word for word in ("hostNetwork", "hostPID", "hostIPC") if pod.get(word)]
    if pod.get("automountServiceAccountToken") is not False:
        bad.append("automountServiceAccountToken")
    if pod.get("enableServiceLinks") is not False:
        bad.append("enableServiceLinks")
    whole = pod.get("securityContext", {})
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        bad += [f"{container['name']}: {fault}" for fault in _container_faults(container, whole)]
    return bad


def _container_faults(container: Object, whole: Object) -> list[str]:
    own = container.get("securityContext", {})
    profile = own.get("seccompProfile", whole.get("seccompProfile", {}))
    resources = container.get("resources", {})
    image = container["image"].rpartition("/")[2]
    wanted = {
        "runAsNonRoot": own.get("runAsNonRoot", whole.get("runAsNonRoot")) is True,
        "runAsUser is a number that is not root": own.get("runAsUser", whole.get("runAsUser", 0)) > 0,
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
        "drops ALL": own.get("capabilities", {}) == {"drop": ["ALL"]},
        "seccomp": profile.get("type") in {"RuntimeDefault", "Localhost"},
        "read-only root": own.get("readOnlyRootFilesystem") is True,
        "requests and limits": all(
            {"cpu", "memory"} <= set(resources.get(side, ())) for side in ("requests", "limits")
        ),
        "a tag that is not latest": ":" in image and not image.endswith(":latest"),
    }
    return [what for what, held in wanted.items() if not held]
