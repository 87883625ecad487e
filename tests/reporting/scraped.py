"""The page of /metrics, as Prometheus reads it."""

from __future__ import annotations

from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

NAMES = {
    "certctl_notification_dead_total": "counter",
    "certctl_notifications": "gauge",
    "certctl_notifications_stranded": "gauge",
    "certctl_notifications_not_delivered": "gauge",
    "certctl_notifications_refused": "gauge",
    "certctl_notification_oldest_due_seconds": "gauge",
    "certctl_notification_attempts_total": "counter",
    "certctl_notifications_withdrawn_total": "counter",
    "certctl_notification_attempt_duration_seconds": "histogram",
    "certctl_notification_last_sweep_timestamp_seconds": "gauge",
    "certctl_certificate_not_after_timestamp_seconds": "gauge",
    "certctl_certificates": "gauge",
    "certctl_certificate_watches": "gauge",
    "certctl_certificate_checks_total": "counter",
    "certctl_certificate_last_check_timestamp_seconds": "gauge",
    "certctl_certificate_check_overdue_seconds": "gauge",
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def page() -> str:
    response = Client().get("/metrics")
    assert response.status_code == 200
    return response.content.decode()


def samples(text: str) -> Samples:
    """What a scrape of the page reads, of ours."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("certctl_")
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def names(text: str) -> dict[str, str]:
    """The type of each of our metrics, by the name as it stands in the page."""
    types = (line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE certctl_"))
    return dict(types)
