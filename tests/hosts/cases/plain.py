"""As docs/python.md has it."""

from tests.hosts.site import *  # noqa: F403
