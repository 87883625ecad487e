"""SQLite's backend, but for connecting."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.db.backends.sqlite3 import base, features

HOW = (
    "set DATABASE_URL to postgresql://USER:PASSWORD@HOST:5432/NAME (for a first look sqlite:////path/to/file)"
)


class NoDatabase(ImproperlyConfigured, OperationalError):
    """For who configures, and for whoever asks whether the database is there."""


class DatabaseFeatures(features.DatabaseFeatures):
    supports_json_field = True


class DatabaseWrapper(base.DatabaseWrapper):
    features_class = DatabaseFeatures

    def get_new_connection(self, conn_params: Any) -> NoReturn:
        before = Path(str(self.settings_dict["NAME"]))
        found = f"; the one in {before} is sqlite:///{before}" if before.is_file() else ""
        raise NoDatabase(f"no database is named: {HOW}{found}")
