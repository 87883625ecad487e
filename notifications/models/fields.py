"""What the tables share: the states of a notification, ids, and how indexes are named."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.validators import ProhibitNullCharactersValidator
from django.db import models

from .. import database

NO_NUL = [ProhibitNullCharactersValidator()]
MOST_ATTEMPTS = 2**31 - 1


class Status(models.TextChoices):
    """The five states; the comment says who moves a notification out of each."""

    PENDING = "pending"  # the pending sweep
    FAILED = "failed"  # the retry sweep, or an operator's requeue
    SENT = "sent"  # a reader: mark read
    DEAD = "dead"  # an operator: requeue or dismiss
    READ = "read"  # nobody: the end


UNDELIVERED = (Status.PENDING, Status.FAILED)
REQUEUEABLE = (Status.DEAD, Status.FAILED)
READABLE = (Status.SENT, Status.DEAD)


class Manager(models.Manager[Any]):
    """Reads and writes where the site's router says that the app writes: nothing is decided by a replica."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().using(database.alias())


class Index(models.Index):
    """An index whose name may be as long as PostgreSQL and SQLite allow: certctl chose the names."""

    max_name_length = 63


def new_id() -> str:
    return str(uuid.uuid4())


def attempt_number(retry_count: int) -> int:
    """The next attempt's, from 1. Other programs' rows hold any integer, the history only sane ones."""
    return min(max(retry_count, 0), MOST_ATTEMPTS - 1) + 1
