"""The tables: notification_events, which certctl shares, and those of our own that say what happened.

The verbs of producers and operators live on the QuerySet; those of workers in the package queue.
"""

from .events import EventType, NotificationEvent, NotificationQuerySet
from .fields import Index, Status, attempt_number, new_id
from .history import (
    COMBINED,
    INTERRUPTED,
    INTERRUPTED_AGAIN,
    INTERRUPTED_ERROR,
    INTERRUPTED_OFTEN,
    AttemptOutcome,
    BulkOperation,
    Deadline,
    DeliveryAttempt,
    Escalation,
    OperationKind,
    Reading,
    RecipientAnswer,
    Refusal,
    Requeue,
    Trace,
    Withdrawal,
)
from .raising import Alert
from .state import AGES, DURATIONS, Beside, Death, HandOver, Hold, Outage, SweepKind, SweepRun, Tally, Worker
from .triage import GroupNote

__all__ = [
    "AGES",
    "COMBINED",
    "DURATIONS",
    "INTERRUPTED",
    "INTERRUPTED_AGAIN",
    "INTERRUPTED_ERROR",
    "INTERRUPTED_OFTEN",
    "Alert",
    "AttemptOutcome",
    "Beside",
    "BulkOperation",
    "Deadline",
    "Death",
    "DeliveryAttempt",
    "Escalation",
    "EventType",
    "GroupNote",
    "HandOver",
    "Hold",
    "Index",
    "NotificationEvent",
    "NotificationQuerySet",
    "OperationKind",
    "Outage",
    "Reading",
    "RecipientAnswer",
    "Refusal",
    "Requeue",
    "Status",
    "SweepKind",
    "SweepRun",
    "Tally",
    "Trace",
    "Withdrawal",
    "Worker",
    "attempt_number",
    "new_id",
]
