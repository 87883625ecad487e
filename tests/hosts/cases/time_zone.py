"""Another time zone, and another language's way to write numbers."""

from tests.hosts.site import *  # noqa: F403

TIME_ZONE = "America/New_York"
LANGUAGE_CODE = "de"
USE_THOUSAND_SEPARATOR = True
