"""What people read of an alert. A name in a certificate is an outsider's text: in one line, cut, and with its
own direction kept to itself. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

from ..durations import duration, minute
from ..notifiers.wording import clean, isolated
from ..text import cut, one_line
from . import thresholds
from .verdicts import WORDS, Verdict

MOST_NAMES, MOST_PLACES, MOST_LISTED = 10, 5, 50
LONGEST = 100


class Shown(Protocol):
    """What is asked of a certificate."""

    names: list[str]
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime

    @property
    def title(self) -> str: ...


def safe(text: str, limit: int = LONGEST) -> str:
    return isolated(cut(one_line(clean(text)), limit))


def several(texts: Sequence[str], most: int) -> str:
    """`a, b and 3 more`."""
    once = list(dict.fromkeys(texts))
    shown = [safe(text) for text in once[:most]]
    more = len(once) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def share(threshold: thresholds.Threshold) -> str:
    return {"33%": "a third", "50%": "half"}.get(threshold.text, threshold.text.replace("%", " %"))


def left(threshold: str) -> str:
    """What a threshold means, in words."""
    one = thresholds.parse(threshold)
    if one.share:
        return f"no more than {share(one)} of the lifetime is left"
    return f"no more than {duration(one.left.total_seconds())} are left"


def ending(certificate: Shown, now: datetime) -> str:
    """`www.example.com expires on 2026-12-08 10:00 UTC, in 12 days`."""
    seconds, at = (certificate.not_after - now).total_seconds(), minute(certificate.not_after)
    if seconds <= 0:
        return f"{safe(certificate.title)} has expired on {at}"
    return f"{safe(certificate.title)} expires on {at}, in {duration(int(seconds))}"


def of_ends(certificates: Sequence[tuple[Shown, Sequence[str]]], threshold: str, now: datetime) -> str:
    """Of certificates that passed one threshold, each with where it was seen; what ends first in front."""
    if len(certificates) == 1:
        [(one, places)] = certificates
        why = "" if now >= one.not_after else f": {left(threshold)}"
        return "\n".join([f"{ending(one, now)}{why}.", *_details(one, places)])
    ordered = sorted(certificates, key=lambda pair: pair[0].not_after)
    first = ordered[0][0]
    names = several([one.title for one, _ in ordered], 3)
    if now >= ordered[-1][0].not_after:
        head = f"{len(ordered)} certificates have expired, the first on {minute(first.not_after)}: {names}."
    else:
        head = f"{len(ordered)} certificates expire, the first on {minute(first.not_after)}: {names}. Of each"
        head += f" {left(threshold)}."
    return "\n".join([head, *_list([(ending(one, now), places) for one, places in ordered])])


def of_each(heads: Sequence[tuple[str, Sequence[str]]], many: str) -> str:
    """Of several the line that tells what is common, then one for each; of one its own line.

    many  what is common, with {} for their number
    """
    if len(heads) == 1:
        head, places = heads[0]
        return "\n".join([f"{head}.", *_seen(places)])
    return "\n".join([f"{many.format(len(heads))}.", *_list(heads)])


def is_wrong(certificate: Shown, verdicts: Sequence[str]) -> str:
    said = " and ".join(WORDS[Verdict(one)] for one in verdicts if one in set(Verdict))
    return f"The certificate of {safe(certificate.title)} {said}"


def is_unreadable(target: str, since: datetime, problem: str) -> str:
    return f"No certificate could be read at {safe(target)} since {minute(since)}: {safe(problem, 300)}"


def is_stale(certificate: Shown, successor: Shown, place: str) -> str:
    served, kept = minute(certificate.not_after), minute(successor.not_after)
    return (
        f"{safe(certificate.title)} was renewed and not reloaded: what is served expires on {served}, and"
        f" {safe(place, 300)} is valid until {kept}"
    )


def is_renewed(certificate: Shown) -> str:
    serial = f", serial {certificate.serial}" if certificate.serial else ""
    return f"{safe(certificate.title)} was renewed: valid until {minute(certificate.not_after)}{serial}"


def has_changed(certificate: Shown, what: Sequence[str], before: Shown) -> str:
    said = " and ".join(f"another {one}" for one in what)
    issuers = f": {safe(certificate.issuer)} instead of {safe(before.issuer)}" if "issuer" in what else ""
    return f"{safe(certificate.title)} has {said} than before{issuers}"


def _details(certificate: Shown, places: Sequence[str]) -> Iterator[str]:
    yield ""
    yield f"Names: {several(certificate.names, MOST_NAMES)}"
    yield f"Issuer: {safe(certificate.issuer, 200)}"
    yield f"Serial: {certificate.serial}"
    yield from _seen(places)


def _seen(places: Sequence[str]) -> Iterator[str]:
    if places:
        yield f"Seen at: {several(places, MOST_PLACES)}"


def _list(heads: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    yield ""
    for head, places in heads[:MOST_LISTED]:
        yield f"- {head}" + (f" ({several(places, MOST_PLACES)})" if places else "")
    if len(heads) > MOST_LISTED:
        yield f"- and {len(heads) - MOST_LISTED} more"
