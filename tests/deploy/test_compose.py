"""Compose files: valid, whole, closed, and true of the gateway: settings, commands, secrets, times to stop."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from dotenv import dotenv_values

from gateway import __version__
from gateway.cli.root import COMMANDS, root
from gateway.settings import RedisForm, Settings
from gateway.settings.loading import load
from gateway.settings.names import KNOWN, NAMES, unknown_names
from tests.deploy.compositions import (
    FILES,
    WORKERS,
    config,
    copied,
    each_file,
    environment_file,
    faults,
    gateways,
    leads_outside,
    model,
    seconds,
    services,
)
from tests.deploy.rendered import ROOT, Object, the
from tests.support.web import settings_for


def test_all_files_of_the_documents_are_there() -> None:
    assert FILES == (
        "compose.cluster.yaml", "compose.sentinel.yaml", "compose.simple.yaml", "compose.split.yaml",
        "compose.worker.yaml", "compose.yaml",
    )  # fmt: skip


@each_file
def test_a_file_is_valid_and_nothing_in_it_is_loose(file: str) -> None:
    assert faults(model(file)) == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("restart: unless-stopped", "restrat: unless-stopped", "restrat"),
        ("networks: [front, data, egress]", "networks: [front, data, outside]", "undefined network outside"),
        ("migrate: {condition: service_completed_successfully}", "mine: {condition: service_started}", "mine"),
        ("condition: service_started", "condition: service_running", "condition"),
        ("compose/gateway.yaml, service: gateway", "compose/gateway.yaml, service: nothing", "nothing"),
        ("secrets: [redis_password]", "secrets: [password]", "undefined secret password"),
        ("redis:/data", "data:/data", "undefined volume data"),
        ("SMTP_HOST", "MAIL_HOST", "set it in .env"),
    ],
    ids=["key", "network", "service", "condition", "extends", "secret", "volume", "variable"],
)  # fmt: skip
def test_a_spoilt_file_is_refused(right: str, wrong: str, said: str, tmp_path: Path) -> None:
    directory = copied(tmp_path)
    assert config("compose.yaml", directory, "--quiet").returncode == 0
    for path in (directory / "compose.yaml", *(directory / "compose").glob("*.yaml")):
        path.write_text(path.read_text("utf-8").replace(right, wrong), "utf-8")
    done = config("compose.yaml", directory, "--quiet")
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda found: found["postgres"].pop("healthcheck"), "migrate waits for postgres, which has no health check"),
        (lambda found: found["migrate"].update(restart="always"), "gateway waits for migrate, which is started again"),
        (lambda found: found["redis"].update(image="redis:latest"), "redis: its image has no fixed tag"),
        (lambda found: found["redis"].update(image="registry.example.com:5000/redis"), "redis: its image has no fixed"),
        (lambda found: found["proxy"].pop("logging"), "proxy: its log grows for ever"),
        (lambda found: found["gateway"].update(cap_drop=[]), "gateway: it keeps capabilities"),
        (lambda found: found["gateway"]["deploy"].pop("resources"), "gateway: its memory has no limit"),
        (lambda found: found["redis"].update(ports=["6379:6379"]), "redis: it is published, and no network"),
    ],
    ids=["health", "restart", "latest", "untagged", "log", "capabilities", "memory", "published"],
)  # fmt: skip
def test_what_is_loose_is_found(spoil: Callable[[Any], object], said: str) -> None:
    found = model("compose.yaml")
    spoil(found["services"])
    assert [fault for fault in faults(found) if fault.startswith(said)]


@each_file
def test_images_are_those_of_the_other_manifests(file: str) -> None:
    redis = the("overlays/prod", "StatefulSet", "redis")["spec"]["template"]["spec"]
    for name, service in services(file):
        if "build" in service:
            assert service["image"] == f"gateway:{__version__}"
            assert Path(service["build"]["context"]) == ROOT
        if name.startswith("redis"):
            context = redis["securityContext"]
            assert service["image"] == redis["containers"][0]["image"]
            assert service["user"] == f"{context['runAsUser']}:{context['runAsGroup']}"
            mounts = {one["target"]: one["source"] for one in service["volumes"]}
            assert mounts["/data"] == name, "a volume of its own"
            assert mounts["/etc/redis/redis.conf"] == str(ROOT / "k8s/components/redis/redis.conf")


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script makes."""
    directory = copied(tmp_path_factory.mktemp("host"))
    done = subprocess.run(["sh", "compose/secrets.sh"], cwd=directory, capture_output=True, text=True, check=True)
    assert done.stdout.count("made") == 4
    return directory / "secrets"


def test_secrets_are_made_once_and_other_users_of_the_host_cannot_reach_them(secrets: Path) -> None:
    before = {path: path.read_text("utf-8") for path in secrets.rglob("*") if path.is_file()}
    assert len(set(before.values())) == 4
    (secrets / "gateway" / "SMTP_PASSWORD").write_text("of-mine")
    done = subprocess.run(["sh", secrets.parent / "compose/secrets.sh"], capture_output=True, text=True, check=True)
    assert done.stdout.count("kept") == 4
    assert {path: path.read_text("utf-8") for path in before} == before
    (secrets / "gateway" / "SMTP_PASSWORD").unlink()
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in before} == {0o644}, "the containers' users read them"
    ignored = subprocess.run(["git", "check-ignore", "secrets/gateway/JWT_SECRET", ".env", ".env.worker"], cwd=ROOT,
                             capture_output=True, text=True, check=False)  # fmt: skip
    assert len(ignored.stdout.split()) == 3


def _environment(service: Object) -> dict[str, str]:
    return {name: value for name, value in service["environment"].items() if value is not None}


@each_file
def test_every_setting_exists_and_they_go_together(file: str, secrets: Path) -> None:
    found = dict(gateways(file))
    for name, service in found.items():
        values = _environment(service)
        assert set(values) - KNOWN == set()
        assert not set(values) & _secret_names(), "secrets are files"
        files = {one["target"]: one for one in service["volumes"]}
        assert files["/run/secrets"]["source"] == str(ROOT / "secrets/gateway")
        assert files["/run/secrets"]["read_only"] and not files["/run/secrets"]["bind"].get("create_host_path")
        for variable, path in values.items():
            if variable.endswith("_FILE"):
                values[variable] = str(secrets / "gateway" / Path(path).relative_to("/run/secrets"))
        loaded = load(values, secrets / "gateway", serving=name != "migrate")
        assert not [said for said in loaded.warnings if "is not a setting" in said]
        assert loaded.settings.gateway_env == "production"
        if name != "migrate":
            _fits(file, name, loaded.settings, service)
    assert len(found) == {"compose.split.yaml": 3, WORKERS: 1}.get(file, 2)


def _fits(file: str, name: str, settings: Settings, service: Object) -> None:
    assert settings.gateway_role == {"gateway": "all"}.get(name, name)
    assert seconds(service["stop_grace_period"]) >= settings.shutdown_grace_s + 20, "killed before it could hand back"
    if settings.runs_workers:
        assert settings.shutdown_grace_s * 1000 >= settings.orchestration_timeout_ms + 30_000
    limits, reserved = (service["deploy"]["resources"][part]["memory"] for part in ("limits", "reservations"))
    assert (int(limits), int(reserved)) == (2 << 30, 512 << 20)
    assert service["init"]
    redis = settings.queue_redis
    if file == "compose.simple.yaml":
        assert redis is None
        return
    assert redis is not None and redis.password is not None
    forms = {"compose.sentinel.yaml": RedisForm.SENTINEL, "compose.cluster.yaml": RedisForm.CLUSTER}
    assert redis.form is forms.get(file, RedisForm.SERVER)
    if file != WORKERS:
        assert {host for host, _ in redis.hosts} <= set(model(file)["services"])
    if redis.form is RedisForm.SENTINEL:
        assert redis.sentinel_password == redis.password


@pytest.mark.parametrize(("period", "grace"), [("8h", "28750"), ("2m", "90")], ids=["hours", "spot"])
@pytest.mark.parametrize("file", ["compose.yaml", WORKERS])
def test_a_drain_is_as_long_as_it_is_set(file: str, period: str, grace: str) -> None:
    done = config(file, ROOT, "--format", "json", STOP_GRACE_PERIOD=period, SHUTDOWN_GRACE_S=grace)
    found = json.loads(done.stdout)["services"]
    service = found.get("gateway") or found["worker"]
    settings = settings_for("postgresql://unused/unused", shutdown_grace_s=service["environment"]["SHUTDOWN_GRACE_S"])
    assert (seconds(service["stop_grace_period"]), settings.shutdown_grace_s) == (seconds(period), int(grace))
    assert seconds(period) >= int(grace) + 20


def _secret_names() -> set[str]:
    fields = Settings.model_fields
    return {name for name, field in NAMES.items() if "SecretStr" in str(fields[field].annotation)} | {"DATABASE_URL"}


def test_secrets_are_known_as_such() -> None:
    assert _secret_names() >= {"DATABASE_URL", "JWT_SECRET", "REDIS_PASSWORD", "SMTP_PASSWORD", "OPENAI_API_KEY"}


@each_file
def test_the_examples_hold_settings_and_what_the_files_ask_for(file: str) -> None:
    text = "".join(path.read_text("utf-8") for path in (ROOT / file, *(ROOT / "compose").glob("*.yaml")))
    asked = set(re.findall(r"\$\{(\w+)", text))
    commented = (ROOT / environment_file(file)).read_text("utf-8").replace("\n# ", "\n")
    example = {name for name, value in dotenv_values(ROOT / environment_file(file)).items() if value}
    every = example | set(re.findall(r"^([A-Z_]+)=", commented, re.MULTILINE))
    of_all = asked | {name for other in FILES for name in re.findall(r"\$\{(\w+)", (ROOT / other).read_text("utf-8"))}
    assert every - KNOWN - of_all == set()
    assert not every & _secret_names()
    assert unknown_names(every) == {}, "containers get all of them: no warning at each start"
    assert {name for name in asked if "${" + name + ":?" in text} <= example


@each_file
def test_containers_run_commands_that_there_are(file: str) -> None:
    for name, service in gateways(file):
        command = service["command"] or ["serve"]
        assert command[0] in COMMANDS
        if name != "migrate":
            kind, program, *arguments = service["healthcheck"]["test"]
            assert (kind, program) == ("CMD", "gateway")
            _parsed(arguments)
            assert seconds(service["healthcheck"]["timeout"]) > 2.5


def _parsed(arguments: list[str]) -> None:
    """Raises click.UsageError for a command or an option that there is not."""
    name, *options = arguments
    command = root.get_command(click.Context(root), name)
    assert command is not None
    command.make_context(name, options)


def test_the_images_own_health_check_is_a_command() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    (check,) = re.findall(r'^HEALTHCHECK .*CMD \["gateway", "(.*)"\]$', dockerfile, re.MULTILINE)
    _parsed([check])


@each_file
def test_data_is_reached_from_inside_only_and_workers_reach_mail_servers(file: str) -> None:
    found = model(file)
    for name, service in services(file):
        if name in ("postgres", "migrate", "cluster-create") or name.startswith(("redis", "sentinel")):
            assert not leads_outside(found, service) and "ports" not in service
        else:
            assert leads_outside(found, service)
        if name != "proxy":
            assert {one.get("host_ip") for one in service.get("ports", ())} <= {"127.0.0.1"}
    assert ("proxy" in found["services"]) == (file not in ("compose.simple.yaml", WORKERS))


@pytest.mark.parametrize("file", [file for file in FILES if file not in ("compose.simple.yaml", WORKERS)])
def test_the_proxy_finds_whom_it_asks_for(file: str) -> None:
    found = model(file)["services"]
    text = (ROOT / "compose/Caddyfile").read_text("utf-8")
    assert "{$UPSTREAM:gateway} {$UPSTREAM_PORT:3003}" in text
    names = {name for name, service in found.items() if "front" in service["networks"]}
    names |= {alias for one in found.values() for alias in (one["networks"].get("front") or {}).get("aliases", ())}
    assert "gateway" in names
    mounts = {one["target"]: one["source"] for one in found["proxy"]["volumes"]}
    assert mounts["/etc/caddy/Caddyfile"] == str(ROOT / "compose/Caddyfile")


def test_sentinels_share_neither_files_nor_names() -> None:
    found = model("compose.sentinel.yaml")["services"]
    six = {name: service for name, service in found.items() if re.fullmatch(r"(redis|sentinel)-\d", name)}
    assert len(six) == 6
    disks = [one["source"] for service in six.values() for one in service["volumes"] if one["target"] == "/data"]
    assert sorted(disks) == sorted(six)
    assert {name: service["environment"]["ME"] for name, service in six.items()} == {name: name for name in six}
    for service in six.values():
        assert set((service["environment"]["NODES"] + " " + service["environment"]["SENTINELS"]).split()) == set(six)


def test_the_autoscaler_of_the_documents_asks_a_container_that_has_workers() -> None:
    text = (ROOT / "docs/compose.md").read_text("utf-8")
    told = r"COMPOSE_FILE=(\S+)\ngateway autoscale --compose (\w+) [^`]*Networks\.(\w+)\.IPAddress}}' (\S+)\)"
    (file, service, network, container), *_ = re.findall(told, text)
    found = model(file)
    asked = found["services"][service]
    assert container == f"{found['name']}-{service}-1"
    assert asked["environment"]["GATEWAY_ROLE"] != "api"
    assert network in {found["networks"][name]["name"] for name in asked["networks"]}
