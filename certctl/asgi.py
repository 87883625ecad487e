"""What an ASGI server runs. The views are synchronous: prefer certctl.wsgi."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "certctl.settings")

application = get_asgi_application()
