"""A router sends all reads to a replica. This one is empty: whatever is read there fails."""

from tests.hosts.site import *  # noqa: F403
from tests.hosts.site import DATABASES, another

DATABASES["replica"] = another("replica")
DATABASE_ROUTERS = ["tests.hosts.routers.Replica"]
