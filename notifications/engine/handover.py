"""Handing over: a sweep's rows go to the site's own task engine in batches, under their lease.

That is not an attempt yet: a batch that the engine's workers never began with spends nothing
(models.HandOver, queue.reap). Whoever gets the batch makes the probes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from ..conf import Conf
from ..database import database_now
from ..endpoints.holds import read_endpoints
from ..endpoints.lanes import Lanes
from ..models import HandOver
from ..notifiers.endpoint import Endpoint
from ..queue.claim import Claimed, still_held
from ..queue.release import release
from ..text import one_line
from .connection import Away, Database
from .loop import deliver
from .source import Scope
from .sweep import Clock, InHand, Sweep

logger = logging.getLogger(__name__)

Enqueue = Callable[[list[str], str], object]  # ids, and their lease in ISO 8601


class HandOverSender:
    """Gives batches of TASK_BATCH rows to `enqueue`; patient: one that it cannot take waits."""

    probes = False

    def __init__(
        self,
        database: Database,
        clock: Clock,
        lanes: Lanes[InHand],
        *,
        enqueue: Enqueue,
        settings: Conf,
        patient: bool,
    ) -> None:
        self.database = database
        self.clock = clock
        self.lanes = lanes
        self.enqueue = enqueue
        self.conf = settings
        self.patient = patient
        self.in_flight: set[object] = set()
        self.may_start = True
        self.hungry = False
        self.resolving = frozenset[str]()

    async def close(self) -> None:
        pass

    def room(self) -> int:
        return self.conf.task_batch

    def has_plenty(self) -> bool:
        return False

    def closed(self, *, urgent: bool = False) -> frozenset[Endpoint]:
        return self.lanes.closed(urgent=urgent)

    def scopes(self) -> Iterator[Scope]:
        yield Scope(self.closed())

    def waiting(self) -> int:
        return 0

    async def take_in(self, claimed: list[Claimed], sweep: Sweep) -> tuple[list[Claimed], list[Claimed]]:
        """Raises what the task engine raised when it could not take the batch, unless we are patient: then
        this sweep claims no more. The batch is given back."""
        if not claimed:
            return [], []
        try:
            await self.database.call(self._hand_over, claimed)
        except (Away, ImproperlyConfigured):
            raise
        except Exception as error:
            if not self.patient:
                raise
            logger.warning("the task engine takes no batch: %s", one_line(str(error)))
            sweep.limit = sweep.begun
            return [], claimed
        sweep.begun += len(claimed)
        sweep.handed_over(len(claimed))
        # What the batch's worker has learned already stops the next ones.
        self.lanes.read(await self.database.call(read_endpoints, self.conf, self.clock(), self.probes))
        return [], []

    def _hand_over(self, batch: Sequence[Claimed]) -> None:
        lease = batch[0].leased_until
        HandOver.objects.update_or_create(
            leased_until=lease,
            defaults={"notifications": len(batch), "handed_over_at": self.clock(), "begun_at": None},
        )
        try:
            self.enqueue([event.id for event in batch], lease.isoformat())
        except Exception:
            if not release(batch, due_at=self.clock()).locked:  # else the record says that nobody began
                HandOver.objects.filter(leased_until=lease).delete()
            raise

    def recorded(self, attempts: int) -> None:
        pass

    def give_back(self, everything: bool = False) -> None:
        pass

    def start(self) -> None:
        pass

    def rows(self) -> Iterator[InHand]:
        return iter(())

    async def end(self, at_once: bool) -> None:
        pass


def begin(lease: datetime) -> bool:
    """The engine's worker has the batch now: from here on its rows' attempts count. False where another has
    it: engines run a task twice when they think that its worker died."""
    batch = HandOver.objects.filter(leased_until=lease)
    return bool(batch.filter(begun_at=None).update(begun_at=database_now())) or not batch.exists()


def deliver_batch(ids: Sequence[str], leased_until: str) -> dict[str, float | str]:
    """What a task engine's worker does: deliver those that are still under the lease they were claimed with.

    ids           of at most TASK_BATCH notifications
    leased_until  ISO 8601, as the claim wrote it
    Answers the counts of a sweep.
    """
    lease = datetime.fromisoformat(leased_until)
    mine = still_held(ids, lease)
    if mine and not begin(lease):
        mine = []
    return deliver("batch", mine, conf.current()).as_dict()
