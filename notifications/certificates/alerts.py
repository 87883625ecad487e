"""What is to be raised of what was seen, and the raising of it: through `notify`, once, in the recorder's
transaction."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError

from .. import database
from ..conf import Addressee
from ..database import said
from ..models import EventType, NotificationEvent
from ..text import cut, fold, one_line
from . import messages, reloads, thresholds
from .models import ENDS, STALE, Certificate, Raised, Sighting, Watch
from .reloads import Behind
from .settling import unsettle
from .verdicts import REVOCATIONS, TOLD_BY_THRESHOLDS

logger = logging.getLogger(__name__)

PATIENCE = timedelta(days=1)  # that something may be wrong or unreadable
LONGEST_MESSAGE = 20_000
LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that one addressee is to be told of one certificate, or of a watch that saw none.

    what    that it is; together with the certificate and the addressee it is told once
    common  by which findings that are told in one message are alike; "" for what
    covers  what need not be told any more after it
    head    what is said of it, where that is not a certificate's end
    """

    to: Addressee
    type: EventType
    what: str
    certificate: Certificate | None = None
    watch: Watch | None = None
    common: str = ""
    covers: tuple[str, ...] = ()
    head: str = ""
    places: list[str] = field(default_factory=list)

    @property
    def subject(self) -> str:
        return self.certificate.fingerprint if self.certificate else f"watch:{self.watch and self.watch.pk}"

    def key(self, what: str) -> str:
        parts = (self.subject, what, fold(self.to.channel), self.to.recipient)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


MANY = {
    "wrong": "{} certificates would be refused by a client that verifies",
    "revoked": "{} certificates are revoked",
    "unreadable": "At {} places no certificate could be read for a day",
    "stale": "At {} places a certificate was renewed and not reloaded",
    "renewed": "{} certificates were renewed",
    "changed": "{} certificates have another issuer or key than before",
}


def ends(seen: Iterable[tuple[Watch, Sighting]], now: datetime) -> list[Finding]:
    """Of the certificates that were seen now those that have passed a threshold."""
    passed = [(watch, sighting) for watch, sighting in seen if _has_passed(watch, sighting.certificate, now)]
    ending = {sighting.certificate_id for _, sighting in passed}
    unsettle(ending, now)
    told = _told(ending)
    found: dict[tuple[str, str], Finding] = {}
    for watch, sighting in passed:
        certificate = sighting.certificate
        for to in watch.addressees:
            raised = told[certificate.pk, fold(to.channel), to.recipient]
            due = thresholds.due(watch.thresholds, raised, certificate.not_before, certificate.not_after, now)
            if due is None:
                continue
            finding = Finding(
                to,
                EventType.EXPIRATION_WARNING,
                ENDS + due.threshold.text,
                certificate,
                covers=tuple(ENDS + text for text in due.covers),
            )
            found.setdefault((finding.key(""), finding.what), finding).places.append(sighting.place)
    return _most_urgent(found.values())


def _has_passed(watch: Watch, certificate: Certificate, now: datetime) -> bool:
    dates = certificate.not_before, certificate.not_after
    return any(threshold.moment(*dates) <= now for threshold in watch.thresholds)


def _told(certificates: set[Any]) -> dict[tuple[Any, str, str], set[str]]:
    """The thresholds that were raised, by certificate, folded channel and recipient."""
    found: dict[tuple[Any, str, str], set[str]] = defaultdict(set)
    rows = Raised.objects.filter(certificate__in=certificates, undone_at=None, what__startswith=ENDS)
    for certificate, channel, recipient, what in rows.values_list(
        "certificate", "channel", "recipient", "what"
    ):
        found[certificate, fold(channel), recipient].add(what.removeprefix(ENDS))
    return found


def _most_urgent(findings: Iterable[Finding]) -> list[Finding]:
    """Two watches with other thresholds may have one addressee: one alert, the most urgent."""
    best: dict[str, Finding] = {}
    for finding in findings:
        before = best.get(finding.key(""))
        if before is None or _moment(finding) > _moment(before):
            best[finding.key("")] = finding
    return list(best.values())


def _moment(finding: Finding) -> datetime:
    threshold, certificate = thresholds.parse(finding.what.removeprefix(ENDS)), finding.certificate
    return (
        threshold.moment(certificate.not_before, certificate.not_after) if certificate else thresholds.FIRST
    )


def wrongs(seen: Iterable[tuple[Watch, Sighting]], now: datetime) -> list[Finding]:
    """What a client that verifies would have refused for a day; and at once what is revoked."""
    found = list[Finding]()
    for watch, sighting in seen:
        if revoked := sorted(REVOCATIONS.intersection(sighting.verdicts)):
            head = messages.is_wrong(sighting.certificate, revoked)
            found += _for_all(watch, EventType.REVOCATION, "revoked", sighting, head)
        verdicts = _lasting(sighting, now)
        if verdicts:
            head = messages.is_wrong(sighting.certificate, verdicts)
            what = cut(f"wrong:{','.join(verdicts)}", 100)
            found += _for_all(watch, EventType.POLICY_VIOLATION, what, sighting, head)
    return found


def _lasting(sighting: Sighting, now: datetime) -> list[str]:
    """Of its verdicts those that are so for a day."""
    others = set(sighting.verdicts_since) - TOLD_BY_THRESHOLDS - REVOCATIONS
    since = {verdict: datetime.fromisoformat(sighting.verdicts_since[verdict]) for verdict in others}
    return sorted(verdict for verdict, at in since.items() if at <= now - PATIENCE)


def unreadable(watches: Iterable[Watch], now: datetime) -> list[Finding]:
    return [
        Finding(
            to,
            EventType.POLICY_VIOLATION,
            f"unreadable:{watch.failing_since.isoformat()}",
            watch=watch,
            common="unreadable",
            head=messages.is_unreadable(watch.target, watch.failing_since, watch.problem),
        )
        for watch in watches
        if watch.failing_since and watch.failing_since <= now - PATIENCE
        for to in watch.addressees
    ]


def stale(behind: Iterable[Behind], now: datetime) -> list[Finding]:
    """Where a server still shows what is older than its file, of each certificate there once. Where its watch
    tells nobody, those of the file are told."""
    late: dict[int, Behind] = {}
    for one in behind:
        if one.is_late(now):
            late[one.shown.pk] = max(late.get(one.shown.pk, one), one, key=lambda each: each.likeness)
    found = list[Finding]()
    for one in late.values():
        old, new = one.shown, one.held
        what = f"{STALE}{new.certificate.fingerprint}:{one.watch.pk}"
        head = messages.is_stale(old.certificate, new.certificate, new.place)
        to = one.watch.addressees or new.watch.addressees
        found += _for_all(one.watch, EventType.DEPLOYMENT_FAILURE, what, old, head, to)
    return found


def followed(watch: Watch, sighting: Sighting, before: Certificate) -> list[Finding]:
    """Of a certificate that came to its place after another one."""
    found, certificate = list[Finding](), sighting.certificate
    if watch.on_renewal and reloads.renews(certificate, before):
        head = messages.is_renewed(certificate)
        found += _for_all(watch, EventType.RENEWAL_SUCCESS, "renewed", sighting, head)
    changed = [name for name in ("issuer", "key") if getattr(certificate, name) != getattr(before, name)]
    if watch.on_change and changed:
        head = messages.has_changed(certificate, changed, before)
        found += _for_all(watch, EventType.POLICY_VIOLATION, f"changed:{','.join(changed)}", sighting, head)
    return found


def _for_all(
    watch: Watch,
    type: EventType,
    what: str,
    sighting: Sighting,
    head: str,
    to: Sequence[Addressee] | None = None,
) -> Iterable[Finding]:
    """to: whom, where they are not the watch's."""
    common = what.partition(":")[0]
    return [
        Finding(one, type, what, sighting.certificate, watch, common, head=head, places=[sighting.place])
        for one in (watch.addressees if to is None else to)
    ]


def raise_all(findings: Iterable[Finding], now: datetime) -> list[str]:
    """Raise what was not raised before: the notifications' ids. Together, what one addressee is to be told of
    several certificates. Call it in a transaction."""
    groups: dict[tuple[str, str, str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        what, to = finding.common or finding.what, finding.to
        groups[what, finding.type, fold(to.channel), to.recipient].append(finding)
    return [event for group in groups.values() if (event := _raise(group, now))]


def _raise(group: Sequence[Finding], now: datetime) -> str | None:
    """What cannot be raised leaves no record that it was: the next look tries again."""
    try:
        with database.atomic():
            return _raise_new(_new(group, now), now)
    except (ValidationError, DataError) as error:
        logger.error("an alert about certificates is refused: %s", said(error))
        return None


class _New(list[Finding]):
    batch: str


def _new(group: Sequence[Finding], now: datetime) -> _New:
    """Those of them that nobody has raised before, also not at this moment: they are on record as ours."""
    found = _New()
    found.batch = str(uuid4())
    rows = {
        finding.key(what): Raised(
            key=finding.key(what),
            certificate=finding.certificate,
            watch=None if finding.certificate else finding.watch,
            what=what,
            channel=finding.to.channel,
            recipient=finding.to.recipient,
            batch=found.batch,
            at=now,
        )
        for finding in group
        for what in (*finding.covers, finding.what)
    }
    Raised.objects.bulk_create(rows.values(), ignore_conflicts=True)
    ours = set(Raised.objects.filter(batch=found.batch).values_list("key", flat=True))
    found += [finding for key, finding in _once(group).items() if key in ours]
    return found


def _once(group: Iterable[Finding]) -> dict[str, Finding]:
    """Each with all the places of those that say the same."""
    found: dict[str, Finding] = {}
    for finding in group:
        first = found.setdefault(finding.key(finding.what), finding)
        if first is not finding:
            first.places.extend(finding.places)
    return found


def _raise_new(new: _New, now: datetime) -> str | None:
    if not new:
        return None
    first = new[0]
    before = Raised.objects.filter(certificate__in=[one.certificate for one in new if one.certificate])
    undone = before.exclude(undone_at=None).values_list("key", flat=True)
    # What was forgotten and is shown again has another number.
    numbers = {f"{one.certificate.pk}" for one in new if one.certificate}
    keys = "\0".join(sorted([*(finding.key(finding.what) for finding in new), *undone, *numbers]))
    alone = first.certificate if len(new) == 1 else None
    event = _notify(
        type=first.type,
        channel=first.to.channel,
        recipient=first.to.recipient,
        message=cut(_message(new, now), LONGEST_MESSAGE),
        certificate_id=named(alone) if alone else None,
        dedup_key=f"certificates:{hashlib.sha256(keys.encode()).hexdigest()}",
        **_ends(new),
    )
    Raised.objects.filter(batch=new.batch).update(event=event.pk)
    return str(event.pk)


def _ends(new: Sequence[Finding]) -> dict[str, Any]:
    """When the first of the certificates ends, where something is to be done before that."""
    certificates = [one.certificate for one in new if one.certificate]
    if not certificates or new[0].type == EventType.RENEWAL_SUCCESS:
        return {}
    return {
        "not_after": min(one.not_after for one in certificates),
        "fingerprints": sorted({one.fingerprint for one in certificates}),
    }


def _notify(**fields: Any) -> NotificationEvent:
    """Where certctl's own certificates are what an alert is about, ours is none of them."""
    notify: Callable[..., tuple[NotificationEvent, bool]] = NotificationEvent.objects.notify
    try:
        return notify(**fields)[0]
    except IntegrityError:
        return notify(**fields | {"certificate_id": None})[0]


def named(certificate: Certificate) -> str:
    """What a notification calls it."""
    return cut(one_line(certificate.title), LONGEST_NAME)


def _message(new: Sequence[Finding], now: datetime) -> str:
    first = new[0]
    if first.what.startswith(ENDS):
        told = [(one.certificate, one.places) for one in new if one.certificate]
        return messages.of_ends(told, first.what.removeprefix(ENDS), now)
    return messages.of_each([(one.head, one.places) for one in new], MANY[first.common])
