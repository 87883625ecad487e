"""The channels that come with the app, in the order of docs/channels.md."""

from __future__ import annotations

from .apprise import AppriseNotifier
from .base import Notifier
from .email import EmailNotifier
from .opsgenie import OpsGenieNotifier
from .pagerduty import PagerDutyNotifier
from .slack import SlackNotifier
from .teams import TeamsNotifier
from .webhook import WebhookNotifier

SHIPPED: tuple[type[Notifier], ...] = (
    WebhookNotifier,
    EmailNotifier,
    SlackNotifier,
    TeamsNotifier,
    PagerDutyNotifier,
    OpsGenieNotifier,
    AppriseNotifier,
)
