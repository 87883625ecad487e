"""An empty database of its own for each test, as the project's default one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from pytest_django import DjangoDbBlocker

from tests.settings import TEST_DATABASE

# certctl keeps its tables in PostgreSQL and nowhere else.
collect_ignore = [] if TEST_DATABASE == "postgresql" else ["test_adoption.py"]


@pytest.fixture
def empty_database(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path: Path
) -> Iterator[BaseDatabaseWrapper]:
    """The connection to it. The suite's own database waits beside it, untouched."""
    suite = connections[DEFAULT_DB_ALIAS]
    with django_db_blocker.unblock(), made_beside(suite, tmp_path) as name:
        connection = suite.copy()
        connection.settings_dict["NAME"] = name
        connections[DEFAULT_DB_ALIAS] = connection
        ContentType.objects.clear_cache()
        try:
            yield connection
        finally:
            connection.close()
            connections[DEFAULT_DB_ALIAS] = suite
            ContentType.objects.clear_cache()


@contextmanager
def made_beside(suite: BaseDatabaseWrapper, folder: Path) -> Iterator[str]:
    """The name of a new database, dropped at the end."""
    if suite.vendor == "sqlite":
        yield str(folder / "empty.sqlite3")
        return
    name = f"certctl_empty_{os.getpid()}"
    statement(suite, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    statement(suite, f'CREATE DATABASE "{name}"')
    yield name
    statement(suite, f'DROP DATABASE "{name}" WITH (FORCE)')


def statement(suite: BaseDatabaseWrapper, sql: str) -> None:
    with suite._nodb_cursor() as cursor:
        cursor.execute(sql)
