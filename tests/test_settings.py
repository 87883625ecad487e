"""The environment: what may be set, what is refused, and that a refusal is one line without secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import django.db
import pytest
from django.core.management.base import CommandError
from environs import ValidationError

from certctl import environment
from certctl.__main__ import explain
from certctl.nodatabase.base import DatabaseWrapper, NoDatabase
from notifications.notifiers.shipped import SHIPPED
from notifications.reporting.command_line import one_line_errors

SECRETS = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
ROOT = Path(__file__).resolve().parent.parent
KEY = {"CERTCTL_SECRET_KEY": "Zw8rN1vQ0kX5tJ7yB3mH9cL2pS6dF4gA-aTqEuWoRiYxKzVn"}
DEPLOYMENT = {
    "CERTCTL_SECRET_KEY": KEY["CERTCTL_SECRET_KEY"] * 2,
    "CERTCTL_ALLOWED_HOSTS": "certctl.example.com",
    "CERTCTL_BASE_URL": "https://certctl.example.com/",
}
CHANNELS = {
    "CERTCTL_SMTP_HOST": "mail.example.com",
    "CERTCTL_SMTP_FROM_ADDRESS": "certctl@example.com",
    "CERTCTL_SLACK_WEBHOOK_URL": "https://hooks.slack.example/T/B/x",
    "CERTCTL_SLACK_CHANNEL": "#pki",
    "CERTCTL_TEAMS_WEBHOOK_URL": "https://teams.example/hook/",
    "CERTCTL_PAGERDUTY_ROUTING_KEY": "routing",
    "CERTCTL_PAGERDUTY_BASE_URL": "https://events.eu.pagerduty.com",
    "CERTCTL_OPSGENIE_API_KEY": "genie",
    "CERTCTL_OPSGENIE_PRIORITY": "P1",
    "CERTCTL_WEBHOOK_SECRET": ", ".join(SECRETS),
    "CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "10.0.0.0/8, fd00::/8",
}


def run(arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Python in a process with `variables` and nothing else of this project's environment."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CERTCTL_", "DJANGO_", "DATABASE_URL")) and "_proxy" not in name.lower()
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=clean | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(["manage.py", *arguments], **variables)


def setting(name: str, **variables: str) -> Any:
    """The value that `certctl.settings` has for `name` with these variables, through JSON."""
    code = f"import json; from certctl import settings as s; print(json.dumps((s.{name}), default=str))"
    return json.loads(run(["-c", code], **KEY | variables).stdout)


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that a refused command said."""
    assert result.returncode == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("certctl: ")
    return lines[0]


def test_refuses_to_start_without_a_secret_key() -> None:
    assert "CERTCTL_SECRET_KEY" in refusal(manage("check"))


def test_debugging_needs_nothing_at_all() -> None:
    assert manage("check", CERTCTL_DEBUG="1").returncode == 0


def test_all_faults_are_listed_in_one_line_without_the_values() -> None:
    bad = {
        "CERTCTL_DEBUG": "perhaps",
        "DATABASE_URL": "postgresql//certctl:hunter2@db.example.com/certctl",
        "CERTCTL_NOTIFICATION_MAX_ATTEMPTS": "0",
        "CERTCTL_NOTIFICATION_LEASE": "soon",
        "CERTCTL_NOTIFICATION_MISSING_NOTIFIER": "lost",
        "CERTCTL_BASE_URL": "certctl.example.com",
        "CERTCTL_LOG_FORMAT": "xml",
    }
    said = refusal(manage("check", **bad))
    assert [name for name in (*bad, "CERTCTL_SECRET_KEY") if name not in said] == []
    assert "hunter2" not in said


UNREADABLE = {
    "Webhook": {"CERTCTL_WEBHOOK_SECRET": "whsec_hunter2", "CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "10.0.0.0/99"},
    "Email": {
        "CERTCTL_SMTP_FROM_ADDRESS": "hunter2",
        "CERTCTL_SMTP_PORT": "hunter2",
        "CERTCTL_SMTP_USE_TLS": "hunter2",
    },
    "Slack": {"CERTCTL_SLACK_WEBHOOK_URL": "hooks.slack.com/services/hunter2"},
    "PagerDuty": {"CERTCTL_PAGERDUTY_SEVERITY": "hunter2"},
    "OpsGenie": {"CERTCTL_OPSGENIE_PRIORITY": "hunter2"},
}


def test_a_value_that_cannot_be_right_refuses_its_channel_and_no_other() -> None:
    faulty = CHANNELS | {name: value for values in UNREADABLE.values() for name, value in values.items()}
    channels = setting("NOTIFICATIONS['CHANNELS']", **faulty)
    refused = {name: options["FAULT"] for name, options in channels.items() if "FAULT" in options}
    assert {name: [v for v in faulty if f"{v}: Must be " in said] for name, said in refused.items()} == {
        channel: [v for v in faulty if v in variables] for channel, variables in UNREADABLE.items()
    }
    assert channels["Teams"]["URL"] == CHANNELS["CERTCTL_TEAMS_WEBHOOK_URL"]
    assert "hunter2" not in str(channels)


def test_the_check_warns_of_a_refused_channel() -> None:
    result = manage("check", **KEY | CHANNELS, CERTCTL_PAGERDUTY_SEVERITY="urgent")
    assert result.returncode == 0
    [warning] = [line for line in result.stderr.splitlines() if "certctl.W002" in line]
    said = "Must be one of critical, error, warning, info, or a map from types to them"
    assert warning.endswith(f"the channel PagerDuty is refused: CERTCTL_PAGERDUTY_SEVERITY: {said}")


@pytest.mark.parametrize("command", [["manage.py"], ["-m", "certctl"]])
def test_an_unreachable_database_is_one_line_without_its_password(command: list[str]) -> None:
    away = "postgresql://certctl:hunter2@127.0.0.1:1/certctl"
    said = refusal(run([*command, "showmigrations"], **KEY, DATABASE_URL=away))
    assert "the database cannot be used" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("kind", ["", "Data", "Integrity", "Internal", "NotSupported", "Programming"])
def test_whatever_the_database_says_is_one_line(kind: str) -> None:
    error = getattr(django.db, f"{kind}Error")("the server said:\nno")
    assert explain(error) == "the database did not do it: the server said: no"
    with pytest.raises(CommandError) as said, one_line_errors():
        raise error
    assert str(said.value) == "the database did not do it: the server said: no"


def test_traceback_shows_everything() -> None:
    result = manage("check", "--traceback", CERTCTL_NOTIFICATION_LEASE="soon", **KEY)
    assert "Traceback" in result.stderr


def test_an_empty_database_says_that_it_wants_migrations(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    said = refusal(manage("clearsessions", **KEY, DATABASE_URL=url))
    assert "migrate" in said


def test_deployment_check_is_clean() -> None:
    result = manage("check", "--deploy", "--fail-level", "WARNING", **DEPLOYMENT)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, [True, True, True, 31536000]),
        ({"CERTCTL_HSTS_SECONDS": "60"}, [True, True, True, 60]),
        ({"CERTCTL_INSECURE_HTTP": "1"}, [False, False, False, 0]),
        ({"CERTCTL_DEBUG": "1"}, [False, False, False, 0]),
    ],
)
def test_transport_is_secure_unless_told_otherwise(variables: dict[str, str], expected: list[Any]) -> None:
    found = setting(
        "SECURE_SSL_REDIRECT, s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.SECURE_HSTS_SECONDS",
        **variables,
    )
    assert found == expected


def test_defaults_of_the_app() -> None:
    assert setting("NOTIFICATIONS") == {
        "RETRY_INTERVAL": "0:02:00",
        "PROCESS_INTERVAL": "0:01:00",
        "BESIDE": "",
        "BESIDE_GRACE": "0:05:00",
        "BACKOFF_BASE": "0:01:00",
        "BACKOFF_CAP": "1:00:00",
        "SEND_TIMEOUT": "0:00:30",
        "LEASE": "0:02:00",
        "HOLD_LIMIT": "4:00:00",
        "DATABASE_TIMEOUT": "0:00:30",
        "RECOVERY_RATE": 20,
        "REDRIVE_ON_RECOVERY": False,
        "WITHDRAW_RENEWED": True,
        "SOLVED_ON": [],
        "MAX_ATTEMPTS": 5,
        "SWEEP_LIMIT": 1000,
        "CONCURRENCY": 100,
        "MISSING_NOTIFIER": "sent",
        "ESCALATION": {},
        "DIGEST": {},
        "DISPATCH": "inline",
        "TASK_BATCH": 100,
        "METRICS_ACCESS": "anyone",
        "READYZ_ACCESS": "anyone",
        "SCHEMA_ACCESS": "anyone",
        "DOCS_ACCESS": "anyone",
        "BASE_URL": "",
        "CHANNELS": {
            "Webhook": {
                "NOTIFIER": "notifications.notifiers.webhook.WebhookNotifier",
            }
        },
    }


def test_a_variable_set_to_nothing_is_not_set() -> None:
    empty = dict.fromkeys((*CHANNELS, "CERTCTL_NOTIFICATION_MAX_ATTEMPTS", "DATABASE_URL"), "")
    assert list(setting("NOTIFICATIONS['CHANNELS']", **empty)) == ["Webhook"]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, []),
        (CHANNELS, []),
        ({"CERTCTL_SMTP_HOST": "mail.example.com"}, ["Email is off: CERTCTL_SMTP_FROM_ADDRESS is not set"]),
        ({"CERTCTL_SMTP_FROM_ADDRESS": "a@example.com"}, ["Email is off: CERTCTL_SMTP_HOST is not set"]),
        ({"CERTCTL_SLACK_CHANNEL": "#pki"}, ["Slack is off: CERTCTL_SLACK_WEBHOOK_URL is not set"]),
        ({"CERTCTL_TEAMS_URL": "https://x"}, ["Teams is off: CERTCTL_TEAMS_WEBHOOK_URL is not set"]),
        ({"CERTCTL_PAGERDUTY_SEVERITY": "error"}, ["PagerDuty is off: CERTCTL_PAGERDUTY_ROUTING_KEY is"]),
        ({"CERTCTL_OPSGENIE_PRIORITY": "P1"}, ["OpsGenie is off: CERTCTL_OPSGENIE_API_KEY is not set"]),
        (
            {**CHANNELS, "CERTCTL_SMTP_USERNAME": "me"},
            ["USERNAME has no effect: CERTCTL_SMTP_PASSWORD is not set"],
        ),
        ({"CERTCTL_SLACK_CHANNEL": " ", "CERTCTL_SMTP_HOST": ""}, []),
    ],
)
def test_half_a_channel_is_told_and_no_value_repeated(variables: dict[str, str], said: list[str]) -> None:
    found = environment.half_configured(variables, SHIPPED)
    assert len(found) == len(said)
    assert all(part in sentence for part, sentence in zip(said, found, strict=True))
    assert not any(value in str(found) for value in variables.values() if value.strip())


def test_the_check_warns_of_half_a_channel(tmp_path: Path) -> None:
    database = {"DATABASE_URL": f"sqlite:///{tmp_path}/x.sqlite3"}
    result = run(["manage.py", "check"], **KEY, **database, CERTCTL_SMTP_HOST="mail.example.com")
    assert result.returncode == 0
    assert "certctl.W001" in result.stderr
    assert "CERTCTL_SMTP_FROM_ADDRESS is not set, but CERTCTL_SMTP_HOST" in result.stderr


def test_channels_are_on_when_they_have_what_they_need() -> None:
    channels = setting("NOTIFICATIONS['CHANNELS']", **CHANNELS)
    assert {name: options.pop("NOTIFIER").rpartition(".")[2] for name, options in channels.items()} == {
        "Webhook": "WebhookNotifier",
        "Email": "EmailNotifier",
        "Slack": "SlackNotifier",
        "Teams": "TeamsNotifier",
        "PagerDuty": "PagerDutyNotifier",
        "OpsGenie": "OpsGenieNotifier",
    }
    assert channels == {
        "Webhook": {
            "SECRETS": SECRETS,
            "ALLOWED_NETWORKS": ["10.0.0.0/8", "fd00::/8"],
        },
        "Email": {"FROM_ADDRESS": "certctl@example.com"},
        "Slack": {"URL": "https://hooks.slack.example/T/B/x", "CHANNEL": "#pki"},
        "Teams": {"URL": "https://teams.example/hook/"},
        "PagerDuty": {
            "ROUTING_KEY": "routing",
            "BASE_URL": "https://events.eu.pagerduty.com",
        },
        "OpsGenie": {"API_KEY": "genie", "PRIORITY": "P1"},
    }


def test_escalation_is_json_and_the_digest_two_variables() -> None:
    given = {
        "CERTCTL_NOTIFICATION_ESCALATION": '{"Slack": "Email:oncall@example.com"}',
        "CERTCTL_NOTIFICATION_DIGEST_TO": "Email:pki@example.com",
        "CERTCTL_NOTIFICATION_DIGEST_INTERVAL": "30m",
    }
    assert setting("NOTIFICATIONS['ESCALATION'], s.NOTIFICATIONS['DIGEST']", **given) == [
        {"Slack": "Email:oncall@example.com"},
        {"TO": "Email:pki@example.com", "INTERVAL": "0:30:00"},
    ]


@pytest.mark.parametrize("text", ["Slack", '["Slack"]', '{"Slack": 5}', '{"Slack": "hunter2"', "null", "1"])
def test_what_is_not_an_escalation(text: str) -> None:
    said = refusal(manage("check", **KEY, CERTCTL_NOTIFICATION_ESCALATION=text))
    assert "CERTCTL_NOTIFICATION_ESCALATION: Not a JSON object of strings" in said
    assert "hunter2" not in said


def test_a_fallback_that_is_not_configured_is_named_by_check() -> None:
    given = {"CERTCTL_NOTIFICATION_ESCALATION": '{"Webhook": "Email:oncall@example.com"}'}
    result = manage("check", **KEY, **given)
    assert result.returncode == 1
    assert "notifications.E001" in result.stderr
    assert "'Email', which is not configured" in result.stderr


def test_database_url_wins_over_certctls_own_name_for_it() -> None:
    own = {"CERTCTL_DATABASE_URL": "postgresql://a@one.example.com/first"}
    assert setting("DATABASES['default']['NAME']", **own) == "first"
    both = {**own, "DATABASE_URL": "postgresql://a@two.example.com/second"}
    assert setting("DATABASES['default']['NAME']", **both) == "second"


def test_logs_as_json_carry_time_level_and_extra_fields() -> None:
    code = (
        "import django, logging; django.setup();"
        "logging.getLogger('notifications').info('swept', extra={'sent': 3})"
    )
    result = run(["-c", code], **KEY, CERTCTL_LOG_FORMAT="json", DJANGO_SETTINGS_MODULE="certctl.settings")
    record = json.loads(result.stderr)
    assert record.pop("timestamp")
    assert record == {"levelname": "INFO", "name": "notifications", "message": "swept", "sent": 3}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("2m", 120), ("1h", 3600), ("1m30s", 90), ("1.5h", 5400), ("500ms", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert environment.duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["90", "", "0s", "-1m", "1w", "m", "1h30", "999999999d", "9" * 6000 + "s", "nan"]
)
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValidationError):
        environment.duration(text)


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "mysql://u:hunter2@h/db",
        "postgresql://u:hunter2@h",
        "postgresql://u:hunter2@h:port/db",
        "postgresql://u:hun/ter2@h/db",
        "postgresql://u:hun%ter2@h/db",
        "postgresql://[hunter2/db",
        "postgresql://h:5432,h:hunter2/db",
        "postgresql://u:hunter2@h/db?sslmod=require",
        "postgresql://u@h/db?hunter2",
        "postgresql://u:pass/db?hunter2=a@h/db",
        "sqlite://hunter2.sqlite3",
    ],
)
def test_what_is_not_a_database(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        environment.database(url)
    assert "hunter2" not in str(caught.value)


def test_sqlite_waits_for_the_write_lock_and_readers_do_not_block_writers() -> None:
    options = environment.database("sqlite:////srv/certctl.sqlite3")["OPTIONS"]
    assert options["transaction_mode"] == "IMMEDIATE"
    assert options["timeout"] == 20
    assert "journal_mode=WAL" in options["init_command"]


def test_a_folder_of_templates_comes_first(tmp_path: Path) -> None:
    assert setting("TEMPLATES[0]['DIRS']", CERTCTL_TEMPLATES=str(tmp_path))[0] == str(tmp_path)
    absent = str(tmp_path / "absent")
    assert "CERTCTL_TEMPLATES: Not a folder" in refusal(manage("check", **KEY, CERTCTL_TEMPLATES=absent))


def test_a_database_that_vanished_is_given_up_after_a_minute_unless_the_url_says_otherwise() -> None:
    options = environment.database("postgresql://u@h/db")["OPTIONS"]
    idle = options["keepalives_idle"] + options["keepalives_interval"] * options["keepalives_count"]
    assert idle <= 60
    assert options["tcp_user_timeout"] <= 60_000
    own = environment.database("postgresql://u@h/db?tcp_user_timeout=5000")["OPTIONS"]
    assert own["tcp_user_timeout"] == 5000


def test_a_pool_is_for_postgresql_only() -> None:
    sqlite = environment.database("sqlite:///x.sqlite3")
    assert environment.pooled(sqlite, 8) == sqlite
    served = environment.pooled(environment.database("postgresql://u@h/db?connect_timeout=3"), 8)
    assert served["OPTIONS"]["pool"]["max_size"] == 8
    assert served["OPTIONS"]["connect_timeout"] == 3


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ["localhost", 587, True, False, 10.0]),
        ({"CERTCTL_SMTP_HOST": "mail.example.com", "CERTCTL_SMTP_PORT": "465"},
         ["mail.example.com", 465, False, True, 10.0]),
        ({"CERTCTL_SMTP_USE_TLS": "0", "CERTCTL_NOTIFICATION_SEND_TIMEOUT": "3s"},
         ["localhost", 587, False, False, 3.0]),
    ],
)  # fmt: skip
def test_mail_is_encrypted_as_its_port_wants_and_never_waits_for_ever(
    variables: dict[str, str], expected: list[Any]
) -> None:
    code = (
        "import json; from django.core import mail;"
        "c = mail.mailers['default'] if hasattr(mail, 'mailers') else mail.get_connection();"
        "print(json.dumps([c.host, c.port, c.use_tls, c.use_ssl, c.timeout]))"
    )
    result = run(["-W", "error", "-c", code], **KEY, **variables, DJANGO_SETTINGS_MODULE="certctl.settings")
    assert json.loads(result.stdout) == expected


# A database's URL, as libpq takes it


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://u:p%40ss@one.example:5432,two.example:5433/db?target_session_attrs=read-write",
            {
                "HOST": "one.example,two.example",
                "PORT": "5432,5433",
                "PASSWORD": "p@ss",
                "target_session_attrs": "read-write",
            },
        ),
        ("postgresql://one.example,two.example/db", {"HOST": "one.example,two.example"}),
        ("postgresql://u@%2Frun%2Fpostgresql/db", {"HOST": "/run/postgresql", "USER": "u"}),
        ("postgresql:///db?host=/run/postgresql&port=5433", {"HOST": "/run/postgresql", "PORT": "5433"}),
        ("postgresql://?service=certctl", {"NAME": "", "HOST": "", "service": "certctl"}),
        ("postgres:///?service=certctl", {"NAME": "", "service": "certctl"}),
        ("postgresql://[fd00::1]:5432/db", {"HOST": "fd00::1", "PORT": "5432"}),
        ("postgresql://u:hun#ter2@h/db", {"PASSWORD": "hun#ter2"}),
        ("postgresql://u@host:h?a&&b@h/db?search_path=x", {"USER": "u@host", "PASSWORD": "h?a&&b"}),
        ("postgresql://u@h/db?search_path=certctl", {"options": "-csearch_path=certctl"}),
        (
            "postgresql://u@h/db?search_path=a%2C+b&options=-cgeqo%3Doff",
            {"options": r"-cgeqo=off -csearch_path=a,\ b"},
        ),
        ("postgresql://u@h/db?currentSchema=certctl", {"options": "-csearch_path=certctl"}),
        ("postgresql://u@h/db?passfile=/etc/certctl/pgpass", {"passfile": "/etc/certctl/pgpass"}),
    ],
)
def test_a_database_url_is_read_as_libpq_reads_it(url: str, expected: dict[str, str]) -> None:
    found = environment.database(url)
    flat = {**found, **found["OPTIONS"]}
    assert {name: flat.get(name) for name in expected} == expected
    assert found["DISABLE_SERVER_SIDE_CURSORS"] is True


def test_a_parameter_that_libpq_does_not_know_is_named() -> None:
    said = refusal(manage("check", **KEY, DATABASE_URL="postgresql://u:hunter2@h/db?sslmod=require"))
    assert said.endswith("DATABASE_URL: libpq, which connects, has no parameter 'sslmod'")


# Values from files


def test_every_variable_may_be_in_a_file(tmp_path: Path) -> None:
    given = {
        **DEPLOYMENT,
        **CHANNELS,
        "DATABASE_URL": "postgresql://u:p@h/db",
        "CERTCTL_SMTP_PASSWORD": " blanks count ",
        "CERTCTL_SMTP_USERNAME": "certctl",
        "CERTCTL_NOTIFICATION_LEASE": "3m",
        "CERTCTL_INSECURE_HTTP": "yes",
    }
    files = {}
    for name, value in given.items():
        path = tmp_path / name.lower()
        path.write_text(f"{value}\n")
        files[f"{name}_FILE"] = str(path)
    code = (
        "from certctl import settings as s;"
        "print({name: value for name, value in sorted(vars(s).items()) if name.isupper()})"
    )
    plain = run(["-c", code], **given).stdout
    assert run(["-c", code], **files).stdout == plain
    assert "'LEASE': datetime.timedelta(seconds=180)" in plain
    assert "'HALF_CONFIGURED': []" in plain


def test_what_is_set_twice_and_what_cannot_be_read_is_named_once_each(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"p\xe4ssword")
    given = {
        "CERTCTL_SECRET_KEY": "hunter2",
        "CERTCTL_SECRET_KEY_FILE": str(tmp_path / "latin"),
        "DATABASE_URL_FILE": "/hunter2/is/the/secret/itself",
        "POSTGRES_PASSWORD_FILE": str(tmp_path / "latin"),
        "CERTCTL_NOTIFICATION_LEASE_FILE": str(tmp_path),
        "CERTCTL_NOTIFICATION_SEND_TIMEOUT_FILE": "/dev/zero",
    }
    said = refusal(manage("check", **given)).removeprefix("certctl: bad configuration: ")
    assert sorted(said.split("; ")) == [
        "CERTCTL_NOTIFICATION_LEASE: the file that CERTCTL_NOTIFICATION_LEASE_FILE names cannot be read:"
        " Is a directory",
        "CERTCTL_NOTIFICATION_SEND_TIMEOUT: the file that CERTCTL_NOTIFICATION_SEND_TIMEOUT_FILE names is"
        " too large",
        "CERTCTL_SECRET_KEY: set twice, by CERTCTL_SECRET_KEY_FILE too",
        "DATABASE_URL: the file that DATABASE_URL_FILE names cannot be read: No such file or directory",
        "POSTGRES_PASSWORD: the file that POSTGRES_PASSWORD_FILE names is no text in UTF-8",
        "leave one of them out",
    ]


def test_a_channels_file_that_cannot_be_read_refuses_that_channel_alone() -> None:
    files = {"CERTCTL_TEAMS_WEBHOOK_URL": "", "CERTCTL_TEAMS_WEBHOOK_URL_FILE": "/nowhere"}
    channels = setting("NOTIFICATIONS['CHANNELS']", **CHANNELS | files)
    assert "CERTCTL_TEAMS_WEBHOOK_URL_FILE names cannot be read" in channels["Teams"]["FAULT"]
    assert channels["Slack"]["URL"] == CHANNELS["CERTCTL_SLACK_WEBHOOK_URL"]
    assert [name for name, one in channels.items() if "FAULT" in one] == ["Teams"]


def test_a_misspelt_variable_with_a_file_is_told_too() -> None:
    found = environment.half_configured({"CERTCTL_TEAMS_URL_FILE": "/x"}, SHIPPED)
    assert found == [
        "the channel Teams is off: CERTCTL_TEAMS_WEBHOOK_URL is not set, but CERTCTL_TEAMS_URL_FILE"
    ]
    assert environment.half_configured({"CERTCTL_TEAMS_WEBHOOK_URL_FILE": "/x"}, SHIPPED) == []


def test_the_web_server_s_pool_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "pool").write_text("3\n")
    code = (
        "from certctl import wsgi; from django.conf import settings as s;"
        "print(s.DATABASES['default']['OPTIONS']['pool']['max_size'])"
    )
    given = {"DATABASE_URL": "postgresql://u@h/db", "CERTCTL_DATABASE_POOL_FILE": str(tmp_path / "pool")}
    assert run(["-c", code], **KEY | given).stdout == "3\n"


# The way out


@pytest.mark.parametrize(
    ("variables", "proxies"),
    [
        ({}, None),
        ({"NO_PROXY": "intern.example"}, None),
        ({"HTTPS_PROXY": "http://u:p@one.example:3128"}, {"https": "http://u:p@one.example:3128"}),
        ({"https_proxy": "one.example:3128"}, {"https": "http://one.example:3128"}),
        ({"HTTPS_PROXY": "http://one", "https_proxy": "http://two"}, {"https": "http://two"}),
        (
            {"HTTP_PROXY": "http://one", "HTTPS_PROXY": "http://two", "NO_PROXY": "10.0.0.0/8"},
            {"http": "http://one", "https": "http://two", "no": "10.0.0.0/8"},
        ),
    ],
)
def test_the_environment_names_the_way_out(
    variables: dict[str, str], proxies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scheme in ("http", "https", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)
    for name, value in {**CHANNELS, **variables}.items():
        monkeypatch.setenv(name, value)
    reading = environment.Environment()
    channels = reading.channels(SHIPPED, reading.proxies())
    found = {name: one.get("PROXY") for name, one in channels.items()}
    assert found.pop("Email") is None
    assert list(found.values()) == [proxies] * 5


def test_a_channel_has_a_way_and_headers_of_its_own() -> None:
    given = {
        "HTTPS_PROXY": "http://one",
        "CERTCTL_SLACK_PROXY": "http://two:3128",
        "CERTCTL_TEAMS_PROXY": "direct",
        "CERTCTL_WEBHOOK_URL": "https://receiver.example/",
        "CERTCTL_WEBHOOK_HEADERS": '{"Authorization": "Bearer x"}',
        "CERTCTL_SMTP_TLS_CA": "/etc/company.pem",
    }
    channels = setting("NOTIFICATIONS['CHANNELS']", **CHANNELS, **given)
    assert channels["Slack"]["PROXY"] == "http://two:3128"
    assert channels["Teams"]["PROXY"] == "direct"
    assert channels["Webhook"]["PROXY"] == {"https": "http://one"}
    assert channels["Webhook"]["HEADERS"] == {"Authorization": "Bearer x"}
    assert channels["Email"]["TLS_CA"] == "/etc/company.pem"


@pytest.mark.parametrize("url", ["https://hunter2:3128", "socks5://hunter2", "hunter2:x", "http://a b"])
def test_what_is_no_proxy(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        environment.proxy(url)
    assert caught.value.messages == ["Must be http://HOST:PORT of a proxy, or direct."]


def test_a_way_out_that_cannot_be_is_one_line_and_headers_refuse_their_channel() -> None:
    said = refusal(manage("check", **KEY, HTTPS_PROXY="socks5://hunter2"))
    assert said == "certctl: bad configuration: HTTPS_PROXY: Must be http://HOST:PORT of a proxy, or direct"
    slack = {
        "CERTCTL_SLACK_WEBHOOK_URL": "https://x.example/y",
        "CERTCTL_SLACK_HEADERS": '{"Host": "hunter2"}',
    }
    result = manage("check", **KEY | slack)
    assert result.returncode == 0
    assert "the channel Slack is refused: CERTCTL_SLACK_HEADERS: Must be headers and their" in result.stderr
    assert "hunter2" not in result.stderr


# No database named


@pytest.mark.parametrize(
    "command",
    [
        ["migrate"],
        ["retry_notifications"],
        ["send_notifications", "--json"],
        ["run_notifications"],
        ["notifications", "list"],
        ["notifications", "prune", "--older-than", "90d"],
    ],
    ids=" ".join,
)
def test_outside_debug_nothing_is_done_without_a_database_s_name(command: list[str]) -> None:
    file = ROOT / "certctl.sqlite3"  # that of whoever looks around here, in debug
    before = file.exists() and file.stat().st_mtime_ns
    result = manage(*command, **KEY, CERTCTL_LOG_LEVEL="WARNING")
    assert result.returncode == 1
    lines = result.stderr.splitlines()  # what runs beside a worker may say so, too
    assert all("no database is named: set DATABASE_URL to postgresql://" in line for line in lines)
    assert [line.startswith(("CommandError", "certctl: ")) for line in lines].count(True) == 1
    assert result.stdout == ""
    assert (file.exists() and file.stat().st_mtime_ns) == before


def test_the_file_of_earlier_versions_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "certctl.sqlite3"
    for there in (False, True):
        with pytest.raises(NoDatabase) as caught:
            DatabaseWrapper({"NAME": str(path)}).get_new_connection({})
        assert str(caught.value).endswith(f"; the one in {path} is sqlite:///{path}") == there
        path.touch()


def test_what_only_looks_at_the_code_needs_no_database() -> None:
    assert manage("check", **KEY).returncode == 0
    assert manage("collectstatic", "--no-input", "--dry-run", "--verbosity=0", **KEY).returncode == 0


def test_the_probes_say_that_there_is_none() -> None:
    code = (
        "import django; django.setup(); from django.test import Client; c = Client();"
        "print(c.get('/healthz').status_code, c.get('/readyz').status_code)"
    )
    result = run(["-c", code], **KEY, DJANGO_SETTINGS_MODULE="certctl.settings")
    assert result.stdout == "200 503\n", result.stderr
