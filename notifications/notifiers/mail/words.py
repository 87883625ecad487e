"""What a mail server's refusal is about. The words and codes stand in words.toml, with their sources.

Pure: a reply's text and the command that it answers go in. The number alone does not say it: 550 is an
unknown recipient, a daily quota, or a sender that we may not use. In order decide: enhanced codes that are
plain (RFC 3463; their registry is RFC 5248), words that large servers are known to say, other enhanced codes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from enum import Enum, IntEnum
from pathlib import Path
from typing import NamedTuple


class Stage(IntEnum):
    """The command that was answered last. Only from DOT on may the server have taken the mail."""

    CONNECT = 0
    TLS = 1
    LOGIN = 2
    READY = 3
    MAIL = 4
    RCPT = 5
    DATA = 6
    DOT = 7


class Meaning(Enum):
    """Whose matter a refusal is, and so what becomes of the row and of the server's others."""

    RECIPIENT = "the recipient's: no such mailbox, a full one"
    CONTENT = "the mail's: too large, taken for spam"
    RELAY = "the recipient's domain, or our login: the server does not take mail for it from us"
    LATER = "put off for this recipient or this mail (greylisting)"
    SERVER = "the server's, for now"
    BUSY = "too many connections at once"
    SESSION = "too many mails on one connection: another one will do"
    ENVELOPE = "too many recipients of one mail: another one will do"
    RATE = "too many mails of late"
    QUOTA = "too many mails today"
    SENDER = "our sender address"
    HOST = "our host, or the name that it says it has"
    LOGIN = "our login"
    TLS = "our encryption, or that there is none"


M = Meaning
OURS = {M.SENDER, M.HOST, M.LOGIN, M.TLS}


class Table(NamedTuple):
    """What words.toml says: words in their order, enhanced codes that are plain, and the vague ones."""

    words: tuple[tuple[re.Pattern[str], Meaning], ...]
    plain: Mapping[str, Meaning]
    vague: Mapping[str, Meaning]

    @classmethod
    def read(cls) -> Table:
        table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
        anyhow = re.IGNORECASE | re.DOTALL
        words = ((re.compile(one["words"], anyhow), Meaning[one["meaning"]]) for one in table["known"])
        plain, vague = (
            {code: Meaning[name] for name, codes in table[kind].items() for code in codes}
            for kind in ("plain", "vague")
        )
        return cls(tuple(words), plain, vague)


TABLE = Table.read()
ENHANCED = re.compile(r"[245]\.(\d{1,3}\.\d{1,3})(?!\S)")
# A refusal that neither explains, by its number (RFC 4954, RFC 5321).
CODES = {530: M.LOGIN, 534: M.LOGIN, 535: M.LOGIN, 538: M.LOGIN, 552: M.CONTENT}
# By the command: before there is a mail it is us, MAIL is our sender, RCPT the recipient.
STAGES = {
    Stage.CONNECT: M.HOST,
    Stage.TLS: M.TLS,
    Stage.LOGIN: M.LOGIN,
    Stage.READY: M.HOST,
    Stage.MAIL: M.SENDER,
    Stage.RCPT: M.RECIPIENT,
    Stage.DATA: M.CONTENT,
    Stage.DOT: M.CONTENT,
}


def enhanced_code(text: str) -> str:
    """Subject and detail, such as `1.1`; "" without one."""
    found = ENHANCED.match(text)
    return found[1] if found else ""


def explained(text: str, stage: Stage) -> Meaning | None:
    """What its words or its enhanced code say that a refusal is about; None where they say nothing.

    What stands in angle brackets is an address or a name, which somebody else chose.
    """
    code = enhanced_code(text)
    if code in TABLE.plain and _fits(TABLE.plain[code], stage):
        return TABLE.plain[code]
    words = re.sub(r"<[^<>]*>", "<>", ENHANCED.sub("", text, count=1) if code else text)
    said = (meaning for pattern, meaning in TABLE.words if pattern.search(words))
    return next((meaning for meaning in said if _fits(meaning, stage)), None) or TABLE.vague.get(code)


def _fits(meaning: Meaning, stage: Stage) -> bool:
    """Before a recipient is named, none can be refused, nor the mail."""
    if meaning in (Meaning.RECIPIENT, Meaning.RELAY, Meaning.LATER):
        return stage >= Stage.RCPT
    return meaning is not Meaning.CONTENT or stage >= Stage.MAIL
