"""The project's settings. This is the only module that reads the environment.

Reading comes first and ends with one list of everything that is wrong; the settings follow. Names in
lower case are steps on the way: Django takes only those in upper case, and shows them when debugging.
"""

from __future__ import annotations

import logging
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import django
from environs import validate

from notifications.conf import ACCESS_CHOICES, BESIDE_CHOICES, DISPATCH_CHOICES
from notifications.notifiers.email import EmailNotifier
from notifications.notifiers.options import completed
from notifications.notifiers.shipped import SHIPPED

from . import unknown
from .environment import Environment, half_configured, pooled
from .middleware import PROBED

BASE_DIR = Path(__file__).resolve().parent.parent
# In a checkout, files live beside manage.py whatever the current folder is (cron's is $HOME). An
# installed wheel has no such place, and works in the current folder.
is_checkout = (BASE_DIR / "manage.py").is_file()
data_dir = BASE_DIR if is_checkout else Path.cwd()
development_key = "django-insecure-for-debugging-on-one-machine-only"

# --- What the environment says -------------------------------------------------------------------

env = Environment()


def _count(name: str, default: int, most: int) -> int:
    return env.int(name, default, validate=validate.Range(1, most))


DEBUG = bool(env.bool("CERTCTL_DEBUG", False))
insecure_http = bool(env.bool("CERTCTL_INSECURE_HTTP", False))
behind_proxy = bool(env.bool("CERTCTL_BEHIND_PROXY", False))
proxies_in_front = env.int("CERTCTL_PROXIES_IN_FRONT", 0, validate=validate.Range(0, 10))
SECRET_KEY: str = env.secret_key("CERTCTL_SECRET_KEY", development_key if DEBUG else "")
base_url: str = env.http_url("CERTCTL_BASE_URL", "")
ALLOWED_HOSTS: list[str] = env.words("CERTCTL_ALLOWED_HOSTS", "")
hsts = env.int("CERTCTL_HSTS_SECONDS", 365 * 24 * 3600, validate=validate.Range(0))
STATIC_ROOT = env.path("CERTCTL_STATIC_ROOT", data_dir / "staticfiles")
templates: list[str] = env.folder("CERTCTL_TEMPLATES", "")
log_level = env.log_level("CERTCTL_LOG_LEVEL", logging.INFO)
# certctl's word for what a person reads is `text`.
log_format = env.str("CERTCTL_LOG_FORMAT", "plain", validate=validate.OneOf(["plain", "text", "json"]))

# DATABASE_URL wins, as on every hosting platform; certctl's own name for it is read where it is not set.
database_variable = "DATABASE_URL" if env.str("DATABASE_URL", "") else "CERTCTL_DATABASE_URL"
default_database = f"sqlite:///{quote(str(data_dir / 'certctl.sqlite3'))}"
# certctl's Helm chart leaves a place for the password in the URL.
database_password = env.str("POSTGRES_PASSWORD", "")
database: dict[str, Any] = env.database(database_variable, default_database, password=database_password)
if not (DEBUG or env.str(database_variable, "")):
    # A forgotten name must not deliver nothing out of a new, empty file.
    database = {**database, "ENGINE": "certctl.nodatabase"}
database_pool = env.int("CERTCTL_DATABASE_POOL", 0, validate=validate.Range(0, 1000))

retry_interval: timedelta = env.duration("CERTCTL_NOTIFICATION_RETRY_INTERVAL", "2m")
process_interval: timedelta = env.duration("CERTCTL_SCHEDULER_NOTIFICATION_PROCESS_INTERVAL", "1m")
beside = env.str("CERTCTL_NOTIFICATION_BESIDE", "", validate=validate.OneOf(BESIDE_CHOICES))
beside_grace: timedelta = env.duration("CERTCTL_NOTIFICATION_BESIDE_GRACE", "5m")
backoff_base: timedelta = env.duration("CERTCTL_NOTIFICATION_BACKOFF_BASE", "1m")
backoff_cap: timedelta = env.duration("CERTCTL_NOTIFICATION_BACKOFF_CAP", "1h")
send_timeout: timedelta = env.duration("CERTCTL_NOTIFICATION_SEND_TIMEOUT", "30s")
lease: timedelta = env.duration("CERTCTL_NOTIFICATION_LEASE", "2m")
hold_limit: timedelta = env.duration("CERTCTL_NOTIFICATION_HOLD_LIMIT", "4h")
database_timeout: timedelta = env.duration("CERTCTL_NOTIFICATION_DATABASE_TIMEOUT", "30s")
recovery_rate = _count("CERTCTL_NOTIFICATION_RECOVERY_RATE", 20, most=10_000)
redrive_on_recovery = bool(env.bool("CERTCTL_NOTIFICATION_REDRIVE_ON_RECOVERY", False))
withdraw_renewed = bool(env.bool("CERTCTL_NOTIFICATION_WITHDRAW_RENEWED", True))
solved_on: list[str] = env.list("CERTCTL_NOTIFICATION_SOLVED_ON", [])
max_attempts = _count("CERTCTL_NOTIFICATION_MAX_ATTEMPTS", 5, most=1000)
sweep_limit = _count("CERTCTL_NOTIFICATION_SWEEP_LIMIT", 1000, most=1_000_000)
concurrency = _count("CERTCTL_NOTIFICATION_CONCURRENCY", 100, most=10_000)
task_batch = _count("CERTCTL_NOTIFICATION_TASK_BATCH", 100, most=10_000)
api_rate = env.str(
    "CERTCTL_API_RATE", "1200/min", validate=validate.Regexp(r"[1-9]\d{0,8}/(s|sec|m|min|h|hour|d|day)\Z")
)
dispatch = env.str("CERTCTL_NOTIFICATION_DISPATCH", "inline", validate=validate.OneOf(DISPATCH_CHOICES))
tasks_backend = env.str(
    "CERTCTL_TASKS_BACKEND", "immediate", validate=validate.OneOf(["immediate", "database"])
)
celery_broker_url = env.str("CERTCTL_CELERY_BROKER_URL", "")
missing_notifier = env.str(
    "CERTCTL_NOTIFICATION_MISSING_NOTIFIER", "sent", validate=validate.OneOf(["sent", "dead"])
)
metrics_access = env.str("CERTCTL_METRICS_ACCESS", "anyone", validate=validate.OneOf(ACCESS_CHOICES))
readyz_access = env.str("CERTCTL_READYZ_ACCESS", "anyone", validate=validate.OneOf(ACCESS_CHOICES))
schema_access = env.str("CERTCTL_SCHEMA_ACCESS", "anyone", validate=validate.OneOf(ACCESS_CHOICES))
docs_access = env.str("CERTCTL_DOCS_ACCESS", "anyone", validate=validate.OneOf(ACCESS_CHOICES))
escalation: dict[str, str] = env.texts("CERTCTL_NOTIFICATION_ESCALATION", "")
digest_to = env.str("CERTCTL_NOTIFICATION_DIGEST_TO", "")
digest_interval: timedelta = env.duration("CERTCTL_NOTIFICATION_DIGEST_INTERVAL", "1h")

channels = env.channels(SHIPPED, env.proxies())
mail_server = completed(EmailNotifier.django_options, env.options(EmailNotifier.django_options))
mail_sender = env.options(EmailNotifier.declared_options).get("FROM_ADDRESS", "certctl@localhost")

# `certctl check` warns of them.
HALF_CONFIGURED = half_configured(os.environ, SHIPPED)
REFUSED = [
    f"the channel {name} is refused: {one['FAULT']}" for name, one in channels.items() if "FAULT" in one
]
UNKNOWN = unknown.likely_slips(os.environ, unknown.known(env.names, SHIPPED))

env.close()

# --- Django --------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "certctl",
    "django_prometheus",
    "notifications",
    "notifications.api",
    "notifications.certificates",
    "rest_framework",
    "drf_spectacular_sidecar",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "certctl.middleware.below_base_url",
    "certctl.middleware.content_security_policy",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "certctl.static.StaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "certctl.middleware.AnyHostForProbes",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # The project's own pages; a wheel carries them inside its package.
        "DIRS": [*templates, (BASE_DIR if is_checkout else Path(__file__).parent) / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

ROOT_URLCONF = "certctl.urls"
WSGI_APPLICATION = "certctl.wsgi.application"
ASGI_APPLICATION = "certctl.asgi.application"

DATABASES = {"default": pooled(database, database_pool)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

# Below the path of the public address, where it has one.
prefix = urlsplit(base_url).path.rstrip("/")
FORCE_SCRIPT_NAME = prefix or None
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = f"{prefix}/"
STATIC_URL = f"{prefix}/static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "certctl.static.StaticStorage"},
}
# Without collectstatic the admin's files come from their packages, so that a first look needs no step.
WHITENOISE_USE_FINDERS = True

# --- Transport security: on unless debugging or told that plain http is meant ----------------------

secured = not (DEBUG or insecure_http)
if not ALLOWED_HOSTS:
    ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
    ALLOWED_HOSTS += [host] if (host := urlsplit(base_url).hostname) else []
CSRF_TRUSTED_ORIGINS = ["{0.scheme}://{0.netloc}".format(urlsplit(base_url))] if base_url else []
SECURE_SSL_REDIRECT = secured
SECURE_REDIRECT_EXEMPT = [rf"^{re.escape(f'{prefix}/{path}'[1:])}$" for path in PROBED]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if behind_proxy else None
SECURE_HSTS_SECONDS = hsts if secured else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = secured
SESSION_COOKIE_SECURE = secured
CSRF_COOKIE_SECURE = secured
# Entering a domain in the browsers' preload lists is its owner's decision, not this program's default.
SILENCED_SYSTEM_CHECKS = ["security.W021"]

# --- Mail ----------------------------------------------------------------------------------------

# SMTP_USE_TLS means STARTTLS, except on the port whose connections are encrypted from the start.
implicit_tls = mail_server["USE_TLS"] and mail_server["PORT"] == 465
smtp = {
    "host": mail_server["HOST"] or "localhost",
    "port": mail_server["PORT"],
    "username": mail_server["USERNAME"],
    "password": mail_server["PASSWORD"],
    "use_tls": mail_server["USE_TLS"] and not implicit_tls,
    "use_ssl": implicit_tls,
    "timeout": min(10.0, send_timeout.total_seconds()),
}
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": smtp}}
else:
    EMAIL_HOST, EMAIL_PORT = smtp["host"], smtp["port"]
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = smtp["username"], smtp["password"]
    EMAIL_USE_TLS, EMAIL_USE_SSL = smtp["use_tls"], smtp["use_ssl"]
    EMAIL_TIMEOUT = smtp["timeout"]
DEFAULT_FROM_EMAIL = mail_sender

# --- Logging -------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "class": "certctl.logs.OneLineFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        },
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "%(levelname)s %(name)s %(message)s",
            "timestamp": True,
        },
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "json" if log_format == "json" else "plain"}
    },
    "root": {"handlers": ["stderr"], "level": log_level},
    # Django's own handlers would print every record a second time.
    "loggers": {"django": {"handlers": [], "level": "INFO"}},
}

# --- REST ----------------------------------------------------------------------------------------

# The views set all else themselves.
REST_FRAMEWORK = {"DEFAULT_THROTTLE_RATES": {"notifications": api_rate}, "NUM_PROXIES": proxies_in_front}

# --- The app -------------------------------------------------------------------------------------

NOTIFICATIONS = {
    "RETRY_INTERVAL": retry_interval,
    "PROCESS_INTERVAL": process_interval,
    "BESIDE": beside,
    "BESIDE_GRACE": beside_grace,
    "BACKOFF_BASE": backoff_base,
    "BACKOFF_CAP": backoff_cap,
    "SEND_TIMEOUT": send_timeout,
    "LEASE": lease,
    "HOLD_LIMIT": hold_limit,
    "DATABASE_TIMEOUT": database_timeout,
    "RECOVERY_RATE": recovery_rate,
    "REDRIVE_ON_RECOVERY": redrive_on_recovery,
    "WITHDRAW_RENEWED": withdraw_renewed,
    "SOLVED_ON": solved_on,
    "MAX_ATTEMPTS": max_attempts,
    "SWEEP_LIMIT": sweep_limit,
    "CONCURRENCY": concurrency,
    "MISSING_NOTIFIER": missing_notifier,
    "ESCALATION": escalation,
    "DIGEST": {"TO": digest_to, "INTERVAL": digest_interval} if digest_to else {},
    "DISPATCH": dispatch,
    "TASK_BATCH": task_batch,
    "METRICS_ACCESS": metrics_access,
    "READYZ_ACCESS": readyz_access,
    "SCHEMA_ACCESS": schema_access,
    "DOCS_ACCESS": docs_access,
    "BASE_URL": base_url.rstrip("/"),
    "CHANNELS": channels,
}

# --- A task engine, for those who have one -------------------------------------------------------

if dispatch == "tasks":
    in_django = django.VERSION >= (6, 0)
    if not in_django:
        INSTALLED_APPS += ["django_tasks"]
    backend, app = {
        "immediate": (f"django{'.' if in_django else '_'}tasks.backends.immediate.ImmediateBackend", None),
        "database": ("django_tasks_db.DatabaseBackend", "django_tasks_db"),
    }[tasks_backend]
    INSTALLED_APPS += [app] if app else []
    TASKS = {"default": {"BACKEND": backend, "QUEUES": ["default", "notifications"]}}
elif dispatch == "celery":
    CELERY_BROKER_URL = celery_broker_url
