"""USE_TZ is off."""

from tests.hosts.site import *  # noqa: F403

USE_TZ = False
