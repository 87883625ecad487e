"""What is told once an alert is solved: its provider, where it keeps the alert open, and people on channels
that ask for it. Each in a notification of its own, once for each alert, under a key that names it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from ..deaths.follow import SOLVED
from ..notifiers.loading import notifier_class
from ..notifiers.wording import ESCALATED
from ..text import cut, fold, one_line
from .relevance import Renewal

SOLVED_TYPE = "Solved"
LONGEST_LINE = 300
Rows = Any  # an EventQuerySet, which knows us


def raise_solved(rows: Rows, events: Iterable[Any], renewals: Mapping[str, Renewal]) -> int:
    """Raise what ends these alerts; answers how many that are. Call it in a transaction.

    events  on any channel: those that nobody need tell are passed over
    """
    keeping, telling = resolving(), told()
    count = 0
    for event in events:
        channel = fold(event.channel)
        if channel not in keeping | telling:
            continue
        _, fresh = rows.notify_once(
            type=SOLVED_TYPE,
            channel=event.channel,
            recipient=event.recipient,
            message=_text(event, renewals[event.pk]),
            certificate_id=event.certificate_id,
            dedup_key=f"{SOLVED}{event.pk}",
        )
        count += fresh
    return count


def solves(dedup_key: str | None) -> str:
    """The id of the alert that a notification with this key ends; "" of any other."""
    return dedup_key.removeprefix(SOLVED) if dedup_key and dedup_key.startswith(SOLVED) else ""


def resolving() -> frozenset[str]:
    """The folded names of the channels whose provider keeps alerts open until it is told."""
    return frozenset(fold(name) for name, options in _channels().items() if _resolves(options))


def told() -> frozenset[str]:
    """The folded names of the channels where people want to hear of it."""
    try:
        return frozenset(map(fold, conf.current().solved_on))
    except ImproperlyConfigured:
        return frozenset()


def _channels() -> Mapping[str, Mapping[str, Any]]:
    try:
        return conf.current().channels
    except ImproperlyConfigured:
        return {}


def _resolves(options: Mapping[str, Any]) -> bool:
    try:
        return notifier_class(options).resolves
    except (ImportError, TypeError):
        return False


def _text(event: Any, renewal: Renewal) -> str:
    what = cut(one_line(event.certificate_id), LONGEST_LINE) if event.certificate_id else "what it was about"
    head, _, rest = event.message.partition("\n\n")
    alert = rest if rest and head.startswith(ESCALATED) else event.message
    headline = cut(one_line(alert.partition("\n")[0]), LONGEST_LINE)
    return f"Solved: {what} was {renewal}.\n\nIt ends: {headline}"
