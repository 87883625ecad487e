"""The certificates' part of /metrics, read from the database at each scrape, as the notifications' is.

The number of series is bounded: one for each certificate that is seen now, the MOST_SERIES that end first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from django.db.models import Count, Max, Min, Q, Sum
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .. import database
from ..database import database_now
from ..notifiers.wording import clean
from ..text import cut, one_line
from .calendar import seen_now
from .models import Checks, Watch

MOST_SERIES = 500
SECONDS = 2.0  # that all of it may take


def families() -> Iterator[Metric]:
    """Raises django.db's errors where the database is away, or too slow."""
    with database.in_time(SECONDS):
        now = database_now()
        ending = list(seen_now().order_by("not_after", "pk")[:MOST_SERIES])
        yield not_after((one.title, one.fingerprint, one.not_after) for one in ending)
        yield certificates(ended=seen_now().filter(not_after__lte=now).count(), seen=seen_now().count())
        found = Watch.objects.aggregate(
            new=Count("pk", filter=Q(checked_at=None)),
            failing=Count("pk", filter=~Q(problem="")),
            read=Count("pk", filter=Q(problem="") & ~Q(checked_at=None)),
            last=Max("checked_at"),
            due=Min("next_check_at"),
        )
        yield watches({state: found[state] for state in ("read", "failing", "new")})
        yield checks(dict(Checks.objects.values_list("outcome").annotate(Sum("number")).order_by()))
        yield last_check(found["last"])
        yield overdue(max((now - found["due"]).total_seconds(), 0) if found["due"] else 0)


def not_after(found: Iterable[tuple[str, str, datetime]] = ()) -> Metric:
    text = f"When a certificate that is seen now ends; of more than {MOST_SERIES} those that end first."
    name = "certctl_certificate_not_after_timestamp_seconds"
    family = GaugeMetricFamily(name, text, labels=["name", "fingerprint"])
    for title, fingerprint, at in found:
        family.add_metric([cut(one_line(clean(title)), 100), fingerprint], at.timestamp())
    return family


def certificates(**numbers: int) -> Metric:
    text = "Certificates that are seen now at some place, and those of them that have ended."
    family = GaugeMetricFamily("certctl_certificates", text, labels=["state"])
    for state, number in numbers.items():
        family.add_metric([state], number)
    return family


def watches(numbers: dict[str, int]) -> Metric:
    text = "Watched places by how the last check went: read, failing (something could not be read), or new."
    family = GaugeMetricFamily("certctl_certificate_watches", text, labels=["state"])
    for state, number in numbers.items():
        family.add_metric([state], number)
    return family


def checks(numbers: Mapping[str, int]) -> Metric:
    text = "Checks of watched places that ended, by how: read, or failed (something could not be read)."
    family = CounterMetricFamily("certctl_certificate_checks", text, labels=["outcome"])
    for outcome in ("read", "failed"):
        family.add_metric([outcome], numbers.get(outcome, 0))
    return family


def last_check(at: datetime | None) -> Metric:
    text = "When a place was checked last; 0 for never."
    name = "certctl_certificate_last_check_timestamp_seconds"
    return GaugeMetricFamily(name, text, value=at.timestamp() if at else 0)


def overdue(seconds: float) -> Metric:
    text = "How long the check that is due longest has been waiting; 0 when none is due."
    return GaugeMetricFamily("certctl_certificate_check_overdue_seconds", text, value=seconds)
