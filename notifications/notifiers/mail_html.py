"""The HTML part of a mail: what its text says, laid out for people, in light and in dark."""

from __future__ import annotations

from html import escape

from .base import Message

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
.said { max-width: 40em; margin: 0 auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.first { margin: 0 0 16px; font-size: 20px; line-height: 1.3; font-weight: 600; }
.rest { margin: 0; }
.open { display: inline-block; margin: 20px 0 0; padding: 8px 16px; border: 1px solid currentColor;
  border-radius: 6px; color: inherit; text-decoration: none; white-space: normal; }
</style>
</head>
"""


def html_of(message: Message, text: str) -> str:
    """The mail's text as HTML: its first paragraph large, the notification's page behind one button.

    Nothing is loaded from elsewhere, nothing in the text becomes markup, and no address in it a link.
    """
    first, _, rest = text.strip().partition("\n")
    paragraphs = [f'<p class="first">{escape(first)}</p>']
    if rest.strip():
        paragraphs.append(f'<p class="rest">{escape(_dedented(rest))}</p>')
    if message.url:
        paragraphs.append(f'<a class="open" href="{escape(message.url)}">Open the notification</a>')
    inside = "\n".join(paragraphs)
    return f'{HEAD}<body>\n<div class="said" dir="auto">{inside}</div>\n</body>\n</html>\n'


def _dedented(text: str) -> str:
    return text.strip("\n").rstrip()
