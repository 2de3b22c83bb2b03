"""k8s/: every overlay builds, is valid for Kubernetes from 1.31 on, is restricted, and has document 003's values."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import __version__
from gateway.jobs.demand import WAITING_PER_REPLICA
from gateway.settings import Settings
from tests.deploy.rendered import K8S, ROOT, Object, each_overlay, gateways, objects, of_kind, pods, the
from tests.deploy.schemas import not_restricted, problems

UNDER_AUTOSCALERS = ("base", "overlays/prod", "overlays/sentinel", "overlays/split", "overlays/keda")


@each_overlay
def test_an_overlay_is_valid_for_every_version(overlay: str) -> None:
    assert [said for found in objects(overlay) for said in problems(found)] == []


@pytest.mark.parametrize("path", sorted(K8S.rglob("*.yaml")), ids=lambda path: str(path.relative_to(K8S)))
def test_a_whole_object_is_valid_as_it_stands(path: Any) -> None:
    """Without kustomize too: everything that is neither a patch nor kustomize's own."""
    if (
        path.name.endswith("patch.yaml")
        or path.name == "kustomization.yaml"
        or path.parent.name in {"platform", "demand"}
    ):
        assert yaml.safe_load(path.read_text("utf-8"))
        return
    found = [one for one in yaml.safe_load_all(path.read_text("utf-8")) if one]
    assert found
    assert [said for one in found for said in problems(one)] == []


def _misspell(found: Object) -> None:
    found["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}


def _wrong_type(found: Object) -> None:
    found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "660"


def _unknown_action(found: Object) -> None:
    found["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = {"preStop": {"sleep": {"second": 10}}}


@pytest.mark.parametrize("spoil", [_misspell, _wrong_type, _unknown_action])
def test_a_spoilt_deployment_is_not_valid(spoil: Callable[[Object], None]) -> None:
    found = yaml.safe_load((K8S / "base" / "deployment.yaml").read_text("utf-8"))
    assert problems(found) == []
    spoil(found)
    assert len(problems(found)) == 2, "both versions refuse it"


@pytest.mark.parametrize(("file", "spoil"), [
    ("components/monitoring/podmonitor.yaml", lambda spec: spec.update(podMetricsEndpoint=[])),
    ("components/monitoring/prometheusrule.yaml", lambda spec: spec["groups"][0]["rules"][0].update(fro="1m")),
    ("components/monitoring/podmonitor.yaml", lambda spec: spec["podMetricsEndpoints"][0].update(interval="15 s")),
    ("components/monitoring/prometheusrule.yaml", lambda spec: spec["groups"][0]["rules"][0].pop("expr")),
    ("components/keda/scaledobject.yaml", lambda spec: spec["fallback"].update(behavior="currentReplicasIfHighest")),
    ("components/keda/scaledobject.yaml", lambda spec: spec["triggers"][0].update(treshold="4")),
    ("components/keda/scaledobject.yaml", lambda spec: spec.update(minReplicaCount="3")),
])  # fmt: skip
def test_a_spoilt_object_of_an_operator_is_not_valid(file: str, spoil: Callable[[Object], None]) -> None:
    found = yaml.safe_load((K8S / file).read_text("utf-8"))
    assert problems(found) == []
    spoil(found["spec"])
    assert problems(found)


@each_overlay
def test_pods_are_restricted(overlay: str) -> None:
    found = {work["metadata"]["name"]: not_restricted(pod) for work, pod in pods(objects(overlay))}
    assert {name: bad for name, bad in found.items() if bad} == {}


def test_a_pod_with_rights_is_found() -> None:
    (_, pod), *_ = pods([yaml.safe_load((K8S / "base" / "deployment.yaml").read_text("utf-8"))])
    pod["containers"][0]["image"] += ":1"
    assert not_restricted(pod) == []
    pod["containers"][0]["securityContext"]["capabilities"] = {"add": ["NET_ADMIN"]}
    pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    assert not_restricted(pod) == ["volume host", "gateway: drops ALL"]


@each_overlay
def test_what_is_referred_to_is_there(overlay: str) -> None:
    documents = objects(overlay)
    names = {(one["kind"], one["metadata"]["name"]) for one in documents}
    pods_labels = [one["spec"]["template"]["metadata"]["labels"] for one, _ in pods(documents)]
    for one in documents:
        match one["kind"]:
            case "HorizontalPodAutoscaler":
                assert ("Deployment", one["spec"]["scaleTargetRef"]["name"]) in names
            case "Service":
                assert any(one["spec"]["selector"].items() <= labels.items() for labels in pods_labels)
            case "PodDisruptionBudget":
                wanted = one["spec"]["selector"]["matchLabels"].items()
                assert any(wanted <= labels.items() for labels in pods_labels)
            case _:
                pass
    for work, pod in pods(documents):
        if "serviceAccountName" in pod:
            assert ("ServiceAccount", pod["serviceAccountName"]) in names
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names, work["metadata"]["name"]


@each_overlay
def test_all_of_an_overlay_is_in_one_namespace_that_it_brings(overlay: str) -> None:
    found = {one["metadata"].get("namespace") for one in objects(overlay) if one["kind"] != "Namespace"}
    assert len(found) == 1
    assert found - {None} == {one["metadata"]["name"] for one in of_kind(overlay, "Namespace")}


@pytest.mark.parametrize("overlay", UNDER_AUTOSCALERS)
def test_no_replicas_are_set_under_an_autoscaler(overlay: str) -> None:
    assert [work for work in of_kind(overlay, "Deployment") if "replicas" in work["spec"]] == []
    scalers = of_kind(overlay, "HorizontalPodAutoscaler", "ScaledObject")
    assert len(scalers) == (2 if overlay.endswith("split") else 1)


def test_the_default_has_the_values_of_document_003() -> None:
    deployment, scaler = (
        the("base", "Deployment", "api-gateway"),
        the("base", "HorizontalPodAutoscaler", "api-gateway-hpa"),
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"cpu": "2000m", "memory": "2Gi"},
    }  # fmt: skip
    sources = deployment["spec"]["template"]["spec"]["volumes"][0]["projected"]["sources"]
    assert sources[0]["secret"] == {"name": "db-credentials", "items": [{"key": "url", "path": "DATABASE_URL"}]}
    spec = scaler["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 20)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api-gateway"}
    target = {"type": "AverageValue", "averageValue": str(WAITING_PER_REPLICA)}
    assert spec["metrics"] == [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
        {"type": "Pods", "pods": {"metric": {"name": "queue_waiting_jobs"}, "target": target}},
    ]
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300


@pytest.mark.parametrize(
    ("overlay", "name"),
    [
        ("overlays/prod", "api-gateway-hpa"),
        ("overlays/sentinel", "api-gateway-hpa"),
        ("overlays/split", "api-gateway-worker-hpa"),
    ],
)
def test_production_asks_for_four_fifths_of_a_pods_slots(overlay: str, name: str) -> None:
    config = _config(overlay)
    slots = {
        "email-queue": int(config["EMAIL_QUEUE_CONCURRENCY"]),
        "orchestration-queue": int(config["ORCHESTRATION_QUEUE_CONCURRENCY"]),
    }
    metrics = the(overlay, "HorizontalPodAutoscaler", name)["spec"]["metrics"]
    external = [one["external"] for one in metrics if one["type"] == "External"]
    found = {
        one["metric"]["selector"]["matchLabels"]["queue"]: _quantity(one["target"]["averageValue"]) for one in external
    }
    assert {one["metric"]["name"] for one in external} == {"queue_demand_slots"}
    assert found == {queue: pytest.approx(0.8 * number) for queue, number in slots.items()}


def test_keda_scales_as_the_autoscaler_does() -> None:
    keda = the("overlays/keda", "ScaledObject", "api-gateway")["spec"]
    scaler = the("overlays/prod", "HorizontalPodAutoscaler", "api-gateway-hpa")["spec"]
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == scaler["behavior"]
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (scaler["minReplicas"], scaler["maxReplicas"])
    wanted = sorted(
        _quantity(one["external"]["target"]["averageValue"]) for one in scaler["metrics"] if "external" in one
    )
    prometheus = [one["metadata"] for one in keda["triggers"] if one["type"] == "prometheus"]
    assert sorted(float(one["threshold"]) for one in prometheus) == wanted
    assert {one["ignoreNullValues"] for one in prometheus} == {"false"}


@each_overlay
def test_no_pod_is_killed_before_its_jobs(overlay: str) -> None:
    for work, pod in gateways(overlay):
        if work["kind"] == "Job":
            continue
        (container,) = pod["containers"]
        config = _config(overlay) | {one["name"]: one["value"] for one in container.get("env", ())}
        rest = pod["terminationGracePeriodSeconds"] - int(config["SHUTDOWN_GRACE_S"])
        rest -= container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert rest >= 20, "time to hand back what still runs, and to close"
        if config.get("GATEWAY_ROLE") != "api":
            assert int(config["SHUTDOWN_GRACE_S"]) * 1000 >= int(config["ORCHESTRATION_TIMEOUT_MS"]) + 30_000
            annotations = work["spec"]["template"]["metadata"]["annotations"]
            assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


@each_overlay
def test_images_and_users_are_those_of_the_dockerfile(overlay: str) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    user, group = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)[-1]
    port = re.findall(r"^EXPOSE (\d+)$", dockerfile, re.MULTILINE)[-1]
    found = gateways(overlay)
    assert found
    for work, pod in found:
        context = pod["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (int(user), int(group), int(group))
        for container in pod["containers"]:
            assert container["image"] == f"registry.example.com/gateway:{__version__}"
            assert "command" not in container, "the image's entry point gets the signals"
            assert [one["containerPort"] for one in container.get("ports", ())] in ([], [int(port)]), work["metadata"]
    assert Settings.model_fields["port"].default == int(port)


@each_overlay
def test_redis_keeps_its_jobs(overlay: str) -> None:
    configs = [one["data"]["redis.conf"] for one in of_kind(overlay, "ConfigMap") if "redis.conf" in one["data"]]
    for text in configs:
        lines = text.splitlines()
        assert {"appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"} <= set(lines)
    assert len(configs) == (overlay != "base")


def _config(overlay: str) -> dict[str, str]:
    (found,) = [one["data"] for one in of_kind(overlay, "ConfigMap") if "PORT" in one["data"]]
    return dict(found)


def _quantity(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def test_an_overlay_of_ones_own_sets_the_image_in_the_words_of_the_documents(tmp_path: Path) -> None:
    name, new = re.findall(r"set image (\S+)=(\S+):0\.1\.0`", (ROOT / "docs/kubernetes.md").read_text("utf-8"))[0]
    own = {
        "resources": [os.path.relpath(K8S / "overlays/split", tmp_path.resolve())],
        "images": [{"name": name, "newName": new, "newTag": "9"}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(own))
    images = {container["image"] for _, pod in gateways(str(tmp_path)) for container in pod["containers"]}
    assert images == {f"{new}:9"}
