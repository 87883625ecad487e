from __future__ import annotations

import pytest
from django.test import Client

from tests.admin.browser import browser, live_server, look, visit
from tests.admin.support import As, person

__all__ = ["browser", "live_server", "look", "visit"]


@pytest.fixture
def signed_in(db: None) -> As:
    """A browser in which the named person is signed in; `anonymous` is not."""

    def sign_in(name: str) -> Client:
        client = Client()
        if name != "anonymous":
            client.force_login(person(name))
        return client

    return sign_in
