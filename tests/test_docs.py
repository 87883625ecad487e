"""What README and docs tell an operator to type is what the program takes."""

from __future__ import annotations

import json
import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

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
    assert ("collectstatic", "--no-input") in commands(ROOT / "docs" / "metrics.md")
    assert ("notifications", "test", "Slack", "#pki") in commands(ROOT / "docs" / "operating.md")
    assert ("api_tokens", "list") in commands(ROOT / "docs" / "api.md")
    assert {found[1] for found in commands(ROOT / "docs" / "cli.md")} > {"create", "list", "prune"}


def test_the_assistants_configuration_starts_the_server() -> None:
    page = (ROOT / "docs" / "mcp.md").read_text()
    (block,) = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (server,) = json.loads(block)["mcpServers"].values()
    assert (server["command"], server["args"]) == ("certctl", ["mcp_server"])
