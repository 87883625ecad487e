"""Routers as sites have them."""

from __future__ import annotations

from typing import Any

APPS = ("notifications", "notifications_certificates")


class Second:
    """The app, and what only it has, is in a second database."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return self.db_for_write(model, **hints)

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "alerts" if model._meta.app_label in APPS else "default"

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return (db == "alerts") == (app_label in APPS)


class Replica:
    """What the app reads is on the replica, as far as Django asks us; the site's own is left alone."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "replica" if model._meta.app_label in APPS else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "default"

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "default"
