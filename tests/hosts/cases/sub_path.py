"""The site is below a path of its host."""

from tests.hosts.site import *  # noqa: F403
from tests.hosts.site import NOTIFICATIONS

FORCE_SCRIPT_NAME = "/pki"
NOTIFICATIONS["BASE_URL"] = "https://www.example.com/pki/"
