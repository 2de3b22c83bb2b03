"""What holds for the project as a whole: lock file, packaging, files of CI."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path

import pytest

import gateway

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SOURCES = sorted((ROOT / "gateway").rglob("*.py"))


def test_the_lock_file_names_the_public_index_only() -> None:
    hosts = set(re.findall(r"\bhttps?://([^/\"\s]+)", (ROOT / "uv.lock").read_text("utf-8")))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_no_file_of_the_set_up_names_a_package_index() -> None:
    for name in ("pyproject.toml", "Makefile", "Dockerfile", ".ci/run"):
        text = (ROOT / name).read_text("utf-8")
        assert not re.search(r"https?://(?!127\.0\.0\.1)|--(extra-)?index|find-links|_INDEX", text), name


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["project"]["version"] == gateway.__version__


def test_a_wheel_holds_the_migrations_where_the_runner_looks_first() -> None:
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == {
        "migrations": "gateway/_migrations"
    }
    assert 'package / "_migrations"' in (ROOT / "gateway/infra/migrate.py").read_text("utf-8")


def test_development_packages_are_no_dependencies_of_the_product() -> None:
    needed = " ".join(PROJECT["project"]["dependencies"])
    for requirement in PROJECT["dependency-groups"]["dev"]:
        assert re.split(r"[<>=]", requirement)[0] not in needed


def test_ci_runs_what_a_developer_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    assert "make check" in script.read_text("utf-8")


def test_every_folder_with_code_is_a_package() -> None:
    # import-linter sees packages only: code outside of one escapes the contract.
    folders = {path.parent for path in SOURCES}
    assert [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: os.fspath(path.relative_to(ROOT)))
def test_a_file_has_one_responsibility_and_a_size_to_match(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 310  # about 300
    assert not {"utils", "helpers", "common"} & {path.stem, *path.parent.relative_to(ROOT).parts}


def test_the_image_runs_as_a_numbered_user_and_gets_signals_itself() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    assert any(re.fullmatch(r"USER \d+:\d+", line) for line in lines)
    assert 'ENTRYPOINT ["gateway"]' in lines
    assert "STOPSIGNAL SIGTERM" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
