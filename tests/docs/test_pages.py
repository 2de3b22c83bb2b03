"""What the pages name exists, what is generated is current, and links lead somewhere."""

from __future__ import annotations

import ast
import asyncio
import re
from functools import cache
from http import HTTPStatus
from pathlib import Path

import pytest
from opentelemetry.sdk import environment_variables as opentelemetry_variables

from docs import generate
from gateway.cli.root import COMMANDS
from gateway.runtime import DevOptions, Runtime
from gateway.services.email.sandbox import INBOX_PATH, Sandbox
from gateway.settings import Settings, setting_rows
from gateway.web.dashboard import ADDRESS, HANDLERS
from gateway.web.realtime import SOCKET_PATH

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("k8s/*.md"), *ROOT.glob("pm2-like/*.md")}
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
TEST = re.compile(r"\btest_[a-zA-Z0-9_]+")
METRIC = re.compile(r"\b(?:gateway|queue)_[a-z_]*[a-z]\b(?=[\s`{)\[]|$)")
PATH = re.compile(r"(?<![\w./-])/(?:api|admin|health|metrics|dev|docs|openapi)[\w./{}-]*")
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
FILE = re.compile(r"`((?:gateway|services|web|jobs|infra|tests|migrations|docs|bench)/[\w./*-]+|[a-z_]+\.(?:sql|lua))`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# Names in capitals that are no settings of the gateway, and names that look like metrics but are rows' or keys' words.
OTHER_VARIABLES = {
    "GATEWAY_TOKEN", "GATEWAY_URL", "X_FILE", "JWT_SECRET_FILE", "POSTGRES_PASSWORD", "POSTGRES_USER", "POSTGRES_DB",
    "COMPOSE_FILE", "STOP_GRACE_PERIOD", "SMTP_URL",
    "TEST_DATABASE_URL", "TEST_REDIS_URL", "MODEL_EXAMPLES", "FUZZ_EXAMPLES", "FUZZ_SEED",
}  # fmt: skip
LOG_WORDS = {"queue_paused", "queue_rebuilt", "queue_limits_changed", "queue_full"}


@cache
def texts(page: Path) -> str:
    return page.read_text("utf-8")


def code_of(page: Path) -> str:
    return "\n".join(CODE.findall(texts(page)))


@cache
def names_of_tests() -> frozenset[str]:
    found = (re.findall(r"def (test_\w+)", path.read_text("utf-8")) for path in (ROOT / "tests").rglob("test_*.py"))
    files = (path.stem for path in (ROOT / "tests").rglob("test_*.py"))
    return frozenset(name for names in found for name in names) | frozenset(files)


@cache
def routes() -> frozenset[str]:
    paths = {path for _, path, _, _ in asyncio.run(generate.route_rows())}
    paths |= {f"{ADDRESS}{path}".rstrip("/") for handler in HANDLERS for path in handler.paths}
    paths |= asyncio.run(_brought_paths())
    paths = {re.sub(r":\w+}", "}", path) for path in paths}
    return frozenset(paths | {"/docs", "/openapi.json", SOCKET_PATH, INBOX_PATH, f"{INBOX_PATH}/{{mail_id}}"})


async def _brought_paths() -> set[str]:
    """Of the pages that features bring to the dashboard, those of the development inbox too."""
    settings = Settings.model_validate(generate.EXAMPLE_SETTINGS)
    runtime = await Runtime.open(settings, DevOptions(inbox=Sandbox()))
    await runtime.pool.close()
    brought = [feature.pages for feature in runtime.features if feature.pages is not None]
    return {f"{ADDRESS}{one.path}" for pages in brought for one in (*pages.pages, *pages.actions)}


def test_the_generated_parts_are_current() -> None:
    pages = list(generate.pages())
    assert {name for _, text in pages for name in (m["name"] for m in generate.PART.finditer(text))} == {
        *generate.PARTS
    }
    stale = [path.name for path, wanted in pages if path.read_text("utf-8") != wanted]
    assert stale == [], "run: python -m docs.generate"


@each_page
def test_the_tests_that_it_names_exist(page: Path) -> None:
    assert set(TEST.findall(code_of(page))) - names_of_tests() - {"test_name"} == set()


@each_page
def test_the_settings_that_it_names_exist(page: Path) -> None:
    known = {row.name for row in setting_rows()} | OTHER_VARIABLES | set(vars(opentelemetry_variables))
    assert set(VARIABLE.findall(code_of(page))) - known == set()


@each_page
def test_the_metrics_that_it_names_exist(page: Path) -> None:
    known = {name for name, _, _, _ in generate.metric_rows()} | LOG_WORDS
    assert set(METRIC.findall(code_of(page))) - known == set()


@each_page
def test_the_routes_that_it_names_exist(page: Path) -> None:
    named = {path.rstrip("/.") for path in PATH.findall(code_of(page))}
    assert named - routes() - {"/api/v1"} == set()


@each_page
def test_the_files_that_it_names_exist(page: Path) -> None:
    places = (ROOT, ROOT / "gateway")
    for name in FILE.findall(texts(page)):
        found = (
            [path for place in places for path in place.glob(name)]
            if "/" in name
            else list(ROOT.glob(f"gateway/**/{name}"))
        )
        assert found, name


@each_page
def test_its_links_lead_somewhere(page: Path) -> None:
    for target in (one or other for one, other in LINK.findall(texts(page))):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in {_anchor(heading) for heading in HEADING.findall(texts(file.resolve()))}, target


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-")


def test_every_page_is_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop().resolve()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = (one or other for one, other in LINK.findall(texts(page)))
        left += [page.parent / target.partition("#")[0] for target in targets if not target.startswith(("http", "#"))]
    pages = {page for page in PAGES if ROOT / "docs" in page.parents and "decisions" not in page.parts}
    assert {str(page.relative_to(ROOT)) for page in pages - reached} == set()


def test_every_error_code_is_explained() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    explained = {
        code for row in re.findall(r"^\| \d{3} \| (.*?) \|", page, re.MULTILINE) for code in re.findall(r"`(\w+)`", row)
    }
    assert explained == set(_codes())


def _codes() -> set[str]:
    """Second arguments of ``Problem(...)``, ``code=`` of the body readers, and the two of ``web/auth.py``."""
    found = {"missing_token", "invalid_token"}
    for path in (ROOT / "gateway").rglob("*.py"):
        if path.is_relative_to(ROOT / "gateway" / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Name) and node.func.id == "Problem" and len(node.args) > 1:
                found |= _words(node.args[1])
            found |= {word for keyword in node.keywords if keyword.arg == "code" for word in _words(keyword.value)}
    return found


def _words(node: ast.expr) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def test_the_commands_of_the_pages_exist() -> None:
    for page in PAGES:
        for verb in re.findall(r"(?:^|`)gateway ([a-z-]+)\b", code_of(page), re.MULTILINE):
            assert verb in COMMANDS, f"{page.name}: gateway {verb}"


def test_the_log_lines_of_the_operations_page_are_written() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    table = page.partition("| Line | Means |")[2].partition("\n\n")[0]
    lines = [line for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for line in re.findall("`(.+?)`", row)]
    assert len(lines) > 10
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "gateway").rglob("*.py"))
    unwritten = [
        line for line in lines if f'"{line}"' not in source and f'}}{line.removeprefix("Email")}"' not in source
    ]
    assert unwritten == []


def test_statuses_of_the_error_table_are_http_statuses() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert {int(status) for status in re.findall(r"^\| (\d{3}) \|", page, re.MULTILINE)} <= {
        s.value for s in HTTPStatus
    }
