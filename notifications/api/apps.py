from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "notifications.api"
    label = "notifications_api"
    verbose_name = "Notifications API"
    default_auto_field = "django.db.models.BigAutoField"
