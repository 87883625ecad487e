from tests.fixtures import configure, receiver, script, webhook
from tests.settings import TEST_DATABASE

__all__ = ["configure", "receiver", "script", "webhook"]

collect_ignore = [] if TEST_DATABASE == "postgresql" else ["test_on_postgresql.py"]
