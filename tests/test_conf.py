"""settings.NOTIFICATIONS: the defaults that operators know, and what is refused, by its name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from notifications import conf

STEADY = examples(deadline=None, derandomize=True)
NOTIFIER = {"NOTIFIER": "tests.scripted.ScriptedNotifier"}


def test_the_defaults_are_the_contracts(settings: Any) -> None:
    settings.NOTIFICATIONS = {}
    current = conf.current()
    assert (current.max_attempts, current.sweep_limit, current.concurrency) == (5, 1000, 100)
    assert (current.backoff_base, current.backoff_cap) == (timedelta(minutes=1), timedelta(hours=1))
    assert (current.send_timeout, current.lease) == (timedelta(seconds=30), timedelta(minutes=2))
    assert (current.retry_interval, current.process_interval) == (timedelta(minutes=2), timedelta(minutes=1))
    assert (current.missing_notifier, current.channels) == ("sent", {})


def test_without_the_setting_the_defaults_stand(settings: Any) -> None:
    del settings.NOTIFICATIONS
    assert conf.current() == conf.Conf()


@pytest.mark.parametrize("seconds", [90, 90.0, timedelta(seconds=90)])
def test_durations_are_timedeltas_or_seconds(settings: Any, seconds: Any) -> None:
    settings.NOTIFICATIONS = {"LEASE": seconds}
    assert conf.current().lease == timedelta(seconds=90)


@pytest.mark.parametrize("spelling", ["slack", "SLACK", "Slack", "sLaCk"])
def test_channels_are_found_without_regard_to_case(spelling: str) -> None:
    assert conf.Conf(channels={"Slack": NOTIFIER}).channel(spelling) == "Slack"
    assert conf.Conf(channels={"Slack": NOTIFIER}).channel(f"{spelling} ") is None


SLACK = {"CHANNELS": {"Slack": NOTIFIER}}
REFUSED = [
    ({"MAX_ATEMPTS": 3}, "MAX_ATEMPTS"),
    ({"max_attempts": 3}, "max_attempts"),
    ({"MAX_ATTEMPTS": 0}, "MAX_ATTEMPTS"),
    ({"MAX_ATTEMPTS": True}, "MAX_ATTEMPTS"),
    ({"MAX_ATTEMPTS": "5"}, "MAX_ATTEMPTS"),
    ({"CONCURRENCY": 1.5}, "CONCURRENCY"),
    ({"SWEEP_LIMIT": -1}, "SWEEP_LIMIT"),
    ({"BACKOFF_CAP": 0}, "BACKOFF_CAP"),
    ({"BACKOFF_CAP": timedelta(0)}, "BACKOFF_CAP"),
    ({"BACKOFF_BASE": "1m"}, "BACKOFF_BASE"),
    ({"RETRY_INTERVAL": float("inf")}, "RETRY_INTERVAL"),
    ({"RETRY_INTERVAL": float("nan")}, "RETRY_INTERVAL"),
    ({"PROCESS_INTERVAL": 10**40}, "PROCESS_INTERVAL"),
    ({"MISSING_NOTIFIER": "drop"}, "MISSING_NOTIFIER"),
    ({"BASE_URL": 5}, "BASE_URL"),
    ({"LEASE": 59, "SEND_TIMEOUT": 30}, "LEASE"),
    ({"LEASE": 59, "SEND_TIMEOUT": 20, "DATABASE_TIMEOUT": 40}, "DATABASE_TIMEOUT"),
    ({"CHANNELS": ["Slack"]}, "CHANNELS"),
    ({"CHANNELS": {"Slack": {}}}, "Slack"),
    ({"CHANNELS": {"Slack": None}}, "Slack"),
    ({"CHANNELS": {"Slack": "path.to.Notifier"}}, "Slack"),
    ({"CHANNELS": {"Slack": NOTIFIER, "slack": NOTIFIER}}, "twice"),
    ({"CHANNELS": {5: NOTIFIER}}, "5"),
    ({"ESCALATION": "Slack"}, "ESCALATION"),
    ({"ESCALATION": {5: "Slack:#pki"}}, "5"),
    ({"ESCALATION": {"Teams": ["Slack:#pki"]}, **SLACK}, "Channel:recipient"),
    ({"ESCALATION": {"Teams": "Slack"}, **SLACK}, "no recipient"),
    ({"ESCALATION": {"Teams": "Slack: "}, **SLACK}, "no recipient"),
    ({"ESCALATION": {"Teams": ":#pki"}, **SLACK}, "no channel"),
    ({"ESCALATION": {"Teams": f"Slack:{'x' * 256}"}, **SLACK}, "255"),
    ({"ESCALATION": {"Teams": "Slack:#p\x00ki"}, **SLACK}, "printable"),
    ({"ESCALATION": {"Slack": "Email:a@example.com"}, **SLACK}, "'Email', which is not configured"),
    ({"ESCALATION": {"slack": "SLACK:#pki"}, **SLACK}, "falls back to itself"),
    ({"ESCALATION": {"Teams": "Slack:#pki", "teams": "Slack:#pki"}, **SLACK}, "twice"),
    ({"DIGEST": "Slack:#pki"}, "DIGEST"),
    ({"DIGEST": {"INTERVAL": 60}}, "TO"),
    ({"DIGEST": {"TO": "Slack:#pki", "WHEN": 60}, **SLACK}, "WHEN"),
    ({"DIGEST": {"TO": "Slack"}, **SLACK}, "no recipient"),
    ({"DIGEST": {"TO": "Email:a@example.com"}, **SLACK}, "'Email', which is not configured"),
    ({"DIGEST": {"TO": "Slack:#pki", "INTERVAL": "soon"}, **SLACK}, "INTERVAL"),
    ({"DIGEST": {"TO": "Slack:#pki", "INTERVAL": 0}, **SLACK}, "INTERVAL"),
    ({5: 5}, "5"),
    (None, "NOTIFICATIONS"),
    (["MAX_ATTEMPTS"], "NOTIFICATIONS"),
]


@pytest.mark.parametrize(("given", "named"), REFUSED)
def test_what_is_wrong_is_refused_by_its_name(settings: Any, given: Any, named: str) -> None:
    settings.NOTIFICATIONS = given
    with pytest.raises(ImproperlyConfigured) as refused:
        conf.current()
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_address_is_a_channel_and_whom_to_tell() -> None:
    given = {
        "ESCALATION": {"Teams": "slack:#pki", "Slack": "Webhook:https://example.com:8443/hook"},
        "DIGEST": {"TO": "Slack: #pki"},
        "CHANNELS": {"Slack": NOTIFIER, "Webhook": NOTIFIER},
    }
    assert conf.faults(given) == []
    made = conf.made(given)
    assert made.fallback("TEAMS") == ("slack", "#pki")
    assert made.fallback("Slack") == ("Webhook", "https://example.com:8443/hook")
    assert made.fallback("Webhook") is None
    assert made.digest == (("Slack", "#pki"), timedelta(hours=1))


@pytest.mark.parametrize("interval", ["90m", 5400, 5400.0, timedelta(minutes=90)])
def test_a_digests_interval_may_be_written_out(interval: Any) -> None:
    given = {"DIGEST": {"TO": "Slack:#pki", "INTERVAL": interval}, **SLACK}
    assert conf.faults(given) == []
    digest = conf.made(given).digest
    assert digest is not None
    assert digest.interval == timedelta(minutes=90)


def test_a_fault_does_not_repeat_a_recipient() -> None:
    """It can be a URL, and a URL can be a secret."""
    given = {"ESCALATION": {"Teams": "Slack:https://example.com/hunter2"}, "DIGEST": {"TO": ":hunter2"}}
    assert "hunter2" not in " ".join(conf.faults(given))
    assert conf.faults(given)


def test_every_fault_is_named_at_once(settings: Any) -> None:
    settings.NOTIFICATIONS = {"MAX_ATTEMPTS": 0, "LEASE": -1, "COLOUR": "red"}
    with pytest.raises(ImproperlyConfigured, match=r"(?s)COLOUR.*MAX_ATTEMPTS.*LEASE"):
        conf.current()


ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.timedeltas()
    | st.dictionaries(st.text() | st.integers(), st.none() | st.just(NOTIFIER) | st.integers())
)


@STEADY
@given(st.dictionaries(st.sampled_from([*conf.FIELDS, "OTHER"]), ANYTHING))
def test_whatever_is_given_is_either_a_configuration_or_a_list_of_faults(given: dict[str, Any]) -> None:
    """Never a traceback at start."""
    found = conf.faults(given)
    assert all(isinstance(fault, str) and fault for fault in found)
    if not found:
        assert all(
            isinstance(value, timedelta) for value in (conf.made(given).lease, conf.made(given).backoff_cap)
        )
