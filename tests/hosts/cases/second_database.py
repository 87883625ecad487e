"""A router has the app in a database of its own, beside the site's."""

from tests.hosts.site import *  # noqa: F403
from tests.hosts.site import DATABASES, another

DATABASES["alerts"] = another("alerts")
DATABASE_ROUTERS = ["tests.hosts.routers.Second"]
MIGRATED = ["default", "alerts"]
