"""One test alert through a channel's notifier, without a row; it says itself that it is one."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass

from django.db.models import Q
from django.utils import timezone

from .. import conf
from ..database import database_now, wake_workers
from ..endpoints import holds
from ..exceptions import DeliveryError, UnknownOutcome
from ..notifiers.base import Delivered, Message, Notifier
from ..notifiers.loading import load
from .outcome import as_delivery_error

TYPE, TEXT = "Test", "This is a test of certctl's notifications. Nothing is wrong, and nothing is to be done."


@dataclass(frozen=True, slots=True)
class Trial:
    """What the provider answered: `delivered` or `error`, and how long that took in seconds.

    dialogue  how far it came, a line each: the address that was connected with; of a mail server all replies
    """

    notifier: Notifier
    message: Message
    seconds: float
    delivered: Delivered | None = None
    error: DeliveryError | None = None

    @property
    def dialogue(self) -> list[str]:
        said = self.error or self.delivered
        return list(said.dialogue) if said else []


def send(channel: str, recipient: str, text: str, type: str, settings: conf.Conf) -> Trial:
    """Send one alert that no row stands behind; `channel` as the settings spell it.

    Raises ImproperlyConfigured when the channel's notifier cannot be made.
    """
    within = settings.send_timeout.total_seconds()
    notifier = load(channel, settings.channels[channel], within)
    notifier.verbose = True
    message = Message(
        id=f"test-{uuid.uuid4()}",
        type=type,
        channel=channel,
        recipient=recipient,
        message=text,
        certificate_id=None,
        created_at=timezone.now(),
    )
    start = time.monotonic()
    answer = asyncio.run(_answer(notifier, message, within))
    seconds = time.monotonic() - start
    if isinstance(answer, DeliveryError):
        return Trial(notifier, message, seconds, error=answer)
    return Trial(notifier, message, seconds, delivered=answer)


async def _answer(notifier: Notifier, message: Message, within: float) -> Delivered | DeliveryError:
    try:
        async with asyncio.timeout(within):
            return await notifier.send(message)
    except TimeoutError:
        return UnknownOutcome(f"no answer within {within:g} s; it may have arrived")
    except Exception as error:
        return as_delivery_error(error)
    finally:
        await notifier.close()
        await notifier.http.close()


def lift_holds(trial: Trial) -> int:
    """The endpoint delivers, so nothing need wait for it any more: how many holds that ended.

    An operator's pause stays: it says nothing about the endpoint's health.
    """
    endpoint = trial.notifier.endpoint(trial.message)
    same = Q(endpoint=endpoint.key)
    same |= Q(channel=endpoint.channel, recipient_prefix=trial.message.recipient, exact=True)
    ended = holds.reopen(same, now=database_now())
    wake_workers()
    return ended
