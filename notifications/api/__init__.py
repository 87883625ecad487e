"""The REST interface: an app of its own (`notifications.api` in INSTALLED_APPS), for it owns the tokens."""
