"""What is to be watched, as it is written down: from a TOML file that is the whole state, or one by one.

[defaults]
notify = ["Slack:#pki"]

[[watch]]
targets = ["www.example.com", "/etc/letsencrypt/live"]
at = ["30d", "7d"]
every = "6h"
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db.models import QuerySet

from .. import database, durations
from ..database import database_now
from ..text import cut, one_line
from .models import Watch
from .settling import remove

MOST_BYTES = 16 * 1024 * 1024
MOST = 100_000
BATCH = 500
OPTIONS = (
    "notify",
    "at",
    "interval",
    "host",
    "password_file",
    "ca_file",
    "served_by",
    "on_change",
    "on_renewal",
)
KINDS: dict[str, tuple[type, str]] = {
    "target": (str, "a text"),
    "targets": (list, "a list of texts"),
    "notify": (list, "a list of Channel:recipient"),
    "at": (list, "a list of thresholds"),
    "every": (str, "a duration such as 12h"),
    "host": (str, "a text"),
    "password_file": (str, "a path"),
    "ca_file": (str, "a path"),
    "served_by": (list, "a list of endpoints"),
    "on_change": (bool, "true or false"),
    "on_renewal": (bool, "true or false"),
}


class BadState(ValueError):
    """It cannot be what is to be watched; str() says why, in one line."""


class Change(NamedTuple):
    """kind: added, changed, removed or same; what: of a change, the options."""

    kind: str
    watch: Watch
    what: tuple[str, ...] = ()


@dataclass
class Plan:
    """What would have to be done."""

    changes: list[Change] = field(default_factory=list)

    def of(self, kind: str) -> list[Watch]:
        return [change.watch for change in self.changes if change.kind == kind]

    def counts(self) -> dict[str, int]:
        return {kind: len(self.of(kind)) for kind in ("added", "changed", "removed", "same")}

    def __str__(self) -> str:
        return ", ".join(f"{count} {kind}" for kind, count in self.counts().items())


def read(text: str) -> list[Watch]:
    """The watches that a file describes. Raises BadState."""
    try:
        told = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadState(f"the file is no TOML: {one_line(str(error))}") from error
    if unknown := sorted(told.keys() - {"defaults", "watch"}):
        raise BadState(f"the file has no part {_shown(unknown[0])}; the parts are defaults, watch")
    entries, defaults = told.get("watch", []), told.get("defaults", {})
    if not isinstance(entries, list) or not isinstance(defaults, dict):
        raise BadState("the file's parts are [defaults] and, for each, [[watch]]")
    _check(defaults, "defaults", KINDS.keys() - {"target", "targets", "served_by"})
    found: dict[str, Watch] = {}
    for number, entry in enumerate(entries, 1):
        for watch in _watches(entry, defaults, f"watch {number}"):
            if watch.target in found:
                raise BadState(f"watch {number}: {_shown(watch.target)} is named twice")
            found[watch.target] = watch
    if not found:
        raise BadState("the file names no target, and all would be removed")
    if len(found) > MOST:
        raise BadState(f"the file names more than {MOST:,} targets")
    return list(found.values())


def _watches(entry: Any, defaults: Mapping[str, Any], where: str) -> Iterator[Watch]:
    if not isinstance(entry, dict):
        raise BadState(f"{where} is no table")
    _check(entry, where, KINDS.keys())
    given: dict[str, Any] = {**defaults, **entry}
    targets: list[str] = [*given.pop("targets", [])]
    targets += [given.pop("target")] if "target" in given else []
    if not targets:
        raise BadState(f"{where} names no target")
    if every := given.pop("every", None):
        given["interval"] = _duration(every, where)
    for target in targets:
        try:
            yield made(target, **given)
        except ValidationError as error:
            raise BadState(f"{where}: {faults(error)}") from error


def _check(given: Mapping[str, Any], where: str, known: Collection[str]) -> None:
    for name, value in given.items():
        if name not in known:
            options = ", ".join(each for each in KINDS if each in known)
            raise BadState(f"{where} has no option {_shown(name)}; the options are {options}")
        kind, words = KINDS[name]
        if not isinstance(value, kind) or (kind is list and not _are_texts(value)):
            raise BadState(f"{where}: {name} is {words}")


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _duration(text: str, where: str) -> timedelta:
    try:
        return durations.parse(text)
    except ValueError as error:
        raise BadState(f"{where}: every: {error}") from error


def made(target: str, **options: Any) -> Watch:
    """An unsaved watch. Raises ValidationError, which names what is wrong."""
    watch = Watch(target=target, **options)
    watch.full_clean(validate_unique=False)
    return watch


def faults(error: ValidationError) -> str:
    """In one line, with what an option is called where it is written."""
    told = {"every" if name == "interval" else name: said for name, said in error.message_dict.items()}
    return "; ".join(f"{name}: {one_line(' '.join(said))}" for name, said in told.items())


def planned(wanted: Iterable[Watch], *, whole: bool) -> Plan:
    """What makes these be watched so. whole: and nothing else."""
    new = {watch.target: watch for watch in wanted}
    there: QuerySet[Watch] = Watch.objects.all() if whole else Watch.objects.filter(target__in=list(new))
    plan = Plan()
    for old in there.order_by("target"):
        one = new.pop(old.target, None)
        if one is None:
            plan.changes.append(Change("removed", old))
            continue
        what = tuple(name for name in OPTIONS if getattr(old, name) != getattr(one, name))
        for name in what:
            setattr(old, name, getattr(one, name))
        plan.changes.append(Change("changed" if what else "same", old, what))
    plan.changes += [Change("added", watch) for watch in new.values()]
    return plan


def carry_out(plan: Plan) -> None:
    """In one transaction. What is new or changed is due now."""
    with database.atomic():
        now = database_now()
        for watch in (added := plan.of("added")):
            watch.next_check_at = watch.created_at = now
        for watch in (changed := plan.of("changed")):
            watch.next_check_at = now
        Watch.objects.bulk_create(added, batch_size=BATCH, ignore_conflicts=True)
        Watch.objects.bulk_update(changed, [*OPTIONS, "next_check_at"], batch_size=BATCH)
        removed = [watch.pk for watch in plan.of("removed")]
        for start in range(0, len(removed), BATCH):
            remove(removed[start : start + BATCH])


def _shown(text: object) -> str:
    return repr(cut(one_line(str(text)), 100))
