"""One span for each attempt, linked to the span that raised its alert, where a site records spans."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from notifications import delivery
from notifications.exceptions import PermanentError, Reason, TransientError
from notifications.models import NotificationEvent, Trace
from notifications.operations import prune
from tests import factories
from tests.factories import an_alert
from tests.fixtures import Configure
from tests.processes import ROOT
from tests.scripted import Script, ScriptedNotifier, channel

pytestmark = pytest.mark.django_db(transaction=True)
EVENTS = NotificationEvent.objects


class Together(ScriptedNotifier):
    combines = True


class Spans:
    """A site's provider, and what it was given."""

    def __init__(self, **options: Any) -> None:
        self.kept = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.kept))
        self.tracer = self.provider.get_tracer("a site")

    def of_attempts(self) -> list[ReadableSpan]:
        return [span for span in self.kept.get_finished_spans() if span.name.startswith("deliver")]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    found = Spans()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", found.provider)
    yield found
    found.provider.shutdown()


def raised_in(spans: Spans, name: str, **changed: Any) -> tuple[NotificationEvent, trace.SpanContext]:
    with spans.tracer.start_as_current_span(name) as span:
        event, _ = EVENTS.notify(**an_alert(**changed))
    return event, span.get_span_context()


def test_each_attempt_is_a_span_with_a_link_to_its_producer(spans: Spans, script: Script) -> None:
    event, producer = raised_in(spans, "a request")
    script.otherwise = TransientError("HTTP 503: busy at 3", reason=Reason.SERVER, status=503)
    delivery.send_pending()
    script.otherwise = script.__class__().otherwise
    EVENTS.update(next_retry_at=factories.ago(seconds=1))
    delivery.retry_failed()
    failed, sent = spans.of_attempts()
    for span in (failed, sent):
        [link] = span.links
        assert (link.context.trace_id, link.context.span_id) == (producer.trace_id, producer.span_id)
        assert link.context.is_remote
        assert span.context
        assert span.context.trace_id != producer.trace_id
        assert span.kind is trace.SpanKind.CONSUMER
        assert (span.name, span.attributes["notification.id"]) == ("deliver Webhook", event.pk)  # type: ignore[index]
        assert event.recipient not in str(span.attributes)
    assert [span.attributes["notification.attempt"] for span in (failed, sent)] == [1, 2]  # type: ignore[index]
    assert failed.attributes["error.type"] == "server"  # type: ignore[index]
    assert failed.attributes["notification.status_code"] == 503  # type: ignore[index]
    assert (failed.status.status_code, failed.status.description) == (
        trace.StatusCode.ERROR,
        "HTTP 503: busy at 3",
    )
    assert sent.status.status_code is trace.StatusCode.UNSET
    assert not failed.events


def test_many_that_were_raised_at_once_and_some_without_a_span(spans: Spans, script: Script) -> None:
    with spans.tracer.start_as_current_span("a job") as job:
        EVENTS.notify_many([an_alert(dedup_key=str(n)) for n in range(3)])
    bare = factories.pending()
    script.answers = {bare.pk: PermanentError("no")}
    delivery.send_pending()
    found = spans.of_attempts()
    assert sorted(len(span.links) for span in found) == [0, 1, 1, 1]
    linked = {link.context.span_id for span in found for link in span.links}
    assert linked == {job.get_span_context().span_id}


def test_what_runs_within_an_attempt_is_its_child(spans: Spans, script: Script) -> None:
    """A site's own channel can be instrumented."""
    script.otherwise = lambda message: spans.tracer.start_span("its own").end() or Script().otherwise
    factories.pending()
    delivery.send_pending()
    [own, attempt] = spans.kept.get_finished_spans()
    assert own.parent
    assert attempt.context
    assert own.parent.span_id == attempt.context.span_id


def test_what_goes_out_together_is_one_span(spans: Spans, configure: Configure) -> None:
    script = Script()
    configure(CHANNELS={"Webhook": channel(script, Together) | {"MAX_PER_SECOND": 1, "COMBINE_AFTER": 1}})
    links = {raised_in(spans, "a request")[1].span_id for _ in range(2)}
    EVENTS.update(created_at=factories.ago(minutes=5))
    delivery.send_pending()
    assert len(script.messages) == 1
    [span] = spans.of_attempts()
    assert {link.context.span_id for link in span.links} == links
    assert span.attributes["notification.together"] == 2  # type: ignore[index]


def test_only_what_is_recorded_is_kept(monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    """A span that the site's sampling left out leads nowhere."""
    spans = Spans(sampler=ALWAYS_OFF)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", spans.provider)
    raised_in(spans, "left out")
    EVENTS.notify(**an_alert())
    assert not Trace.objects.exists()


def test_a_trace_that_cannot_be_kept_or_read_stops_no_alert(
    spans: Spans, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    rename = "ALTER TABLE {} RENAME TO {}"
    with connection.cursor() as cursor:
        cursor.execute(rename.format("notification_traces", "elsewhere"))
    try:
        event, _ = raised_in(spans, "a request")
        delivery.send_pending()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(rename.format("elsewhere", "notification_traces"))
    event.refresh_from_db()
    assert event.status == "sent"
    assert "is not kept" in caplog.text
    assert "is not known" in caplog.text


def test_it_goes_with_its_notification(spans: Spans) -> None:
    event, _ = raised_in(spans, "a request")
    EVENTS.filter(pk=event.pk).update(status="sent", sent_at=factories.ago(days=100))
    assert Trace.objects.count() == 1
    list(prune.prune(factories.ago(days=90), ["sent"]))
    assert not Trace.objects.exists()


@pytest.mark.parametrize("missing", [True, False])
def test_without_the_package_or_a_provider_nothing_is_asked_or_kept(missing: bool, script: Script) -> None:
    said: list[str] = []

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        said.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(note):
        EVENTS.notify(**an_alert())
        delivery.send_pending()
    assert not [sql for sql in said if "notification_traces" in sql]
    if missing:
        code = (
            "import sys; sys.modules['opentelemetry'] = None\n"
            "from notifications.notifiers import tracing\n"
            "assert (tracing.trace, tracing.here(), tracing.wanted()) == (None, '', False)\n"
            "with tracing.attempt('Webhook', []): pass"
        )
        subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)
