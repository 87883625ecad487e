from __future__ import annotations

from contextlib import AbstractContextManager

from django.apps import AppConfig


class CertificatesConfig(AppConfig):
    name = "notifications.certificates"
    label = "notifications_certificates"
    verbose_name = "Certificates"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers it)

    def beside_worker(self) -> AbstractContextManager[None]:
        """What `run_notifications` does beside delivering: see delivery.run_worker."""
        from .watcher import watching

        return watching()
