"""Another time zone, and another language."""

from tests.hosts.site import *  # noqa: F403

TIME_ZONE = "America/New_York"
LANGUAGE_CODE = "de"
