"""What README and docs tell to type is what the program takes, and what they draw and name is there."""

from __future__ import annotations

import json
import pydoc
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import get_commands, load_command_class
from django.test import RequestFactory

from notifications import conf, signals
from notifications.endpoints import breaker
from notifications.endpoints.breaker import State
from notifications.engine import loop
from notifications.models import NotificationEvent
from notifications.notifiers.shipped import SHIPPED
from tests.docs import blocks
from tests.engine.support import hand_over
from tests.fixtures import Configure
from tests.scripted import Script, channel

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"(?:^|[#$] |\$\(|[;|&] )certctl (?=([a-z_]+.*)$)", re.MULTILINE)
INLINE = re.compile(r"`certctl ([a-z_]+(?: [^`]*)?)`")
PLACEHOLDER = re.compile(r"…|\b[A-Z]{2,}\b")
# Named in a sentence, not to be typed as they stand.
UNFINISHED = {("notifications", verb) for verb in ("requeue", "read", "test", "prune")}


def commands(page: Path) -> set[tuple[str, ...]]:
    """The words of each `certctl` command in the page's blocks and sentences, without the program's name."""
    text = page.read_text()
    blocks = "\n".join(BLOCK.findall(text)).replace("\\\n", " ")
    lines = [line for line in [*LINE.findall(blocks), *INLINE.findall(text)] if not PLACEHOLDER.search(line)]
    return {words(line) for line in lines} - UNFINISHED


def words(line: str) -> tuple[str, ...]:
    """As a shell reads them, up to a pipe, another command or a comment; a variable holds a number."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found = takewhile(lambda word: not set(word) <= set("();<>|&"), lexer)
    return tuple("1" if word.startswith("$") else word for word in found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_one_that_the_program_takes(page: Path) -> None:
    for name, *arguments in commands(page):
        parser = load_command_class(get_commands()[name], name).create_parser("certctl", name)
        assert vars(parser.parse_args(arguments))


def test_the_commands_are_found() -> None:
    assert ("mcp_server", "--http", "127.0.0.1:8765", "--allow-operate") in commands(ROOT / "docs" / "mcp.md")
    assert ("notifications", "test", "Slack", "#pki") in commands(ROOT / "docs" / "operating.md")
    assert ("api_tokens", "list") in commands(ROOT / "docs" / "api.md")
    assert {found[1] for found in commands(ROOT / "docs" / "cli.md")} > {"create", "list", "prune"}


def test_the_assistants_configuration_starts_the_server() -> None:
    page = (ROOT / "docs" / "mcp.md").read_text()
    (block,) = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (server,) = json.loads(block)["mcpServers"].values()
    assert (server["command"], server["args"]) == ("certctl", ["mcp_server"])


# docs/architecture.md: what it draws is what stands in the code


def test_the_tree_is_the_apps() -> None:
    (tree,) = (block for block in blocks("architecture.md") if block.startswith("notifications/"))
    shown = set(re.findall(r"^    ([a-z_]+(?:/|\.\w+)) ", tree, re.MULTILINE))
    app = ROOT / "notifications"
    there = {f"{path.name}/" if path.is_dir() else path.name for path in app.iterdir()}
    assert shown == there - {"__init__.py", "__pycache__/"}
    assert {"certctl/", "templates/", "tests/"} <= set(re.findall(r"^(\w+/)", tree, re.MULTILINE))


def test_the_tests_folders_are_the_apps() -> None:
    """But for what is tried on the whole of it: processes and networks that fail, and hosts' settings."""
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    others = {path for path in folders if not (ROOT / "notifications" / path).is_dir()}
    assert others == {Path("reliability"), Path("hosts")}


def test_the_layers_are_those_that_are_enforced() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert "\n".join([*layers, ""]) in blocks("architecture.md")


def test_the_chart_is_the_breakers() -> None:
    (chart,) = (block for block in blocks("architecture.md") if "OPEN  " in block)
    assert set(re.findall(r"^([A-Z_]{2,}) {2,}", chart, re.MULTILINE)) >= {state.name for state in State}
    assert set(re.findall(r"\b[A-Z_]{4,}\b", chart)) - {"HOLD_LIMIT"} == {state.name for state in State}
    assert without_indent(chart) in without_indent(breaker.__doc__)


def test_the_picture_is_the_engines() -> None:
    assert any(without_indent(block) in without_indent(loop.__doc__) for block in blocks("architecture.md"))


def without_indent(text: str | None) -> str:
    return "\n".join(line.strip() for line in (text or "").strip().splitlines())


# docs/python.md


def public_names() -> list[str]:
    """The dotted names in its tables; `.name` stands for another one of the same parent."""
    found: list[str] = []
    for cell in re.findall(r"^\| (`.*?`) \|", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE):
        for name in re.findall(r"`([\w.]+)`", cell):
            found.append(found[-1].rpartition(".")[0] + name if name.startswith(".") else name)
    return found


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_is_there(name: str, settings: Any, configure: Configure) -> None:
    hand_over(settings, configure)  # the task is made for an engine that has its queue
    assert pydoc.locate(name) is not None


def test_the_public_names_are_found() -> None:
    assert {
        "notifications.models.NotificationEvent.objects.notify",
        "notifications.models.NotificationQuerySet.mark_read",
        "notifications.notifiers.options.list_of",
        "notifications.reporting.health.alive",
    } < set(public_names())
    shipped = {f"{notifier.__module__}.{notifier.__qualname__}" for notifier in SHIPPED}
    assert shipped < set(public_names())


@pytest.fixture
def _no_receivers_left() -> Iterator[None]:
    """What the guide connects would speak in every later test."""
    yield
    for signal in (signals.delivered, signals.died, signals.held):
        signal.receivers.clear()
        signal.sender_receivers_cache.clear()


@pytest.mark.usefixtures("_no_receivers_left")
@pytest.mark.django_db(transaction=True)
def test_what_python_is_shown_runs(
    script: Script, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(CHANNELS={"Slack": channel(script)})

    def block(part: str) -> str:
        (found,) = (block for block in blocks("python.md", "python") if part in block)
        return found

    names: dict[str, Any] = {}
    for part in ("INSTALLED_APPS", "def db_for_write", "dead().on_channel", "notify_many"):
        exec(block(part), names)
    assert conf.faults(names["NOTIFICATIONS"]) == []
    assert names["Router"]().db_for_write(NotificationEvent) == "alerts"
    assert names["created"]
    assert (names["changed"], names["skipped"]) == (0, 0)
    assert len(names["new"]) == 2
    exec(block("def test_a_failed_renewal"), names)
    names["test_a_failed_renewal_is_told"]()
    exec(block("async def renewal_failed"), names)
    async_to_sync(names["renewal_failed"])("api.example.com")
    assert NotificationEvent.objects.count() == 5
    exec(block("@receiver(died)"), names)
    NotificationEvent.objects.first().mark_as_dead("a person said so")
    names["tell_the_team"]("Slack", "", "HTTP 500", signal=None, sender=None, until=None)
    assert "is dead: a person said so" in capsys.readouterr().out
    event = {"extra": {"fingerprint": ["notification died"]}}
    exec(block("def before_send"), names)
    assert names["before_send"](event, {})["fingerprint"] == ["notification died"]
    assert names["before_send"]({}, {}) == {}
    exec(block("send_pending(limit"), names)
    assert names["result"].finished == 4
    exec(block("shared_task"), names)
    names["deliver_alerts"]()
    exec(block("metrics.page"), names)
    [page] = [url.callback for url in names["urlpatterns"] if str(url.pattern) == "metrics"]
    assert b"certctl_notifications" in page(RequestFactory().get("/metrics")).content
