"""The HTML part of a mail: what its text says, laid out for people, in light and in dark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from .base import Message

BLANK_LINES = re.compile(r"\n\s*\n")
FACT = re.compile(r"\s*([^\s:][^:]{0,30}):[ \t]+(\S.*)")
# Nothing sets a colour: text and background are those of the reader's own program, which turns both together.
HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<style>
:root { color-scheme: light dark; }
body { margin: 0; padding: 24px; font: 16px/1.5 "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
.said { max-width: 40em; margin: 0 auto; overflow-wrap: anywhere; }
.first, .rest { white-space: pre-wrap; }
.first { margin: 0 0 16px; font-size: 20px; line-height: 1.3; font-weight: 600; }
.rest { margin: 0 0 16px; }
.facts { margin: 0 0 16px; border-collapse: collapse; }
.facts th { padding: 2px 24px 2px 0; font-weight: 400; text-align: start; vertical-align: top; opacity: 0.7; }
.facts td { padding: 2px 0; }
.open { display: inline-block; margin: 4px 0 0; padding: 8px 16px; border: 1px solid currentColor;
  border-radius: 6px; color: inherit; text-decoration: none; }
</style>
</head>
"""


def html_of(message: Message, text: str) -> str:
    """The mail's text as HTML: its first line large, paragraphs of `Name: value` lines as tables, and the
    notification's page behind one button, instead of its address.

    Nothing is loaded from elsewhere, nothing in the text becomes markup, and no address in it a link.
    """
    first, _, rest = text.strip().partition("\n")
    parts = [f'<p class="first">{escape(first)}</p>']
    for part in BLANK_LINES.split(rest.strip("\n")):
        parts += [_paragraph(part.splitlines(), message.url)] if part.strip() else []
    if message.url:
        parts.append(f'<a class="open" href="{escape(message.url)}">Open the notification</a>')
    inside = "\n".join(part for part in parts if part)
    return f'{HEAD}<body>\n<div class="said" dir="auto">{inside}</div>\n</body>\n</html>\n'


def _paragraph(lines: Sequence[str], url: str) -> str:
    facts = [fact.groups() for line in lines if (fact := FACT.fullmatch(line))]
    if len(facts) < len(lines):
        said = escape("\n".join(lines))
        return f'<p class="rest">{said}</p>'
    rows = [
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts if value != url
    ]
    return f'<table class="facts">{"".join(rows)}</table>' if rows else ""
