"""Spans for OpenTelemetry: one for each attempt, linked to the span in which its alert was raised.

Where the API package is missing, or nobody has set a tracer provider, nothing is done.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from ..exceptions import DeliveryError

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # a site without it
    trace = None  # type: ignore[assignment]

PARENT = "traceparent"  # W3C Trace Context: its header's name, and what is kept
NOTHING: AbstractContextManager[None] = nullcontext()


class Attempted(Protocol):
    """What is asked of a notification that is attempted. traced: where it was raised, "" if not known."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def attempt_number(self) -> int: ...
    @property
    def traced(self) -> str: ...


def wanted() -> bool:
    """Whether spans go anywhere: without a provider of the site's own, the API's stands for one."""
    return trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def here() -> str:
    """The span that runs here, where it is recorded, as W3C Trace Context writes it; else ""."""
    if trace is None or not trace.get_current_span().is_recording():
        return ""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(PARENT, "")


def attempt(channel: str, events: Collection[Attempted]) -> AbstractContextManager[None]:
    """Around one attempt, of one notification or of several that go out together; of none, where no spans are
    wanted: to ask for each attempt takes as long as a tenth of it."""
    return _span(channel, events) if events else NOTHING


@contextmanager
def _span(channel: str, events: Collection[Attempted]) -> Iterator[None]:
    first = next(iter(events))
    known: dict[str, Any] = {
        "notification.channel": channel,
        "notification.id": first.id,
        "notification.type": first.type,
        "notification.attempt": first.attempt_number,
        "notification.together": len(events),
    }
    with trace.get_tracer(__name__.partition(".")[0]).start_as_current_span(
        f"deliver {channel}",
        kind=trace.SpanKind.CONSUMER,
        attributes=known,
        links=[link for event in events if (link := _link(event.traced))],
        record_exception=False,  # its words are the status; what a traceback quotes can be a secret
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except BaseException as error:
            failed = error if isinstance(error, DeliveryError) else None
            span.set_attribute("error.type", str(failed.reason) if failed else type(error).__name__)
            if failed and failed.status:
                span.set_attribute("notification.status_code", failed.status)
            span.set_status(trace.StatusCode.ERROR, str(failed) if failed else None)
            raise


def _link(traced: str) -> Any:
    context = TraceContextTextMapPropagator().extract({PARENT: traced}) if traced else None
    raised = trace.get_current_span(context).get_span_context() if context else None
    return trace.Link(raised) if raised and raised.is_valid else None
