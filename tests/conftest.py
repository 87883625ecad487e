"""Which database the tests run on, and fixtures for tests with real second processes.

PostgreSQL is where DATABASE_URL says, else a server of the tests' own. TEST_DATABASE=sqlite runs them on
SQLite, in a file, so that other processes and threads can open it too. A machine that cannot run
PostgreSQL fails the tests; it does not skip them.
"""

from __future__ import annotations

import os
import sys

import pytest
from django.db import connections

from certctl.environment import database
from tests import postgres
from tests.fixtures import configure, mail_receiver, receiver, script, webhook
from tests.processes import ROOT, current_database_url
from tests.settings import PLACEHOLDERS, TEST_DATABASE

__all__ = ["configure", "mail_receiver", "receiver", "script", "webhook"]

# PostgreSQL's planner, locks and catalog are the ones that matter, and certctl keeps its tables nowhere else.
ON_POSTGRESQL = [
    "admin/test_on_postgresql.py",
    "certificates/test_on_postgresql.py",
    "engine/test_on_postgresql.py",
    "deaths/test_races.py",
    "operations/test_on_postgresql.py",
    "migrations/test_adoption.py",
    "migrations/test_indexes.py",
    "migrations/test_live.py",
    "migrations/test_roles.py",
    "migrations/test_way_back.py",
    "queue/test_guard.py",
    "queue/test_query_plan.py",
    "queue/test_refusals.py",
    "queue/test_wake.py",
    "queue/test_on_postgresql.py",
    "reporting/test_on_postgresql.py",
]
# Long, and the same on every database.
LONG = [
    "admin/test_endpoints_browser.py",
    "admin/test_followed_browser.py",
    "admin/test_looks.py",
    "admin/test_readable_browser.py",
    "admin/test_true_browser.py",
    "api/test_docs.py",
    "api/test_document.py",
    "certificates/test_pages.py",
    "management/test_docs.py",
    "test_docs_run.py",
    "test_release.py",
    "test_types.py",
]
collect_ignore = [] if TEST_DATABASE == "postgresql" else [*ON_POSTGRESQL, *LONG]
SERVER = pytest.StashKey[postgres.Server]()


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "leave out the tests that open no database: they ran with the other one already"
    parser.addoption("--only-database", action="store_true", help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--only-database"):
        config.hook.pytest_deselected(items=[item for item in items if not opens_database(item)])
        items[:] = [item for item in items if opens_database(item)]


def opens_database(item: pytest.Item) -> bool:
    fixtures = {"db", "transactional_db", "process_environment"}
    marked = item.get_closest_marker("django_db") is not None
    return marked or not fixtures.isdisjoint(getattr(item, "fixturenames", ()))


def pytest_configure(config: pytest.Config) -> None:
    """With xdist, boot one server in the controller: the workers inherit its address."""
    is_worker = hasattr(config, "workerinput")
    if not is_worker and config.getoption("dist", "no") != "no" and needs_server():
        os.environ["DATABASE_URL"] = boot(config).url


def pytest_unconfigure(config: pytest.Config) -> None:
    if server := config.stash.get(SERVER, None):
        server.stop()


def pytest_report_header() -> str:
    return f"database: {TEST_DATABASE}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the proofs counted, also when they pass: the fixture `report` of tests/reliability."""
    ended = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    proved = [text for report in ended for name, text in report.user_properties if name == "proof"]
    if proved:
        terminalreporter.section("proofs")
    for text in proved:
        terminalreporter.line(text)


def needs_server() -> bool:
    """Whether nobody has named a PostgreSQL server yet."""
    return os.environ["DATABASE_URL"] == PLACEHOLDERS["postgresql"]


def boot(config: pytest.Config) -> postgres.Server:
    """The server of this run, started now if it is not running."""
    if SERVER not in config.stash:
        config.stash[SERVER] = postgres.start()
    return config.stash[SERVER]


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_modify_db_settings_parallel_suffix: None,
) -> None:
    """Point Django at the database when the first test needs it: unit tests alone boot no server."""
    configured = connections.settings["default"]
    if TEST_DATABASE == "sqlite":
        configured["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")
    elif needs_server():
        os.environ["DATABASE_URL"] = boot(request.config).url
        configured.update(database(os.environ["DATABASE_URL"]))


@pytest.fixture
def process_environment(transactional_db: None) -> dict[str, str]:
    """The environment in which a real second process works on this test's own database."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "certctl.settings",
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": current_database_url(),
        "CERTCTL_DATABASE_URL": "",
    }


@pytest.fixture
def certctl_command() -> list[str]:
    """How a test starts the project's command line in another process."""
    return [sys.executable, str(ROOT / "manage.py")]
