"""An empty database of its own for each test, as the project's default one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from pytest_django import DjangoDbBlocker


@pytest.fixture
def empty_database(second_database: str, django_db_blocker: DjangoDbBlocker) -> Iterator[BaseDatabaseWrapper]:
    """The connection to it. The suite's own database waits beside it, untouched."""
    suite = connections[DEFAULT_DB_ALIAS]
    connection = suite.copy()
    connection.settings_dict["NAME"] = second_database
    connections[DEFAULT_DB_ALIAS] = connection
    ContentType.objects.clear_cache()
    with django_db_blocker.unblock():
        empty(connection)
        yield connection
        connection.close()
    connections[DEFAULT_DB_ALIAS] = suite
    ContentType.objects.clear_cache()


@pytest.fixture(scope="session")
def second_database(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The name of a database beside the suite's own."""
    suite = connections[DEFAULT_DB_ALIAS]
    if suite.vendor == "sqlite":
        yield str(tmp_path_factory.mktemp("second") / "second.sqlite3")
        return
    name = f"certctl_second_{os.getpid()}"
    with django_db_blocker.unblock():
        statement(suite, f'CREATE DATABASE "{name}"')
        yield name
        statement(suite, f'DROP DATABASE "{name}" WITH (FORCE)')


def empty(connection: BaseDatabaseWrapper) -> None:
    if connection.vendor == "sqlite":
        Path(connection.settings_dict["NAME"]).unlink(missing_ok=True)
        return
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


def statement(suite: BaseDatabaseWrapper, sql: str) -> None:
    with suite._nodb_cursor() as cursor:
        cursor.execute(sql)
