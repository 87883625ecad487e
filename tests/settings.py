"""The project's settings as the tests see them: nothing of the developer's own environment leaks in.

TEST_DATABASE chooses postgresql (the default) or sqlite. tests/conftest.py says where the server is.
"""

from __future__ import annotations

import os

SECRET_KEY_FOR_TESTS = "for-tests-only-never-in-a-deployment-0123456789-abcdefghijklmnopqrstuvwxyz"
TEST_DATABASE = os.environ.get("TEST_DATABASE") or "postgresql"
PLACEHOLDERS = {"sqlite": "sqlite://:memory:", "postgresql": "postgresql://postgres@/postgres"}
SCHEMES = {"sqlite": ("sqlite:",), "postgresql": ("postgresql:", "postgres:", "pgsql:")}

if TEST_DATABASE not in PLACEHOLDERS:
    raise ValueError(f"TEST_DATABASE is {TEST_DATABASE!r}; it can be {' or '.join(PLACEHOLDERS)}")

for name in [name for name in os.environ if name.startswith("CERTCTL_")]:
    del os.environ[name]
os.environ["CERTCTL_SECRET_KEY"] = SECRET_KEY_FOR_TESTS
os.environ["CERTCTL_INSECURE_HTTP"] = "1"
if not os.environ.get("DATABASE_URL", "").startswith(SCHEMES[TEST_DATABASE]):
    os.environ["DATABASE_URL"] = PLACEHOLDERS[TEST_DATABASE]

from certctl.settings import *  # noqa: E402, F403

# Every test client would look through all static files, and no test asks it for one.
WHITENOISE_USE_FINDERS = False
