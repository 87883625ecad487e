"""The HTML part of a mail: what its text says, laid out for people, in light and in dark."""

from __future__ import annotations

from html import escape

from ..wording import COLORS, Words

# Only the bar has a colour: text and background are those of the reader's own program, which turns both
# together.
HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0; padding: 24px; font: 16px/1.5 "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }}
.said {{ max-width: 40em; margin: 0 auto; overflow-wrap: anywhere; }}
.first {{ margin: 0; font-size: 20px; line-height: 1.3; font-weight: 600; }}
.kind {{ margin: 4px 0 16px; font-size: 14px; }}
.rest {{ margin: 0 0 16px; white-space: pre-wrap; }}
.facts {{ border-collapse: collapse; font-size: 14px; }}
.facts th, .facts td {{ padding: 2px 0; text-align: start; vertical-align: top; }}
.facts th {{ padding-inline-end: 20px; font-weight: 600; white-space: nowrap; }}
.open {{ display: inline-block; margin: 20px 0 0; padding: 8px 16px; border: 1px solid currentColor;
  border-radius: 6px; color: inherit; text-decoration: none; }}
</style>
</head>
"""


def html_of(words: Words) -> str:
    """The alert as HTML: its first line large, the facts a table, the notification's page behind one button.

    Nothing is loaded from elsewhere, nothing in the text becomes markup, and no address in it a link.
    """
    bar = f"border-inline-start: 4px solid {COLORS[words.severity]}; padding-inline-start: 16px"
    parts = [
        f'<p class="first"><bdi>{escape(words.headline)}</bdi></p>',
        f'<p class="kind">{escape(words.label)}</p>',
    ]
    if words.detail:
        parts.append(f'<div class="rest"><bdi>{escape(words.detail)}</bdi></div>')
    if words.facts:
        rows = "\n".join(
            f'<tr><th scope="row">{escape(label)}</th><td><bdi>{escape(value)}</bdi></td></tr>'
            for label, value in words.facts
        )
        parts.append(f'<table class="facts">\n{rows}\n</table>')
    if words.link:
        parts.append(f'<a class="open" href="{escape(words.link)}">Open the notification</a>')
    inside = "\n".join(parts)
    head = HEAD.format(title=escape(words.headline))
    return f'{head}<body>\n<div class="said" style="{bar}">\n{inside}\n</div>\n</body>\n</html>\n'
