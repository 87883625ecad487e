"""The page of one channel: what holds it, a test alert through it, a pause of it, and its last attempts."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import Max, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from .. import conf
from ..database import database_now
from ..engine import trial
from ..engine.trial import Trial
from ..models import AttemptOutcome, DeliveryAttempt, Hold, NotificationEvent
from ..models.fields import is_channel
from ..operations.survey import spelled
from ..operations.verbs import REQUEUE
from ..reporting import held
from ..reporting.held import HoldWords
from ..text import fold, isolated
from . import cells
from .console import Console
from .operation import log_text as log

LOOKED_AT = 10_000  # attempts of all channels
SHOWN = 50
LONGEST = 255  # a channel, a recipient
RAISE = "notifications.add_notificationevent"
TONES: dict[str, str] = {
    AttemptOutcome.SENT: "sent",
    AttemptOutcome.PERMANENT: "dead",
    AttemptOutcome.NO_NOTIFIER: "dead",
}


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of a test alert. lifted: how many held endpoints it opened again."""

    recipient: str
    delivered: bool
    text: str
    dialogue: list[str]
    lifted: int = 0


def page(console: Console, request: HttpRequest) -> HttpResponse:
    name = _text(request.GET.get("name", ""))
    if not name or len(name) > LONGEST:
        said = {"title": "No such channel", "name": "name", "why": "it is the name of a channel"}
        answer = console.respond(request, "unknown.html", said)
        answer.status_code = 400
        return answer
    tested, fault = None, ""
    if request.method == "POST":
        if not REQUEUE.allowed_to(request.user):
            raise PermissionDenied
        tested, fault = _test(request, spelled(name))
    return _shown(console, request, spelled(name), tested, fault)


def _shown(
    console: Console, request: HttpRequest, channel: str, tested: Tested | None, fault: str
) -> HttpResponse:
    now, settings = database_now(), conf.current()
    recipient = _text(request.POST.get("recipient", request.GET.get("recipient", "")))
    attempts, further = _attempts(request, channel)
    context = {
        "title": f"Channel {isolated(channel)}",
        "channel": channel,
        "configured": settings.channel(channel) is not None,
        "holds": _holds(channel, settings),
        "open": cells.state_badge(cells.DELIVERING),
        "all_open": held.ALL_OPEN,
        "attempts": attempts,
        "looked_at": f"{LOOKED_AT:,}",
        "further": further,
        "only_failed": "failed" in request.GET,
        "address": f"{request.path}?{urlencode({'name': channel})}",
        "recipient": recipient or _newest_recipient(channel),
        "tested": tested,
        "fault": fault,
        "at": now,
        "may": REQUEUE.allowed_to(request.user),
        "may_raise": request.user.has_perm(RAISE),
    }
    return console.respond(request, "channel.html", context)


def _holds(channel: str, settings: conf.Conf) -> list[tuple[Hold, HoldWords, SafeString]]:
    now = database_now()
    mine = [hold for hold in held.in_force(now) if fold(hold.channel) == fold(channel)]
    said = [(hold, held.in_words(hold, now, settings.hold_limit)) for hold in mine[:SHOWN]]
    return [(hold, words, cells.state_badge(words.state)) for hold, words in said]


def _newest_recipient(channel: str) -> str:
    """To whom it sent last, among the newest attempts."""
    delivered = _among(_end(), channel).filter(outcome=AttemptOutcome.SENT)
    found = delivered.select_related("notification").first()
    return found.notification.recipient if found else ""


# The log


def _end() -> int:
    """Behind the newest attempt."""
    newest: int | None = DeliveryAttempt.objects.aggregate(last=Max("pk"))["last"]
    return (newest or 0) + 1


def _among(end: int, channel: str) -> QuerySet[DeliveryAttempt]:
    """The channel's attempts among so many of all channels before `end`, the newest first."""
    stretch = DeliveryAttempt.objects.filter(pk__lt=end, pk__gte=end - LOOKED_AT).order_by("-pk")
    mine: QuerySet[DeliveryAttempt] = stretch.filter(is_channel(channel))
    return mine


def _attempts(request: HttpRequest, channel: str) -> tuple[list[tuple[DeliveryAttempt, str]], str]:
    """(attempt, its tone) of a page, and the address of what lies further back; "" where that is all."""
    given, failed = request.GET.get("before", ""), "failed" in request.GET
    end = int(given) if given.isascii() and given.isdecimal() and len(given) < 19 else _end()
    rows = _among(end, channel).select_related("notification").defer("notification__message")
    found = list((rows.exclude(outcome=AttemptOutcome.SENT) if failed else rows)[: SHOWN + 1])
    shown = [(attempt, TONES.get(attempt.outcome, "failed")) for attempt in found[:SHOWN]]
    further = found[SHOWN - 1].pk if len(found) > SHOWN else end - LOOKED_AT
    if not DeliveryAttempt.objects.filter(pk__lt=further).exists():
        return shown, ""
    asked = {"name": channel, "before": further} | ({"failed": 1} if failed else {})
    return shown, f"?{urlencode(asked)}#log"


# A test alert


def _test(request: HttpRequest, channel: str) -> tuple[Tested | None, str]:
    """(what came of it, why it was not sent)."""
    settings, recipient = conf.current(), _text(request.POST.get("recipient", ""))
    if settings.channel(channel) is None:
        return None, f"{isolated(channel)} is not configured."
    if not recipient or len(recipient) > LONGEST:
        return None, "Say to whom."
    if not _may_send_to(request, channel, recipient):
        return None, (
            f"Nothing was ever raised for {isolated(recipient)} on {isolated(channel)}: to send to anybody"
            " else needs the permission to raise alerts."
        )
    try:
        tried = trial.send(channel, recipient, trial.TEXT, trial.TYPE, settings)
    except ImproperlyConfigured as error:
        return None, str(error)
    tested = _told(tried, recipient)
    log(request, f"Test alert on {isolated(channel)} to {isolated(recipient)}: {tested.text}")
    return tested, ""


def _may_send_to(request: HttpRequest, channel: str, recipient: str) -> bool:
    """Who may requeue sends to those who were owed something; who may raise alerts, to anybody."""
    known = NotificationEvent.objects.filter(recipient=recipient).on_channel(channel)
    return request.user.has_perm(RAISE) or known.exists()


def _told(tried: Trial, recipient: str) -> Tested:
    if tried.error:
        text = f"Not delivered: {tried.error} (after {tried.seconds:.2f} s)"
        return Tested(recipient, False, text, tried.dialogue)
    answer = tried.delivered and " ".join(
        str(part) for part in (tried.delivered.status, tried.delivered.detail) if part
    )
    text = f"Delivered in {tried.seconds:.2f} s{f': {answer}' if answer else ''}"
    return Tested(recipient, True, text, tried.dialogue, trial.lift_holds(tried))


def _text(value: str) -> str:
    return value.replace("\x00", "").strip()
