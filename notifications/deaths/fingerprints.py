"""Errors that say the same thing, told apart from what changes from one to the next.

A fingerprint is an error's text with numbers, ids, addresses and long words folded into FOLD. It is
also a filter: `pattern` matches exactly the texts that have the fingerprint, on every database.
Of a Python traceback it is that of the exception, which its last lines name: its frames are detail.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from ..text import FRAME, TRACEBACK

FOLD = "…"
NOTHING = "(no error)"
WORDS = 16  # of a text that count; the rest is detail
LONG = 40  # characters; a longer word is an id of some kind

# Spelled out, so that Python and PostgreSQL mean the same characters.
BLANK, INK = " \t\n\r\f\v", "[^ \t\n\r\f\v]"
SIGN = "[0-9@/]|[A-Za-z0-9_][.][A-Za-z0-9_]"  # what a word that changes has in it
CHANGING = f"{INK}{{{LONG + 1},}}|{INK}*(?:{SIGN}){INK}*|{FOLD}"
has_sign = re.compile(SIGN).search
blanks = re.compile(f"[{BLANK}]+")
# "HTTP 503" and "HTTP 404" are different errors: a status stays where one of these words announces it.
ANNOUNCES = frozenset({"HTTP", "SMTP", "[Errno", "status"})
STATUS = r"[0-9]{1,3}[\]:;,.)]*"
STAYS = re.compile(STATUS)
# So does the name of an exception that an error begins with, whatever is in it: OAuth2Error.
NAME = "[A-Z][A-Za-z0-9_]*(?:Error|Exception):?"
names = re.compile(NAME)

# From a traceback's beginning to the exception's name, without the name of its module.
LINE, INDENTED, MODULE = "[^\n]*\n", "(?:[ \t\r][^\n]*)?\n", "[A-Za-z_][A-Za-z0-9_]*[.]"
BEGINS = rf"\A{re.escape(TRACEBACK)}"
ENDS = f"(?:{INDENTED})*(?:{MODULE}(?=[A-Za-z_]))*(?!{MODULE}[A-Za-z_])(?={INK})"
A_FRAME = f"(?:{LINE})*{FRAME}"
RAISED = f"{BEGINS}{A_FRAME}{LINE}(?!{A_FRAME}){ENDS}"
ATOMIC_RAISED = f"{BEGINS}(?>{A_FRAME}){LINE}{ENDS}"  # the same, without trying each frame again
raised = re.compile(ATOMIC_RAISED)


class Part(NamedTuple):
    """A piece of an error's text. changes: it is not the same in the next error that says the same."""

    text: str
    changes: bool


def fingerprint(text: str | None) -> str:
    said = raised.sub("", text or "", count=1)
    words = blanks.split(said.strip(BLANK), WORDS)[:WORDS]
    return " ".join(_folded(words)) or NOTHING


def parts(text: str) -> list[Part]:
    """The whole text, blanks made one, in pieces that change and pieces that stay: for readers of many."""
    words = blanks.split(text.strip(BLANK))
    changes = [*(folded == FOLD for folded in _folded(words[:WORDS])), *[True] * len(words[WORDS:])]
    found: list[Part] = []
    for word, changing in zip(words, changes, strict=True):
        if found and found[-1].changes == changing:
            found[-1] = Part(f"{found[-1].text} {word}", changing)
        elif word:
            found.append(Part(word, changing))
    return found


def _folded(words: list[str]) -> list[str]:
    folded: list[str] = []
    for word in words:
        changes = len(word) > LONG or has_sign(word)
        folded.append(FOLD if changes and not _stays(word, folded) else word)
    return folded


def _stays(word: str, before: list[str]) -> bool:
    known = names if not before else STAYS if before[-1] in ANNOUNCES else None
    return known is not None and known.fullmatch(word) is not None


@lru_cache(maxsize=256)
def pattern(print_: str, *, traceback: bool = True, atomic: bool = False) -> str:
    """The regular expression of a fingerprint, for PostgreSQL and for Python.

    traceback  False: of texts that begin with none, which is quicker
    atomic     for Python's engine, which would otherwise try each word at each of its characters again, all
               of them together: a text takes it no longer than its length
    """
    word_of = "(?>" if atomic else "(?:"
    words = print_.split(" ")
    parts: list[str] = []
    before = ""
    for word in words:
        known = STATUS if before in ANNOUNCES else "" if parts else NAME
        stays = rf"(?!{known}(?:[{BLANK}]|\Z))" if known else ""
        parts.append(f"{stays}{word_of}{CHANGING})" if word == FOLD else re.escape(word))
        before = word
    end = rf"(?:[{BLANK}]|\Z)" if len(words) == WORDS else rf"[{BLANK}]*\Z"
    told = ATOMIC_RAISED if atomic else RAISED
    plain = rf"\A[{BLANK}]*"
    begins = rf"(?:(?!{told}){plain}|{told})" if traceback else plain
    return begins + f"[{BLANK}]+".join(parts) + end
