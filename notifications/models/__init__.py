"""The tables: notification_events, which certctl shares, and those of our own that say what happened.

The verbs live on the QuerySet (queryset.py: producers and operators; leases.py: workers).
"""

from ..queryset import Status
from .events import EventType, Index, NotificationEvent, attempt_number, new_id
from .history import (
    INTERRUPTED_ERROR,
    AttemptOutcome,
    BulkOperation,
    DeliveryAttempt,
    Escalation,
    OperationKind,
    Reading,
    Requeue,
)
from .state import AGES, DURATIONS, Death, Hold, Outage, SweepKind, SweepRun, Tally, Worker

__all__ = [
    "AGES",
    "DURATIONS",
    "INTERRUPTED_ERROR",
    "AttemptOutcome",
    "BulkOperation",
    "Death",
    "DeliveryAttempt",
    "Escalation",
    "EventType",
    "Hold",
    "Index",
    "NotificationEvent",
    "OperationKind",
    "Outage",
    "Reading",
    "Requeue",
    "Status",
    "SweepKind",
    "SweepRun",
    "Tally",
    "Worker",
    "attempt_number",
    "new_id",
]
