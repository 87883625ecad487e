"""What people have said of dead letters that failed alike."""

from __future__ import annotations

import hashlib

from django.db import models

from ..text import fold, isolated
from .fields import Table


class GroupNote(Table):
    """A group of dead letters, by channel and error, of which somebody said something: that it is snoozed,
    whose it is, a note. It hides nothing from any count.

    key             of `key_of`: an error can be longer than an index's entry
    error           its fingerprint
    snoozed_until   the snooze ends then, or when so many more died since snoozed_at: snoozed_growth;
                    whichever comes first, where both are given
    version         of the row, so that nobody overwrites what they have not seen
    """

    key = models.CharField(max_length=64)
    channel = models.TextField()
    error = models.TextField()
    snoozed_at = models.DateTimeField(null=True, blank=True)
    snoozed_by = models.CharField(max_length=255, blank=True, default="")
    snoozed_until = models.DateTimeField(null=True, blank=True)
    snoozed_growth = models.PositiveIntegerField(null=True, blank=True)
    assigned_to = models.CharField(max_length=255, blank=True, default="")
    assigned_by = models.CharField(max_length=255, blank=True, default="")
    assigned_at = models.DateTimeField(null=True, blank=True)
    note = models.TextField(blank=True, default="")
    noted_by = models.CharField(max_length=255, blank=True, default="")
    noted_at = models.DateTimeField(null=True, blank=True)
    version = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "notification_groups"
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=["key"], name="uniq_notification_groups_key"),)

    def __str__(self) -> str:
        return f"{isolated(self.channel)}: {isolated(self.error)}"

    @classmethod
    def key_of(cls, channel: str, error: str) -> str:
        return hashlib.sha256(f"{fold(channel)}\0{error}".encode()).hexdigest()
