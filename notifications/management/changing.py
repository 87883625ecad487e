"""The verbs that change many notifications: choose, ask, do, and say what was refused and why."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError
from django.db.models import Count

from notifications.database import database_now
from notifications.exceptions import TransitionRefused
from notifications.models import NotificationEvent, NotificationQuerySet, Status
from notifications.models.queryset import BATCH, Changed, batched, free

from .arguments import check_selection, selected
from .cli import Progress, terminal
from .display import Screen, as_json, printable

GROUPS = 20  # lines in the question before a bulk change


@dataclass(frozen=True, slots=True)
class Verb:
    """name: as the rules know it; done: its participle; allowed: the states that it takes."""

    name: str
    done: str
    allowed: tuple[Status, ...]
    change: Callable[[NotificationQuerySet], Changed]


def run(verb: Verb, options: dict[str, Any], screen: Screen) -> None:
    """Change what the options choose (arguments.add_selection), after asking where filters choose.

    Raises CommandError: 2 for a bad choice or when nobody can be asked, 1 when an id was refused.
    """
    check_selection(options)
    ids = list(dict.fromkeys(options["ids"]))
    asks = not (ids or options["dry_run"] or options["yes"])
    if asks and not sys.stdin.isatty():
        raise CommandError(f"cannot ask whether to {verb.name}: no terminal; say --yes", returncode=2)
    rows: NotificationQuerySet = NotificationEvent.objects.filter(pk__in=ids) if ids else selected(options)
    movable = rows.filter(free(database_now()), status__in=verb.allowed)
    if options["dry_run"]:
        say_would(verb, movable, len(ids) or rows.count(), screen, as_one_line=options["json"])
        return
    if asks and not agreed(verb, movable, screen):
        raise CommandError("nothing was changed")
    chosen = ids or list(movable.values_list("pk", flat=True))
    changed, refused = change(verb, chosen, explain=bool(ids))
    skipped = len(chosen) - changed
    if options["json"]:
        screen.plain(as_json({verb.done: changed, "skipped": skipped, "refused": refused}))
    else:
        screen.plain(f"{changed} {verb.done}" + (f", {skipped} skipped" if skipped else ""))
    if refused:
        raise CommandError("; ".join(refused.values()))


def change(verb: Verb, ids: Sequence[str], *, explain: bool) -> tuple[int, dict[str, str]]:
    """(how many changed, why others did not, by id). explain: one at a time, to know why."""
    everything: NotificationQuerySet = NotificationEvent.objects.all()
    changed, refused = 0, {}
    with Progress(terminal(), verb.name, len(ids)) as bar:
        for batch in batched(ids, 1 if explain else BATCH):
            moved = verb.change(everything.filter(pk__in=batch)).changed
            changed += moved
            if explain and not moved:
                refused[batch[0]] = why_not(everything, verb, batch[0])
            bar.update(changed)
    return changed, refused


def why_not(rows: NotificationQuerySet, verb: Verb, event_id: str) -> str:
    try:
        refusal: TransitionRefused = rows.refusal(verb.name, event_id)
    except NotificationEvent.DoesNotExist:
        return unknown(event_id)
    return str(refusal)


def unknown(event_id: str) -> str:
    return f"there is no notification {printable(event_id)}"


def say_would(
    verb: Verb, movable: NotificationQuerySet, total: int, screen: Screen, *, as_one_line: bool
) -> None:
    number = movable.count()
    skipped = max(0, total - number)
    if as_one_line:
        screen.plain(as_json({"dry_run": True, verb.done: number, "skipped": skipped}))
        return
    if number:
        show_groups(movable, screen)
    also = f", {skipped} skipped" if skipped else ""
    screen.plain(f"{number} would be {verb.done}{also}; nothing was changed")


def agreed(verb: Verb, movable: NotificationQuerySet, screen: Screen) -> bool:
    """What the person at the terminal says; nobody need be asked about nothing."""
    number = movable.count()
    if not number:
        return True
    show_groups(movable, screen)
    screen.plain(f"{verb.name.capitalize()} {number} notifications? [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def show_groups(rows: NotificationQuerySet, screen: Screen) -> None:
    groups = rows.order_by().values_list("channel", "last_error").annotate(number=Count("pk"))
    largest = groups.order_by("-number", "channel", "last_error")[:GROUPS]
    cells = [(channel, number, error or "") for channel, error, number in largest]
    screen.table(("CHANNEL", "NUMBER", "LAST ERROR"), cells)
