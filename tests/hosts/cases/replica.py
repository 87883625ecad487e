"""A router sends all reads to a replica. This one is empty: whatever is read there fails."""

from tests.hosts.site import *  # noqa: F403
from tests.hosts.site import DATABASES, FOLDER

DATABASES["replica"] = {**DATABASES["default"], "NAME": str(FOLDER / "replica.sqlite3")}
DATABASE_ROUTERS = ["tests.hosts.routers.Replica"]
