"""A channel names one of Django's MAILERS; before Django 6.1, which has them, one sentence refuses that."""

from __future__ import annotations

from typing import Any

import django
import pytest
from django.core import checks

from notifications import delivery
from notifications.models import NotificationEvent, Status
from notifications.notifiers.email import EmailNotifier
from tests import factories
from tests.fixtures import Configure
from tests.notifiers.support import mail_settings
from tests.notifiers.test_email import EMAIL
from tests.receiver import MailReceiver

pytestmark = pytest.mark.django_db
HAS_MAILERS = django.VERSION >= (6, 1)


@pytest.fixture
def two_channels(mail_receiver: MailReceiver, configure: Configure, settings: Any) -> MailReceiver:
    """Django's default mailer is a server that is not there; the test's has a name of its own."""
    mail_settings(settings, 1)
    if HAS_MAILERS:
        own = settings.MAILERS["default"]
        options = own["OPTIONS"] | {"port": mail_receiver.port}
        settings.MAILERS = settings.MAILERS | {"pki": own | {"OPTIONS": options}}
    configure(CHANNELS={"Email": EMAIL, "Pki": EMAIL | {"MAILER": "pki"}})
    return mail_receiver


def test_each_channel_has_its_own(two_channels: MailReceiver) -> None:
    named = factories.pending(channel="Pki", recipient="pki@example.com")
    other = factories.pending(channel="Email", recipient="pki@example.com")
    delivery.send_pending()
    found = {event.pk: event for event in NotificationEvent.objects.all()}
    assert found[other.pk].status == Status.FAILED
    if HAS_MAILERS:
        assert (found[named.pk].status, len(two_channels.mails)) == (Status.SENT, 1)
    else:
        assert found[named.pk].status == Status.FAILED
        assert "MAILER is for Django 6.1 and later" in (found[named.pk].last_error or "")


def test_check_names_what_cannot_be_used(two_channels: MailReceiver) -> None:
    said = [message.msg for message in checks.run_checks() if message.id == "notifications.E002"]
    where = "NOTIFICATIONS['CHANNELS']['Pki']"
    wrong = [f"{where}: MAILER is for Django 6.1 and later, which has MAILERS"]
    assert said == ([] if HAS_MAILERS else wrong)
    [fault] = EmailNotifier.faults(EMAIL | {"MAILER": "none"})
    assert ("no 'none' in Django's MAILERS" in fault) if HAS_MAILERS else ("Django 6.1" in fault)
