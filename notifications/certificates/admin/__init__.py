"""What is watched and what was seen, in the admin."""

from .certificates import CertificateAdmin
from .watches import WatchAdmin

__all__ = ["CertificateAdmin", "WatchAdmin"]
