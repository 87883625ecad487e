from tests.fixtures import configure, mail_receiver, receiver, script, webhook
from tests.settings import TEST_DATABASE

__all__ = ["configure", "mail_receiver", "receiver", "script", "webhook"]

# PostgreSQL's planner is the one that matters: SQLite is for small tables, and for one writer at a time.
collect_ignore = [] if TEST_DATABASE == "postgresql" else ["test_query_plan.py", "test_escalation_races.py"]
