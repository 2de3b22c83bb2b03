"""What the manifests say of the gateway is true of it: settings, commands, routes, metrics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from docs import generate
from gateway.cli.root import COMMANDS
from gateway.settings import SettingsError
from gateway.settings.loading import load
from gateway.settings.names import KNOWN
from gateway.web.metrics import MetricsRefresher
from tests.deploy.rendered import K8S, ROOT, Object, each_overlay, gateways, objects, of_kind, pods
from tests.support.eventually import eventually
from tests.support.web import serving, settings_for

SECRETS = {
    "DATABASE_URL": "postgresql://gateway:password@postgres:5432/gateway",
    "REDIS_PASSWORD": "of-redis",
    "REDIS_SENTINEL_PASSWORD": "of-redis",
    "JWT_SECRET": "mX2vQ9sLw4Rk7TzB1nYc6HdJ0pGfE8ua",
}
# Metrics of others: Prometheus itself, kube-state-metrics, redis_exporter.
OF_OTHERS = re.compile(r"up|kube_horizontalpodautoscaler_\w+|redis_memory_\w+_bytes|namespace:\w+:\w+")


def environment(overlay: str, container: Object) -> dict[str, str]:
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(overlay, "ConfigMap")}
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= maps[source["configMapRef"]["name"]]
    return found | {one["name"]: one["value"] for one in container.get("env", ())}


def secrets(pod: Object, directory: Path) -> set[str]:
    """Write the files that a pod finds in /run/secrets, and answer their names."""
    names = set()
    for source in pod["volumes"][0]["projected"]["sources"]:
        names |= {item["path"] for item in source["secret"].get("items", [{"path": "JWT_SECRET"}])}
    for name in names:
        (directory / name).write_text(SECRETS[name] + "\n")
    return names


@each_overlay
def test_every_setting_of_a_pod_exists_and_they_go_together(overlay: str, tmp_path: Path) -> None:
    for number, (work, pod) in enumerate(gateways(overlay)):
        (container,) = pod["containers"]
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        assert mounts[pod["volumes"][0]["name"]] == "/run/secrets"
        directory = tmp_path / str(number)
        directory.mkdir()
        names, values = secrets(pod, directory), environment(overlay, container)
        assert {*names, *values} - KNOWN == set()
        loaded = load(values, directory, serving=work["kind"] != "Job")
        assert [warning for warning in loaded.warnings if "is not a setting" in warning] == []
        assert loaded.settings.database_url == SECRETS["DATABASE_URL"]
        if work["kind"] != "Job":
            redis = loaded.settings.queue_redis
            assert redis is not None and redis.password == SECRETS["REDIS_PASSWORD"]
            assert (redis.sentinel_name == "mymaster") == (overlay == "overlays/sentinel")
            assert "10.0.0.0/8" in loaded.settings.trusted_networks, "the ingress's own address would be everybody's"


def test_a_misspelt_setting_is_found(tmp_path: Path) -> None:
    (tmp_path / "DATABASE_URL").write_text(SECRETS["DATABASE_URL"])
    with pytest.raises(SettingsError, match="SMTP_HOST"):
        load({"SMPT_HOST": "smtp.example.com"} | {"JWT_SECRET": SECRETS["JWT_SECRET"]}, tmp_path)


@each_overlay
def test_secrets_are_files_never_variables(overlay: str) -> None:
    for _, pod in gateways(overlay):
        (container,) = pod["containers"]
        assert not [one for one in container.get("env", ()) if "secretKeyRef" in one.get("valueFrom", {})]
        assert not [one for one in container.get("envFrom", ()) if "secretRef" in one]
        assert not set(environment(overlay, container)) & set(SECRETS)
        assert pod["volumes"][0]["projected"]["defaultMode"] == 0o440


@each_overlay
def test_secrets_that_pods_mount_are_there_or_named_on_the_page(overlay: str) -> None:
    made = {one["metadata"]["name"] for one in of_kind(overlay, "Secret")}
    assert bool(made) == (overlay == "overlays/dev"), "of production, no secret is in a repository"
    wanted = set()
    for _, pod in pods(objects(overlay)):
        for volume in pod["volumes"]:
            wanted |= {one["secret"]["name"] for one in volume.get("projected", {}).get("sources", ())}
            wanted |= {volume["secret"]["secretName"]} if "secret" in volume else set()
    named = set(re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs/kubernetes.md").read_text("utf-8"), re.MULTILINE))
    assert wanted and wanted <= (made or named)


@each_overlay
def test_pods_run_commands_that_there_are(overlay: str) -> None:
    for _, pod in gateways(overlay):
        assert pod["containers"][0]["args"][0] in COMMANDS


@pytest.mark.parametrize("role", ["all", "api", "worker"])
async def test_probes_and_scrapes_reach_routes_of_every_role(role: str, database_url: str) -> None:
    paths = {
        container[probe]["httpGet"]["path"]
        for overlay in ("base", "overlays/split")
        for _, pod in gateways(overlay)
        for container in pod["containers"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        if probe in container
    }
    monitors = of_kind("overlays/prod", "PodMonitor")
    paths |= {one["path"] for monitor in monitors for one in monitor["spec"]["podMetricsEndpoints"]}
    assert paths == {"/health/live", "/health/ready", "/metrics"}
    async with serving(settings_for(database_url, gateway_role=role)) as (client, runtime):
        await runtime.booted()

        async def reached() -> bool:  # a ledger that is silent for a second is said to be
            return {path: (await client.get(path)).status_code for path in paths} == dict.fromkeys(paths, 200)

        await eventually(reached)


async def test_what_autoscalers_ask_for_is_scraped(database_url: str) -> None:
    async with serving(settings_for(database_url)) as (client, runtime):
        await MetricsRefresher(runtime.metrics, runtime.gauges, runtime).refresh()
        text = (await client.get("/metrics")).text
    scraped = {
        (sample.name, sample.labels.get("queue"))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    wanted = set[tuple[str, str | None]]()
    for overlay in ("base", "overlays/prod", "overlays/split"):
        for scaler in of_kind(overlay, "HorizontalPodAutoscaler"):
            for one in scaler["spec"]["metrics"]:
                if "pods" in one:
                    wanted |= {
                        (one["pods"]["metric"]["name"], queue) for queue in ("email-queue", "orchestration-queue")
                    }
                if "external" in one:
                    metric = one["external"]["metric"]
                    wanted.add((metric["name"], metric["selector"]["matchLabels"]["queue"]))
    for scaled in of_kind("overlays/keda", "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            if "query" in trigger["metadata"]:
                (found,) = re.findall(r'(\w+)\{namespace="gateway",queue="([\w-]+)"\}', trigger["metadata"]["query"])
                wanted.add(found)
    assert len(wanted) == 4
    assert wanted <= scraped
    rules = yaml.safe_load((K8S / "platform" / "prometheus-adapter.yaml").read_text("utf-8"))
    served = {one["seriesQuery"].partition("{")[0] for part in ("rules", "externalRules") for one in rules[part]}
    assert served == {name for name, _ in wanted}


def test_alerts_watch_metrics_that_there_are() -> None:
    known = set[str]()
    for name, kind, _, _ in generate.metric_rows():
        known |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    (rules,) = of_kind("overlays/prod", "PrometheusRule")
    found = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    for rule in found:
        names = set(re.findall(r"\b(?:gateway|queue|kube|redis|namespace|up)[a-z0-9_:]*(?=[{\[ )]|$)", rule["expr"]))
        unknown = {name for name in names - known if not OF_OTHERS.fullmatch(name)} - {"queue", "namespace"}
        assert unknown == set(), rule
    alerts = {rule["alert"]: rule for rule in found if "alert" in rule}
    assert {
        "GatewayDown", "NoActiveWorkers", "HighQueueDepth", "HighJobFailureRate", "JobsWaitTooLong",
        "GatewayDirectMode", "JobsStalled", "EmailBounceRateHigh", "RedisUnfit", "QueueStuck", "EmailStartBurnsFast",
    } <= set(alerts)  # fmt: skip
    for alert in alerts.values():
        assert alert["labels"]["severity"] in {"page", "ticket", "info"}
        assert {"summary", "description"} <= set(alert["annotations"])


def test_alerts_say_what_document_001_says() -> None:
    (rules,) = of_kind("overlays/prod", "PrometheusRule")
    alerts = {rule["alert"]: rule for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule}
    said = {
        name: (alerts[name]["for"], alerts[name]["annotations"]["summary"], alerts[name]["annotations"]["description"])
        for name in ("HighQueueDepth", "NoActiveWorkers", "HighJobFailureRate")
    }
    assert said == {
        "HighQueueDepth": ("10m", "Queue depth is high", "{{ $labels.queue }} has {{ $value }} waiting jobs"),
        "NoActiveWorkers": ("1m", "No workers are running", "All workers are down - jobs will not be processed"),
        "HighJobFailureRate": ("5m", "Job failure rate is high", "{{ $value }} jobs/sec are failing"),
    }


def test_only_the_api_gets_traffic_in_the_split_overlay() -> None:
    roles = {
        work["metadata"]["name"]: environment("overlays/split", pod["containers"][0]).get("GATEWAY_ROLE")
        for work, pod in gateways("overlays/split")
    }
    assert roles == {"api-gateway": "api", "gateway-worker": None, "gateway-migrate": None}
    services = [one for one in objects("overlays/split") if one["kind"] == "Service"]
    selectors = [one["spec"]["selector"].get("app.kubernetes.io/component") for one in services]
    assert "worker" not in selectors
