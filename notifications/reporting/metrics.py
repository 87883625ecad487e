"""The notifications' part of /metrics: the snapshot in Prometheus' terms.

It is read from the database at each scrape, because what happens happens in other processes. `page` is a view
for a site's urls.py, with all that its process registers with prometheus_client.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from prometheus_client.core import (
    REGISTRY,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from .. import database
from ..database import said, without_transaction
from ..models import DURATIONS
from ..text import one_line
from .access import refusal
from .figures import EXACT_UP_TO, MOST_WITH_AN_ERROR, AttemptTotals, Snapshot
from .snapshot import snapshot

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 2
BOUNDS = [*(str(float(bound)) for bound in DURATIONS), "+Inf"]


class NotificationsCollector(Collector):
    """Asks the database when Prometheus asks us. Without the database it has nothing to say, quickly."""

    def describe(self) -> Iterable[Metric]:
        """The names, so that registering asks the database nothing."""
        return [
            dead(),
            by_status(),
            stranded(),
            not_delivered(),
            refused(),
            oldest_due(),
            attempts(),
            durations(),
            last_sweep(),
        ]

    def collect(self) -> Iterator[Metric]:
        if answers():
            yield from families(snapshot(details=False))
            for others in OTHERS:
                yield from whole(others)


OTHERS: list[Callable[[], Iterable[Metric]]] = []


def also(others: Callable[[], Iterable[Metric]]) -> None:
    """What another app of ours has to say at each scrape."""
    if others not in OTHERS:
        OTHERS.append(others)


def whole(others: Callable[[], Iterable[Metric]]) -> list[Metric]:
    """What fails is left out, and the page stays."""
    try:
        with database.atomic():
            return list(others())
    except Exception as error:
        logger.warning("a part of the metrics cannot be had: %s", said(error))
        return []


def register(registry: CollectorRegistry = REGISTRY) -> None:
    registry.register(NotificationsCollector())


@without_transaction
@csrf_exempt
@require_safe
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """What Prometheus scrapes, for METRICS_ACCESS."""
    if (refused := refusal("METRICS_ACCESS", request)) is not None:
        return refused
    return HttpResponse(generate_latest(everything()), content_type=CONTENT_TYPE_LATEST)


def everything() -> CollectorRegistry:
    """The process's own metrics; under PROMETHEUS_MULTIPROC_DIR those of all its site's processes, and ours,
    which each of them has whole."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    register(together)
    return together


def answers() -> bool:
    """Whether the database takes a connection now, found out within CONNECT_SECONDS.

    A pool, or a host that is gone, would keep us waiting longer than Prometheus waits for the page.
    """
    connection = database.connection()
    if connection.connection is not None or connection.vendor != "postgresql":
        return True
    probe = connection.copy()
    probe.settings_dict["OPTIONS"] |= {"pool": False, "connect_timeout": CONNECT_SECONDS}
    try:
        probe.ensure_connection()
    except Exception as error:
        logger.warning("the database takes no connection: %s", one_line(str(error)))
        return False
    finally:
        probe.close()
    return True


def families(shown: Snapshot) -> Iterator[Metric]:
    """The metrics; those whose part of the snapshot is missing are missing."""
    if shown.counts is not None:
        yield dead(shown.counts["dead"])
        yield by_status(shown.counts.items())
    if shown.stranded is not None:
        yield stranded(shown.stranded)
    if shown.not_delivered is not None:
        yield not_delivered(shown.not_delivered)
    if shown.refused is not None:
        yield refused(shown.refused)
    if shown.oldest_due is not None:
        yield oldest_due(shown.oldest_due)
    if shown.attempts is not None:
        yield attempts(shown.attempts.items())
        yield durations(shown.attempts.items())
    if shown.withdrawn is not None:
        yield withdrawn(shown.withdrawn.items())
    if shown.last_sweeps is not None:
        ended = {kind: run.ended_at.timestamp() if run else 0 for kind, run in shown.last_sweeps.items()}
        yield last_sweep(ended.items())


def dead(count: int | None = None) -> Metric:
    # certctl made it a counter, though a requeue takes from it; the client library appends _total.
    text = "Notifications in the dead-letter queue now (a counter by name only; see certctl_notifications)."
    return CounterMetricFamily("certctl_notification_dead", text, value=count)


def by_status(counts: Iterable[tuple[str, int]] = ()) -> Metric:
    text = f"Notifications by status; a count above {EXACT_UP_TO:,} is an estimate."
    family = GaugeMetricFamily("certctl_notifications", text, labels=["status"])
    for status, count in counts:
        family.add_metric([status], count)
    return family


def stranded(count: int | None = None) -> Metric:
    text = "Failed notifications without a next retry: no sweep takes them."
    return GaugeMetricFamily("certctl_notifications_stranded", text, value=count)


def not_delivered(count: int | None = None) -> Metric:
    text = (
        "Sent notifications that were not delivered, because their channel had no notifier;"
        f" looked for among the newest {MOST_WITH_AN_ERROR:,} that have an error."
    )
    return GaugeMetricFamily("certctl_notifications_not_delivered", text, value=count)


def refused(count: int | None = None) -> Metric:
    text = "Undelivered notifications of which the database takes no change; the log has the reasons."
    return GaugeMetricFamily("certctl_notifications_refused", text, value=count)


def oldest_due(seconds: float | None = None) -> Metric:
    text = "How long the oldest due notification has been waiting; 0 when none is due."
    return GaugeMetricFamily("certctl_notification_oldest_due_seconds", text, value=seconds)


def attempts(by_channel: Iterable[tuple[str, AttemptTotals]] = ()) -> Metric:
    text = "Delivery attempts by how they ended."
    family = CounterMetricFamily("certctl_notification_attempts", text, labels=["channel", "outcome"])
    for channel, made in by_channel:
        for outcome, count in made.outcomes.items():
            family.add_metric([channel, outcome], count)
    return family


def withdrawn(by_channel: Iterable[tuple[str, int]] = ()) -> Metric:
    text = (
        "Notifications that were withdrawn, because their certificates were renewed before they had arrived."
    )
    family = CounterMetricFamily("certctl_notifications_withdrawn", text, labels=["channel"])
    for channel, count in by_channel:
        family.add_metric([channel], count)
    return family


def durations(by_channel: Iterable[tuple[str, AttemptTotals]] = ()) -> Metric:
    text = "How long delivery attempts took; without those that were interrupted or had no notifier."
    family = HistogramMetricFamily("certctl_notification_attempt_duration_seconds", text, labels=["channel"])
    for channel, made in by_channel:
        buckets = list(zip(BOUNDS, accumulate(made.took), strict=True))
        family.add_metric([channel], buckets=buckets, sum_value=made.seconds)
    return family


def last_sweep(ended: Iterable[tuple[str, float]] = ()) -> Metric:
    text = "When the last sweep ended; 0 for a kind that never ran."
    family = GaugeMetricFamily("certctl_notification_last_sweep_timestamp_seconds", text, labels=["kind"])
    for kind, timestamp in ended:
        family.add_metric([kind], timestamp)
    return family
