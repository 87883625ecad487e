from tests.management.support import run

__all__ = ["run"]
