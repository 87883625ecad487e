"""The settings of a small Django project that has taken the app in; tests/hosts/cases changes one thing each.

The environment says where its database, a folder for others and its one receiver are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from certctl.environment import database

FOLDER = Path(os.environ["HOST_FOLDER"])


def another(name: str) -> dict[str, Any]:
    """A second database, empty."""
    return database(f"sqlite:///{FOLDER}/{name}.sqlite3")


SECRET_KEY = "the-key-of-a-host-in-tests-0123456789-abcdefghijklmnopqrstuvwxyz"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "tests.hosts.urls"
INSTALLED_APPS = [
    "notifications",
    "notifications.api",
    "notifications.certificates",
    "rest_framework",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
PROCESSORS = ("template.context_processors.request", "contrib.auth.context_processors.auth")
PROCESSORS += ("contrib.messages.context_processors.messages",)
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": [f"django.{name}" for name in PROCESSORS]},
    },
]
STATIC_URL = "/static/"
DATABASES: dict[str, dict[str, Any]] = {"default": database(os.environ["HOST_DATABASE"])}
MIGRATED = ["default"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = True
TIME_ZONE = "UTC"
REST_FRAMEWORK = {"DEFAULT_THROTTLE_RATES": {"notifications": "1000/min"}}
NOTIFICATIONS: dict[str, Any] = {
    "CHANNELS": {
        "Webhook": {
            "NOTIFIER": "notifications.notifiers.webhook.WebhookNotifier",
            "URL": os.environ["HOST_RECEIVER"],
            "SECRETS": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
            "ALLOWED_NETWORKS": ["127.0.0.0/8"],
        },
    },
}
