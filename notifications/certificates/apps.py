from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig

if TYPE_CHECKING:
    from ..models.relevance import About, Renewal


class CertificatesConfig(AppConfig):
    name = "notifications.certificates"
    label = "notifications_certificates"
    verbose_name = "Certificates"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from ..reporting import metrics
        from . import checks  # noqa: F401  (registers it)
        from .metrics import families

        metrics.also(families)

    def renewed(self, about: Sequence[About]) -> Mapping[str, Renewal]:
        """Which alerts are about certificates that were renewed since: see models.relevance."""
        from .renewals import renewed

        return renewed(about)

    def beside_worker(self) -> AbstractContextManager[None]:
        """What `run_notifications` does beside delivering: see delivery.run_worker."""
        from .watcher import watching

        return watching()

    def mcp_tools(self) -> Sequence[Callable[..., Any]]:
        """What an assistant may ask: see notifications.mcp."""
        from .tools import READING

        return READING
