"""What a WSGI server runs: `gunicorn --threads 8 certctl.wsgi`."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "certctl.settings")
# A web server's threads share a few connections; commands, which have one or two, do without a pool.
if "CERTCTL_DATABASE_POOL_FILE" not in os.environ:
    os.environ.setdefault("CERTCTL_DATABASE_POOL", "8")

application = get_wsgi_application()
