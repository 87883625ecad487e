"""The verbs that change many notifications: choose, ask, do, and say what was refused and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError

from notifications.database import database_now
from notifications.exceptions import TransitionRefused
from notifications.models import NotificationEvent, NotificationQuerySet, Status
from notifications.models.conditions import free
from notifications.operations import bulk
from notifications.operations.filters import DISMISSED, matching
from notifications.operations.survey import ABOUT_RENEWED, grouped, renewed_among
from notifications.operations.verbs import REQUEUE, RESTORE, Verb

from .arguments import check_selection, chosen_filters
from .cli import Progress, terminal
from .display import Screen, as_json, printable

VIA = "cli"
GROUPS = 20  # lines in the question before a bulk change


def run(verb: Verb, options: dict[str, Any], screen: Screen, *, by: str) -> None:
    """Change what the options choose (arguments.add_selection), after asking where filters choose.

    Raises CommandError: 2 for a bad choice or when nobody can be asked, 1 when an id was refused.
    """
    check_selection(options)
    ids = list(dict.fromkeys(options["ids"]))
    asks = not (ids or options["dry_run"] or options["yes"])
    if asks and not sys.stdin.isatty():
        raise CommandError(f"cannot ask whether to {verb.spoken}: no terminal; say --yes", returncode=2)
    filters = chosen_filters(options | {"status": "" if ids else options["status"] or first_of(verb)})
    rows = matching(filters)
    movable = rows.filter(free(database_now()), verb.allows())
    too = bool(options.get("renewed"))
    left_out = renewed_among(movable) if verb is REQUEUE and not too else 0
    if options["dry_run"]:
        total = len(ids) or rows.count()
        say_would(verb, movable, total, screen, left_out=left_out, as_one_line=options["json"])
        return
    if asks and not agreed(verb, movable, screen, left_out):
        raise CommandError("nothing was changed")
    refused: dict[str, str] = {}
    if ids:
        changed, refused = one_by_one(verb, ids, by=by, reason=options["reason"], renewed=too)
        skipped = len(ids) - changed
    else:
        number, reason = movable.count() - left_out, options["reason"]
        changed, skipped = all_of_them(verb, filters.query, number, by=by, reason=reason, renewed=too)
    if options["json"]:
        screen.plain(as_json({verb.counted: changed, "skipped": skipped, "refused": refused}))
    else:
        screen.plain(f"{changed} {verb.counted}" + (f", {skipped} skipped" if skipped else ""))
    if refused:
        raise CommandError("; ".join(refused.values()))


def first_of(verb: Verb) -> str:
    """The status that filters mean where none is named."""
    return DISMISSED if verb is RESTORE else str(Status.DEAD)


def one_by_one(
    verb: Verb, ids: Sequence[str], *, by: str, reason: str, renewed: bool
) -> tuple[int, dict[str, str]]:
    """(how many changed, why others did not, by id)."""
    everything: NotificationQuerySet = NotificationEvent.objects.all()
    changed, refused = 0, {}
    with Progress(terminal(), verb.spoken, len(ids)) as bar:
        for event_id in ids:
            row = everything.filter(pk=event_id)
            if verb.on_rows(row, by=by, via=VIA, reason=reason, renewed=renewed).changed:
                changed += 1
            else:
                refused[event_id] = why_not(everything, verb, event_id)
            bar.update(changed)
    return changed, refused


def all_of_them(
    verb: Verb, filters: str, number: int, *, by: str, reason: str, renewed: bool
) -> tuple[int, int]:
    """(how many changed, how many the rules skipped): one operation on record, done to the end."""
    operation = bulk.start(
        verb, filters=filters, requested=number, by=by, via=VIA, reason=reason, renewed=renewed
    )
    with Progress(terminal(), verb.spoken, number) as bar:
        operation = bulk.finish(operation, lambda so_far: bar.update(so_far.changed))
    return operation.changed, sum(operation.skips.values())


def why_not(rows: NotificationQuerySet, verb: Verb, event_id: str) -> str:
    try:
        refusal: TransitionRefused = rows.refusal(verb.spoken, event_id)
    except NotificationEvent.DoesNotExist:
        return unknown(event_id)
    return str(refusal)


def unknown(event_id: str) -> str:
    return f"there is no notification {printable(event_id)}"


def say_would(
    verb: Verb,
    movable: NotificationQuerySet,
    total: int,
    screen: Screen,
    *,
    left_out: int,
    as_one_line: bool,
) -> None:
    all_of_them = movable.count()
    number = all_of_them - left_out
    skipped = max(0, total - number)
    if as_one_line:
        told = {"renewed": left_out} if left_out else {}
        screen.plain(as_json({"dry_run": True, verb.counted: number, "skipped": skipped, **told}))
        return
    if all_of_them:
        show_groups(movable, screen)
    say_left_out(left_out, all_of_them, screen)
    also = f", {skipped} skipped" if skipped else ""
    screen.plain(f"{number} would be {verb.counted}{also}; nothing was changed")


def say_left_out(left_out: int, number: int, screen: Screen) -> None:
    if left_out:
        screen.plain(f"{left_out} of {number} {ABOUT_RENEWED}, and left out (--renewed takes them too).")


def agreed(verb: Verb, movable: NotificationQuerySet, screen: Screen, left_out: int) -> bool:
    """What the person at the terminal says; nobody need be asked about nothing."""
    all_of_them = movable.count()
    number = all_of_them - left_out
    if all_of_them:
        show_groups(movable, screen)
    say_left_out(left_out, all_of_them, screen)
    if not number:
        return True
    screen.plain(f"{verb.spoken.capitalize()} {number} notifications? [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def show_groups(rows: NotificationQuerySet, screen: Screen) -> None:
    cells = [(group.channel, group.count, group.error) for group in grouped(rows)[:GROUPS]]
    screen.table(("CHANNEL", "NUMBER", "LAST ERROR"), cells)
