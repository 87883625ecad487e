from django.apps import AppConfig
from django.db.backends.signals import connection_created


class NotificationsConfig(AppConfig):
    name = "notifications"
    verbose_name = "Notifications"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import (
            checks,  # noqa: F401  (registers them)
            database,
        )
        from .queue import digest
        from .reporting import metrics, verdict

        digest.how_things_stand = verdict.sentence
        connection_created.connect(database.opened, dispatch_uid="notifications.database.opened")
        metrics.register()
