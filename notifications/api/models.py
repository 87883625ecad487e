"""API tokens: each belongs to a user, whose Django permissions decide what it may do."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

PREFIX = "certctl_"  # lets secret scanners recognise a token that leaked
HINT = len(PREFIX) + 6
DEFAULT_LIFE = timedelta(days=90)


def hashed(secret: str) -> str:
    """What is kept of a secret. It has 256 random bits, so that one fast hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


class ApiTokenManager(models.Manager["ApiToken"]):
    def issue(self, user: Any, name: str, life: timedelta = DEFAULT_LIFE) -> tuple[ApiToken, str]:
        """A new token: (the row, the secret). The secret is in the answer only; the row keeps its hash.

        Raises ValidationError where the user has a token of that name.
        """
        token = ApiToken(user=user, name=name, expires_at=timezone.now() + life)
        secret = token.draw_secret()
        token.full_clean()
        token.save(force_insert=True)
        return token, secret

    def usable(self, secret: str) -> ApiToken | None:
        """The token with this secret, if it has neither expired nor lost its user; one query."""
        mine = self.select_related("user").filter(digest=hashed(secret), user__is_active=True)
        return mine.filter(expires_at__gt=timezone.now()).first()


class ApiToken(models.Model):
    """A named token. Revoking it deletes it; it stops working by itself at expires_at."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100, help_text="What uses it, such as “certbot hook on web-1”.")
    hint = models.CharField("begins with", max_length=HINT, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField("created", auto_now_add=True)
    expires_at = models.DateTimeField("expires")

    objects: ClassVar = ApiTokenManager()

    class Meta:
        db_table = "notification_api_tokens"
        ordering = ("user", "name")
        verbose_name = "API token"
        constraints = (
            models.UniqueConstraint(
                fields=["user", "name"],
                name="uniq_notification_api_tokens_name",
                violation_error_message="This user has a token of that name already.",
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    @property
    def has_expired(self) -> bool:
        return self.expires_at <= timezone.now()

    def draw_secret(self) -> str:
        """Give this unsaved token a new secret, and answer that."""
        secret = PREFIX + secrets.token_hex(32)
        self.hint, self.digest = secret[:HINT], hashed(secret)
        return secret
