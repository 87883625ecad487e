"""Text for providers and from them: cut to a limit where it shows, in one line, without secrets."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import orjson

from .exceptions import CUT_MARK

REDACTED = "[redacted]"
ASCII_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
LAST_ERROR_LIMIT = 2000
BEGINNING = 600  # characters, of a traceback that is longer
# The longest message: `notify` refuses more bytes; of another program's no more characters go out.
MESSAGE_LIMIT = 256 * 1024
WORD = re.compile(r"[a-z]{1,12}")

Size = Callable[[str], int]


def utf8(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "replace"))


def cut(text: str, limit: int, size: Size = len) -> str:
    """The text, or as much of it as fits with a visible mark where it was cut.

    size: the unit. A text's size is the sum of its characters', and each counts one at least: so no more
    than `limit` characters are looked at, however long the text is, and each only twice.
    """
    if len(text) <= limit and size(text) <= limit:
        return text
    return text[: _fitting(text[:limit], limit - size(CUT_MARK), size)] + CUT_MARK


def _fitting(text: str, room: int, size: Size) -> int:
    """How many of the first characters have room."""
    count, step = 0, 1 << len(text).bit_length()
    while step := step // 2:
        more = size(text[count : count + step])
        if more <= room and count < len(text):
            count, room = min(count + step, len(text)), room - more
    return count


def largest(limit: int, fits: Callable[[int], bool]) -> int:
    """The greatest number up to the limit that fits, where all that is smaller does; 0 at least."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def to_json(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """Times are written as ISO 8601."""
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:  # half a surrogate pair, which orjson refuses
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)
        return text.encode("utf-8", "replace")


def _plain(value: Any) -> str:
    """Of what JSON has no word for."""
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")


def json_size(text: str) -> int:
    """The bytes that the text takes within JSON."""
    return len(to_json([text])) - 4


def fitted(build: Callable[[str], Mapping[str, Any]], text: str, limit: int) -> bytes:
    """The JSON of build(text), where the text stands once, cut until all is within the limit of bytes."""
    text = cut(text, limit)
    body = to_json(build(text))
    if len(body) > limit:
        room = json_size(text) + limit - len(body)
        body = to_json(build(cut(text, room, json_size) if room > 0 else CUT_MARK))
    return body


def one_line(text: str) -> str:
    """Without line breaks and control characters: fit for a log, a terminal and a header."""
    line = " ".join(text.split())
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


TRACEBACK = "Traceback (most recent call last):"
FRAME = '  File "'


def telling(error: str) -> str:
    """The lines of an error that say what is wrong: of a Python traceback those after its last frame."""
    if not error.startswith(TRACEBACK):
        return error
    lines = error.splitlines()
    frames = [n for n, line in enumerate(lines) if line.startswith(FRAME)]
    last = [line for line in lines[frames[-1] if frames else 0 :] if line.strip() and not line[0].isspace()]
    return "\n".join(last) or error


# What cannot be seen and turns, hides or ends what stands beside it: control characters, marks of direction,
# other line breaks, blanks of no width.
HIDDEN = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff"
ISOLATED = f"\u2068[^{HIDDEN}]*\u2069"
MARKUP = re.compile(f"<[^>]*>|{ISOLATED}|[{HIDDEN}]")
TEXT = re.compile(f"{ISOLATED}|[{HIDDEN}]")
ANY_HIDDEN = re.compile(f"[{HIDDEN}]")
FROM_THE_RIGHT = ("R", "AL", "AN")  # how letters run that are written from the right


def revealed(text: str) -> str:
    """The text with each hidden character spelled out: `[U+202E]`."""
    return TEXT.sub(_reveal, text)


def revealed_markup(markup: str) -> str:
    """The same of a page: of what is read, not within its tags."""
    return MARKUP.sub(_reveal, markup) if ANY_HIDDEN.search(markup) else markup


def _reveal(found: re.Match[str]) -> str:
    text = found[0]
    return f"[U+{ord(text):04X}]" if len(text) == 1 else text


def isolated(text: str) -> str:
    """A text from outside within a sentence of ours, which it cannot turn round."""
    if text.isascii() and text.isprintable():
        return text
    plain = ANY_HIDDEN.sub(_reveal, text)
    turns = any(unicodedata.bidirectional(character) in FROM_THE_RIGHT for character in plain)
    return f"\N{FIRST STRONG ISOLATE}{plain}\N{POP DIRECTIONAL ISOLATE}" if turns else plain


@lru_cache(maxsize=4096)
def fold(name: str) -> str:
    """A channel's name for comparing: ASCII letters in lower case, which is what both databases do."""
    return name.translate(ASCII_LOWER)


def tidy(text: str | None) -> str | None:
    """An error's text as the table keeps it: at most 2,000 characters, and none that PostgreSQL refuses. Of a
    Python traceback the middle is left out: its last line says what was raised."""
    if text is None:
        return None
    text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if len(text) <= LAST_ERROR_LIMIT:
        return text
    end = LAST_ERROR_LIMIT - len(CUT_MARK) - BEGINNING if text.startswith(TRACEBACK) else 0
    return text[: LAST_ERROR_LIMIT - len(CUT_MARK) - end] + CUT_MARK + (text[-end:] if end else "")


def redact(text: str, patterns: Iterable[str]) -> str:
    """The text without anything that the patterns (`secret_patterns`, `secrets_of_url`) match."""
    alternatives = "|".join(sorted(set(patterns), key=len, reverse=True))
    return re.sub(alternatives, REDACTED, text, flags=re.IGNORECASE) if alternatives else text


@lru_cache(maxsize=1024)
def hidden(url: str, secrets: frozenset[str]) -> tuple[str, ...]:
    """All patterns that an answer from this URL may not show. Cached: most rows go to few URLs."""
    return (*secrets, *secrets_of_url(url))


def secret_patterns(values: Iterable[Any]) -> frozenset[str]:
    """Patterns (`redact`) of the values: texts, or lists of them."""
    texts = (text.strip() for value in values for text in _strings(value))
    return frozenset(pattern for text in texts for pattern in _patterns(text))


def secrets_of_url(url: str) -> Iterator[str]:
    """Patterns of what can be a token in a URL: the path, its last and its unwordly parts, query, login."""
    try:
        parts = urlsplit(url)
        login = (parts.username or "", parts.password or "")
    except ValueError:
        yield re.escape(url)
        return
    segments = [segment for segment in parts.path.split("/") if segment]
    wholes = [url, quote(url, safe="")]
    if segments:
        wholes += [parts.path + f"?{parts.query}" * bool(parts.query), parts.path.rstrip("/")]
    tokens = [s for s in segments[:-1] if len(s) > 5 and not WORD.fullmatch(s)] + segments[-1:]
    tokens += [value for _, value in parse_qsl(parts.query)]
    if any(login):
        tokens += [*login, base64.b64encode(unquote(":".join(login)).encode()).decode()]
    yield from map(re.escape, wholes)
    for token in {*tokens, *map(unquote, tokens)}:
        if len(token) > 3:
            yield _whole_word(token) if WORD.fullmatch(token) else re.escape(token)


def _whole_word(token: str) -> str:
    """A path's end can be a word such as "hook": hidden where it stands alone, also after a quoted slash."""
    return rf"(?:(?<![\w-])|(?<=%2F)){re.escape(token)}(?![\w-])"


def _patterns(value: str) -> Iterator[str]:
    if "://" in value:
        yield from secrets_of_url(value)
    elif len(value) > 3:
        yield re.escape(value)
        yield re.escape(value.removeprefix("whsec_"))
        yield re.escape(json.dumps(value, ensure_ascii=False)[1:-1])


def _strings(value: Any) -> Iterable[str]:
    return [value] if isinstance(value, str) else [str(item) for item in value] if _is_list(value) else []


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset)
