"""A host's own admin site, in the place of Django's."""

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig


class OwnSite(AdminSite):
    site_header = "The host's own"


class OwnAdminConfig(AdminConfig):
    default_site = "tests.hosts.admin_site.OwnSite"
