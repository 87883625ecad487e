"""What an operator means who types where nothing is to be sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ..endpoints.holds import LONGEST, TOO_LONG
from ..models import NotificationEvent
from ..models.fields import UNDELIVERED
from ..notifiers.endpoint import Endpoint, going_to, is_address
from .survey import capped
from .walk import NEWEST

COUNTED = 1_000  # of what waits
LOOKED_AT = 10_000  # of the newest notifications
HOST = re.compile(r"\[?[\w.:-]*[.:][\w.:-]+\]?", re.ASCII)  # hooks.example.com, localhost:8000, [::1]


class Covered(NamedTuple):
    """The rows that a pause of `recipient` keeps back; prefix: of all that begin with it.

    waiting  how many of them are not delivered yet, up to COUNTED + 1
    recent   how many there are among the newest LOOKED_AT
    """

    channel: str
    recipient: str
    exact: bool
    waiting: int
    recent: int

    @property
    def nothing(self) -> bool:
        """As far as anybody can see: it may be misspelled."""
        return not (self.waiting or self.recent)


def covered(channel: str, typed: str, *, exact: bool) -> Covered:
    """What is typed as an endpoint: as it is, where rows go there, else as the host that it names.

    Raises ValueError for what can be neither.
    """
    if not exact and len(typed.split()) > 1:
        raise ValueError("a host has no blank in it")
    if len(typed) > LONGEST:
        raise ValueError(TOO_LONG)
    found = [_looked_up(channel, *meant) for meant in _meanings(typed.strip(), exact)]
    return next((one for one in found if not one.nothing), found[-1])


def _meanings(typed: str, exact: bool) -> Iterator[tuple[str, bool]]:
    """The likely ones first; the last is what it means where no row tells."""
    host = typed.rstrip("/")
    if exact or not typed or "/" in typed.rstrip("/") or is_address(typed) or not HOST.fullmatch(host):
        whole = is_address(typed) and typed.count("/") == 2 and not exact
        yield (f"{typed}/" if whole else typed), exact
    if typed and not is_address(typed) and HOST.fullmatch(host):
        yield f"http://{host}/", False
        yield f"https://{host}/", False


def _looked_up(channel: str, recipient: str, exact: bool) -> Covered:
    mine = going_to([Endpoint(channel, channel, recipient or None, exact and bool(recipient))])
    waiting = capped(NotificationEvent.objects.filter(mine, status__in=UNDELIVERED), COUNTED)
    newest = NotificationEvent.objects.order_by(*NEWEST).values("pk")[:LOOKED_AT]
    recent = capped(NotificationEvent.objects.filter(mine, pk__in=newest), COUNTED)
    return Covered(channel, recipient, exact and bool(recipient), waiting, recent)
