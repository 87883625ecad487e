"""The admin's login, for those who guess."""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.cache import cache
from django.core.exceptions import ValidationError

from notifications.api.access import caller

MOST, SECONDS = 10, 300


class BoundedLogin(AdminAuthenticationForm):
    """So many wrong passwords for one name from one address, then none for a while. Django's cache counts.

    Behind a proxy all come from its address, unless CERTCTL_PROXIES_IN_FRONT says how many there are.
    """

    def clean(self) -> dict[str, Any]:
        tried = f"{self.request and caller(self.request)} {self.cleaned_data.get('username')}"
        key = f"login-{hashlib.sha256(tried.encode('utf-8', 'replace')).hexdigest()}"
        if cache.get(key, 0) >= MOST:
            raise ValidationError(f"Too many wrong passwords. Try again in {SECONDS // 60} minutes.")
        try:
            return super().clean()
        except ValidationError:
            cache.add(key, 0, SECONDS)
            cache.incr(key)
            raise
