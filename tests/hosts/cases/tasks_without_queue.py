"""A task engine that has no queue for us."""

from tests.hosts.site import *  # noqa: F403
from tests.hosts.site import NOTIFICATIONS

NOTIFICATIONS["DISPATCH"] = "tasks"
