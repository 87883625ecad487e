"""What README and docs tell an operator to type is what the program takes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`certctl ([a-z_]+(?: [^`]*)?)`")
PLACEHOLDER = re.compile(r"…|\b[A-Z]{2,}\b")
UNFINISHED = {"notifications requeue", "notifications read", "notifications test"}  # named, not to be typed


def commands(page: Path) -> set[str]:
    """`certctl` lines of the page's blocks and within its sentences, without the program's name."""
    text = page.read_text()
    blocks = "\n".join(BLOCK.findall(text)).replace("\\\n", " ")
    lines = re.findall(r"(?:^|[#$(;|] *|&& )certctl ([a-z_]+[^\n|#&)]*)", blocks, re.MULTILINE)
    found = {" ".join(line.split()) for line in [*lines, *INLINE.findall(text)]}
    return {line for line in found if not PLACEHOLDER.search(line)} - UNFINISHED


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_one_that_the_program_takes(page: Path) -> None:
    for command in commands(page):
        name, *arguments = shlex.split(command)
        parser = load_command_class(get_commands()[name], name).create_parser("certctl", name)
        assert vars(parser.parse_args(arguments)), command


def test_the_commands_are_found() -> None:
    assert "mcp_server --http 127.0.0.1:8765 --allow-operate" in commands(ROOT / "docs" / "mcp.md")
    assert "collectstatic --no-input" in commands(ROOT / "docs" / "metrics.md")
    assert "notifications test Slack '#pki'" in commands(ROOT / "docs" / "operating.md")


def test_the_assistants_configuration_starts_the_server() -> None:
    page = (ROOT / "docs" / "mcp.md").read_text()
    (block,) = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (server,) = json.loads(block)["mcpServers"].values()
    assert (server["command"], server["args"]) == ("certctl", ["mcp_server"])
