from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.processes import ROOT, Launcher
from tests.reliability.support import SETTINGS, Account, Nursery, Report, Site
from tests.settings import TEST_DATABASE

# Connections, servers and clocks between hosts are PostgreSQL's; SQLite has one host and no server.
collect_ignore_glob = [] if TEST_DATABASE == "postgresql" else ["test_*.py"]

TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    """A server of one's own, to stop and to crash: what was committed must be there afterwards."""
    with postgres.running(settings={"synchronous_commit": "on"}) as server:
        yield server


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    import os

    own = {
        "DJANGO_SETTINGS_MODULE": "certctl.settings",
        "PYTHONPATH": str(ROOT),
        "CERTCTL_DATABASE_URL": "",
    }
    return {**os.environ, **own, **SETTINGS}


@pytest.fixture(scope="session")
def template(
    server: postgres.Server, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    site = Site(server, TEMPLATE, environment)
    site.administer(f"CREATE DATABASE {TEMPLATE}")
    launcher = Launcher(environment | {"DATABASE_URL": site.url()}, tmp_path_factory.mktemp("migrate"))
    process = launcher.start("migrate", "--verbosity", "0")
    assert process.wait() == 0, process.said
    return TEMPLATE


@pytest.fixture
def site(server: postgres.Server, template: str, environment: dict[str, str]) -> Iterator[Site]:
    """A fresh, migrated database."""
    site = Site(server, f"site_{time.monotonic_ns()}", dict(environment))
    site.administer(f"CREATE DATABASE {site.name} TEMPLATE {template}")
    site.environment["DATABASE_URL"] = site.url()
    yield site
    site.administer(f"DROP DATABASE IF EXISTS {site.name} WITH (FORCE)")


@pytest.fixture
def launcher(site: Site, tmp_path: Path) -> Iterator[Launcher]:
    """Starts management commands; all are ended, and heard when the test fails."""
    launcher = Launcher(site.environment, tmp_path)
    try:
        yield launcher
    finally:
        launcher.kill_all()
        print(launcher.transcript())


@pytest.fixture
def nurseries(site: Site, tmp_path: Path) -> Iterator[Callable[..., Nursery]]:
    """Each starts many management commands quickly, in the site's environment with these variables."""
    made: list[Nursery] = []

    def make(**environment: str) -> Nursery:
        folder = tmp_path / f"nursery-{len(made) + 1}"
        folder.mkdir()
        made.append(Nursery(site.environment | environment, folder))
        return made[-1]

    try:
        yield make
    finally:
        for nursery in made:
            nursery.close()
            for child in nursery.children[-6:]:
                print(f"--- {nursery.folder.name} {child.log.name}\n{child.said[-3000:]}")


@pytest.fixture
def nursery(nurseries: Callable[..., Nursery]) -> Nursery:
    return nurseries()


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Say what came of it, in a section at the end of the run, also when the test passes."""
    since = time.monotonic()

    def say(what: str, account: Account) -> None:
        record_property("proof", f"{what}: {account} in {time.monotonic() - since:.0f} s")

    return say
