"""The host has replaced Django's admin site by its own."""

from tests.hosts.site import *  # noqa: F403
from tests.hosts.site import INSTALLED_APPS

INSTALLED_APPS[INSTALLED_APPS.index("django.contrib.admin")] = "tests.hosts.admin_site.OwnAdminConfig"
