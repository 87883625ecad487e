"""Whatever Apprise speaks (github.com/caronc/apprise): Telegram, ntfy, Discord, Matrix and a hundred more.

One URL is one channel, from the settings only: a row's recipient never names where Apprise connects to.
Apprise answers yes or no, so its failures are transient; its words come along where it gives them.
"""

from __future__ import annotations

from typing import Any

from ..exceptions import PermanentError, Reason, TransientError, UnknownOutcome
from ..text import cut, one_line, redact
from .base import Delivered, Message, SyncNotifier
from .options import Kind, Option
from .wording import Severity

WORDS_LIMIT = 600
WARNINGS = {"WARNING", "ERROR", "CRITICAL"}
KINDS = {  # Apprise's own, which have colours and icons
    Severity.CRITICAL: "failure",
    Severity.ERROR: "failure",
    Severity.WARNING: "warning",
    Severity.INFO: "info",
}
INSTALL = "install the extra: pip install certctl-notifications[apprise]"


def is_understood(url: str) -> bool:
    try:
        return bool(_service(url))
    except PermanentError as error:
        raise ValueError(f"cannot be used: {error}") from error


class AppriseNotifier(SyncNotifier):
    declared_options = (
        Option(
            "URL",
            "in Apprise's notation (`tgram://…`, `ntfys://…`); `pip install certctl-notifications[apprise]`",
            Kind("a URL that Apprise understands", is_understood),
            required=True,
            secret=True,
        ),
    )
    # Apprise's own library reads HTTPS_PROXY and NO_PROXY, and says of each URL what it trusts.
    without = ("PROXY", "HEADERS", "TLS_CA", "TLS_CERT", "TLS_KEY")
    templates = "apprise"

    def deliver(self, message: Message) -> Delivered:
        service = _service(self.option("URL"))
        words = self.words(message)
        body = words.body() or words.headline
        if words.link and words.link not in body:
            body = f"{body}\n{words.link}"
        kind = KINDS[words.severity]
        result = service.notify(body=body, title=words.headline, notify_type=kind, body_format="text")
        if result:
            return Delivered(detail="accepted")
        said = redact(_warnings(result), self.http.secrets) or "Apprise gives no reason"
        if getattr(getattr(result, "status", None), "name", "") == "TIMEOUT":
            raise UnknownOutcome(f"the service did not answer in time; it may have arrived: {said}")
        raise TransientError(f"the service did not take it: {said}", reason=Reason.OTHER)


def _service(url: str) -> Any:
    """Apprise with this one service. Raises PermanentError when there is no Apprise, or no such service."""
    try:
        import apprise
    except ImportError as error:
        raise PermanentError("Apprise is not installed", reason=Reason.CONFIG, advice=INSTALL) from error
    asset = apprise.AppriseAsset()
    asset.http_redirects = False
    service = apprise.Apprise(asset=asset)
    if not service.add(url):
        raise PermanentError(
            "Apprise does not understand the URL",
            reason=Reason.CONFIG,
            advice="correct URL in the channel's settings, then requeue",
        )
    return service


def _warnings(result: object) -> str:
    """The warnings of this one delivery: Apprise 2 keeps them, earlier versions only log them."""
    logs = getattr(result, "logs", None)
    warnings = [str(entry.message) for entry in logs() if entry.level in WARNINGS] if logs else []
    return cut(one_line("; ".join(warnings)), WORDS_LIMIT)
