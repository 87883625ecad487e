"""Batches are handed to the site's own task engine, which runs them at once."""

from tests.engine.support import TASKS as ENGINE
from tests.hosts.site import *  # noqa: F403
from tests.hosts.site import NOTIFICATIONS

NOTIFICATIONS["DISPATCH"] = "tasks"
TASKS = {
    "default": {
        "BACKEND": f"{ENGINE}.backends.immediate.ImmediateBackend",
        "QUEUES": ["default", "notifications"],
    }
}
