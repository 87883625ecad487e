from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "notifications.api"
    label = "notifications_api"
    verbose_name = "Notifications API"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from ..reporting import access
        from .access import caller_of

        access.callers.append(caller_of)
