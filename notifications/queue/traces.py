"""In which spans alerts were raised, for the spans of their attempts."""

from __future__ import annotations

import logging

from ..database import said
from ..models import Trace
from ..notifiers import tracing
from .claim import Claimed

logger = logging.getLogger(__name__)


def recall(claimed: list[Claimed]) -> None:
    """Give each where it was raised; asks the database where spans are wanted, and can do without it."""
    if not (claimed and tracing.wanted()):
        return
    rows = Trace.objects.filter(notification__in=[event.id for event in claimed])
    try:
        found = dict(rows.values_list("notification", "context"))
    except Exception as error:
        logger.warning("in which spans alerts were raised is not known: %s", said(error))
        return
    for n, event in enumerate(claimed):
        if event.id in found:
            claimed[n] = event._replace(traced=found[event.id])
