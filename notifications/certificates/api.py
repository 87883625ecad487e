"""REST of watches and certificates: read only, in the shape of the notifications' calls."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from ..api import schema, shapes
from ..api.serializers import LARGEST, Strict, Text, UtcTime
from ..api.views import View, query
from ..database import database_now
from . import listing
from .models import Certificate
from .shown import MOST_SIGHTINGS
from .verdicts import Verdict

TAGS = ["certificates"]
FINGERPRINT = "3d2c" * 16
TIME, TEXT = shapes.TIME, {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
MAYBE_TIME = {"type": ["string", "null"], "format": "date-time"}
FLAG = {"type": "boolean"}
VERDICTS = {"type": "array", "items": {"enum": [str(one) for one in Verdict]}}
CERTIFICATE = {
    **dict.fromkeys(("fingerprint", "subject", "issuer", "serial", "algorithm"), TEXT),
    "names": TEXTS,
    **dict.fromkeys(("not_before", "not_after"), TIME),
}
SEEN = {"place": TEXT, "current": FLAG, "verdicts": VERDICTS, "first_seen": TIME, "last_seen": TIME}
LISTED = {**CERTIFICATE, "first_seen": TIME, "last_seen": TIME, "seen_at": TEXTS}
ALERT = shapes.object_of(
    {
        **dict.fromkeys(("what", "text", "channel", "recipient", "notification", "status"), TEXT),
        "at": TIME,
        "delivered_at": MAYBE_TIME,
        "attempts": {"type": ["integer", "null"]},
        "error": {"type": ["string", "null"]},
        "solved": {
            "oneOf": [
                shapes.object_of({"notification": TEXT, "status": TEXT, "delivered_at": MAYBE_TIME}),
                {"type": "null"},
            ]
        },
    }
)
WHOLE = {
    **LISTED,
    "sightings": {"type": "array", "items": shapes.object_of({"watch": TEXT, **SEEN})},
    "warned": TEXT,
    "alerts": {"type": "array", "items": ALERT},
}
WATCH = {
    **dict.fromkeys(("target", "host", "password_file", "ca_file", "problem", "state"), TEXT),
    **dict.fromkeys(("notify", "at", "served_by"), TEXTS),
    **dict.fromkeys(("on_change", "on_renewal"), FLAG),
    "every_seconds": shapes.NUMBER,
    "next_check_at": TIME,
    **dict.fromkeys(("checked_at", "failing_since"), MAYBE_TIME),
    "certificates": {"type": "array", "items": shapes.object_of({**SEEN, **CERTIFICATE})},
}
AN_ALERT = {
    "what": "ends:15%",
    "text": "15 % left",
    "channel": "Slack",
    "recipient": "#pki",
    "at": "2026-11-20T08:00:00Z",
    "notification": shapes.ID,
    "status": "sent",
    "delivered_at": "2026-11-20T08:00:01Z",
    "attempts": 1,
    "error": None,
    "solved": None,
}
A_CERTIFICATE = {
    "fingerprint": FINGERPRINT,
    "names": ["www.example.com"],
    "subject": "CN=www.example.com",
    "issuer": "CN=E7,O=Let's Encrypt,C=US",
    "serial": "5f3a",
    "algorithm": "EC secp256r1, sha384",
    "not_before": "2026-09-04T08:00:00Z",
    "not_after": "2026-12-03T08:00:00Z",
}
SEEN_THERE = {
    "place": "www.example.com:443",
    "current": True,
    "verdicts": [],
    "first_seen": "2026-09-04T08:10:00Z",
    "last_seen": "2026-11-26T08:00:00Z",
}
IN_LIST = {
    **A_CERTIFICATE,
    "first_seen": SEEN_THERE["first_seen"],
    "last_seen": SEEN_THERE["last_seen"],
    "seen_at": [SEEN_THERE["place"]],
}
A_WATCH = {
    "target": "www.example.com:443",
    "notify": ["Slack:#pki"],
    "at": ["33%", "15%", "5%", "0"],
    "every_seconds": 43_200,
    "host": "",
    "password_file": "",
    "ca_file": "",
    "served_by": [],
    "on_change": False,
    "on_renewal": False,
    "checked_at": "2026-11-26T08:00:00Z",
    "next_check_at": "2026-11-26T20:10:00Z",
    "failing_since": None,
    "problem": "",
    "state": "fine",
    "certificates": [{**SEEN_THERE, **A_CERTIFICATE}],
}


class Paged(Strict):
    search = Text(max_length=200, required=False, allow_blank=True, help_text="Part of a host or path.")
    page = serializers.IntegerField(min_value=1, max_value=LARGEST, default=1, help_text="From 1.")
    per_page = serializers.IntegerField(
        min_value=1, max_value=500, default=50, help_text="How many a page has."
    )


class CertificateQuery(Paged):
    search = Text(
        max_length=200,
        required=False,
        allow_blank=True,
        help_text="Part of a name or of the subject, a whole serial or fingerprint.",
    )
    seen = serializers.ChoiceField(
        listing.SEEN, required=False, allow_blank=True, help_text="At some place now, or at none any more."
    )
    ends_after = UtcTime(required=False, help_text="Ends at this time or later.")
    ends_before = UtcTime(required=False, help_text="Ends before this time.")


class WatchQuery(Paged):
    target = Text(max_length=500, required=False, allow_blank=True, help_text="The target, exactly.")


def page_of(item: dict[str, Any]) -> dict[str, Any]:
    data = {"type": "array", "items": shapes.object_of(item)}
    number = shapes.NUMBER
    return shapes.object_of({"data": data, "total": number, "page": number, "per_page": number})


def a_page(example: dict[str, Any]) -> dict[str, Any]:
    return {"data": [example], "total": 1, "page": 1, "per_page": 50}


class Certificates(View):
    permissions = {"GET": listing.VIEW_CERTIFICATE}
    queried = ("GET", "HEAD")

    @schema.call(
        "list_certificates",
        "Certificates that were seen, what ends first in front",
        {200: schema.said(page_of(LISTED), "A numbered page with the total of all matches", a_page(IN_LIST))},
        400,
        parameters=[CertificateQuery],
        tags=TAGS,
        description=f"`seen_at` has the first {MOST_SIGHTINGS} places where it is seen now.",
    )
    def get(self, request: Request) -> Response:
        chosen = _chosen(CertificateQuery, request)
        number, per_page = chosen.pop("page"), chosen.pop("per_page")
        rows = listing.certificates(**chosen)
        return Response(listing.page(rows, number, per_page, listing.certificate_row, database_now()))


class OneCertificate(View):
    permissions = {"GET": listing.VIEW_CERTIFICATE}

    @schema.call(
        "get_certificate",
        "One certificate: where it is seen, and who was warned of it",
        {
            200: schema.said(
                shapes.object_of(WHOLE),
                "The certificate",
                {
                    **IN_LIST,
                    "sightings": [{"watch": "www.example.com:443", **SEEN_THERE}],
                    "warned": "1 alert was raised: 1 arrived. The last reached #pki on Slack"
                    " on 2026-11-20 08:00 UTC.",
                    "alerts": [AN_ALERT],
                },
            ),
            404: schema.refusal(
                "There is no such certificate", ("not_found", f"There is no certificate '{FINGERPRINT}'.")
            ),
        },
        400,
        tags=TAGS,
        description="Of each alert: to whom, the status of its notification, and when it arrived; where a"
        " renewal has solved it, also the notification that resolves it at its provider.",
    )
    def get(self, request: Request, fingerprint: str) -> Response:
        found: Certificate | None = None if "\x00" in fingerprint else listing.certificate(fingerprint)
        if found is None:
            raise NotFound(f"There is no certificate {fingerprint!r}.")
        return Response(listing.certificate_whole(found, database_now()))


class Watches(View):
    permissions = {"GET": listing.VIEW_WATCH}
    queried = ("GET", "HEAD")

    @schema.call(
        "list_watches",
        "The places that are watched, by their targets",
        {200: schema.said(page_of(WATCH), "A numbered page with the total of all matches", a_page(A_WATCH))},
        400,
        parameters=[WatchQuery],
        tags=TAGS,
        description=f"Each with what is there now, at most {MOST_SIGHTINGS} certificates.",
    )
    def get(self, request: Request) -> Response:
        chosen = _chosen(WatchQuery, request)
        number, per_page = chosen.pop("page"), chosen.pop("per_page")
        rows = listing.watches(**chosen)
        return Response(listing.page(rows, number, per_page, listing.watch_row, database_now()))


def _chosen(shape: type[Strict], request: Request) -> dict[str, Any]:
    asked = shape(data=query(request))
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)
