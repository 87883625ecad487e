"""ATOMIC_REQUESTS: Django would run every view in one transaction."""

from tests.hosts.site import *  # noqa: F403
from tests.hosts.site import DATABASES

DATABASES["default"]["ATOMIC_REQUESTS"] = True
