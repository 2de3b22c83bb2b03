"""Who may call whom in each overlay, by the rules of NetworkPolicy."""

from __future__ import annotations

import pytest

from gateway.settings import Settings
from tests.deploy.rendered import Object, each_overlay, gateways, objects, of_kind, pods

OUTSIDE: Object = {}
"""An address that is no pod's: what blocks of addresses admit."""
STRANGER = {"namespace": "shop", "app.kubernetes.io/name": "shop"}
INGRESS = {"namespace": "ingress-nginx", "app.kubernetes.io/name": "ingress-nginx"}
PROMETHEUS = {"namespace": "monitoring", "app.kubernetes.io/name": "prometheus"}
POSTGRES = {"namespace": "databases", "cnpg.io/cluster": "gateway"}
DNS = {"namespace": "kube-system", "k8s-app": "kube-dns"}


def _workloads(overlay: str) -> dict[str, Object]:
    """Labels of pods, with their namespace, and their named ports."""
    found = {}
    for work, pod in pods(objects(overlay)):
        template = work["spec"]["template"]["metadata"]["labels"]
        ports = {one["name"]: one["containerPort"] for each in pod["containers"] for one in each.get("ports", ())}
        found[work["metadata"]["name"]] = {
            "namespace": work["metadata"].get("namespace", "default"),
            **template,
            **ports,
        }
    return found


def _selects(selector: Object, labels: Object) -> bool:
    assert set(selector) <= {"matchLabels"}, "nothing else is used"
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _is(peer: Object, labels: Object, namespace: str) -> bool:
    if "ipBlock" in peer:
        return labels == OUTSIDE
    if labels == OUTSIDE:
        return False
    if "namespaceSelector" in peer:
        names = peer["namespaceSelector"].get("matchLabels", {})  # none: every namespace
        wanted = {"matchLabels": {"namespace": names.get("kubernetes.io/metadata.name", labels["namespace"])}}
        return _selects(wanted, labels) and _selects(peer.get("podSelector", {}), labels)
    return labels["namespace"] == namespace and _selects(peer["podSelector"], labels)


def _admits(overlay: str, direction: str, pod: Object, other: Object, port: int) -> bool:
    """``direction``: Ingress or Egress, of *pod*. A pod that no policy selects is open."""
    policies = [one for one in of_kind(overlay, "NetworkPolicy") if _selects(one["spec"]["podSelector"], pod)]
    policies = [one for one in policies if direction in one["spec"]["policyTypes"]]
    target = pod if direction == "Ingress" else other
    for policy in policies:
        for rule in policy["spec"].get(direction.lower(), ()):
            ports = {one["port"] if isinstance(one["port"], int) else target.get(one["port"]) for one in rule["ports"]}
            peers = rule["from" if direction == "Ingress" else "to"]
            if port in ports and any(_is(peer, other, pod["namespace"]) for peer in peers):
                return True
    return not policies


def _may_call(overlay: str, source: Object, target: Object, port: int) -> bool:
    out = source in (OUTSIDE, STRANGER, INGRESS, PROMETHEUS) or _admits(overlay, "Egress", source, target, port)
    foreign = target in (OUTSIDE, DNS, PROMETHEUS, POSTGRES)
    return out and (foreign or _admits(overlay, "Ingress", target, source, port))


@each_overlay
def test_every_pod_has_rules_for_both_directions(overlay: str) -> None:
    for name, labels in _workloads(overlay).items():
        chosen = [
            one["spec"] for one in of_kind(overlay, "NetworkPolicy") if _selects(one["spec"]["podSelector"], labels)
        ]
        assert {kind for spec in chosen for kind in spec["policyTypes"]} == {"Ingress", "Egress"}, name


@each_overlay
def test_gateways_reach_what_they_need_and_are_reached_by_those_who_may(overlay: str) -> None:
    found = _workloads(overlay)
    port = Settings.model_fields["port"].default
    for work, _ in gateways(overlay):
        gateway = found[work["metadata"]["name"]]
        assert all(_may_call(overlay, gateway, OUTSIDE, one) for one in (5432, 587, 465, 443))
        assert not any(_may_call(overlay, gateway, OUTSIDE, one) for one in (22, 25, 80, 6379))
        assert _may_call(overlay, gateway, POSTGRES, 5432) and not _may_call(overlay, gateway, POSTGRES, 443)
        assert _may_call(overlay, gateway, DNS, 53)
        if work["kind"] != "Job":
            assert _may_call(overlay, INGRESS, gateway, port) and _may_call(overlay, PROMETHEUS, gateway, port)
            assert _may_call(overlay, gateway, PROMETHEUS, 4318)
            assert not _may_call(overlay, STRANGER, gateway, port) and not _may_call(overlay, OUTSIDE, gateway, port)
        if "redis" in found:
            assert _may_call(overlay, gateway, found["redis"], 6379)
            assert _may_call(overlay, gateway, found["redis"], 26379) == (overlay == "overlays/sentinel")


@pytest.mark.parametrize("overlay", ["overlays/dev", "overlays/prod", "overlays/sentinel", "overlays/split"])
def test_redis_is_reached_by_gateways_only_and_calls_at_most_its_like(overlay: str) -> None:
    redis = _workloads(overlay)["redis"]
    for other in (STRANGER, INGRESS, PROMETHEUS, OUTSIDE):
        assert not _may_call(overlay, other, redis, 6379)
        assert not _may_call(overlay, redis, other, 443)
    for port in (6379, 26379):
        assert _may_call(overlay, redis, redis, port) == (overlay == "overlays/sentinel")
    assert _may_call(overlay, redis, DNS, 53) == (overlay == "overlays/sentinel")
