"""What the OpenAPI document cannot know from the serializers: shapes of JSON Schema, and examples."""

from __future__ import annotations

from typing import Any

from ..conf import BESIDE_CHOICES
from ..models import Status
from ..reporting.contract import SWEEP_COUNTS
from . import errors

ID = "0b9f5d1e-6f1d-4c7e-9a39-0f6f9d1f2c55"
EVENT = {
    "id": ID,
    "type": "ExpirationWarning",
    "certificate_id": "mc-api-prod",
    "channel": "Slack",
    "recipient": "#pki",
    "message": "api.example.com expires in 7 days",
    "sent_at": None,
    "status": "dead",
    "error": None,
    "retry_count": 4,
    "next_retry_at": None,
    "last_error": "HTTP 503: upstream is down",
    "created_at": "2026-11-23T08:15:00Z",
    "not_after": "2026-11-30T08:15:00Z",
    "withdrawn": False,
    "dismissed": False,
}
ATTEMPT = {
    "number": 5,
    "channel": "Slack",
    "started_at": "2026-11-23T08:31:02.114000Z",
    "duration_ms": 212,
    "outcome": "transient",
    "reason": "server",
    "status_code": 503,
    "error": "HTTP 503: upstream is down",
    "worker": "web-1:4711",
}
DETAILS = {"attempts": [ATTEMPT], "escalation_of": None, "escalated_to": None}

# status: (what it means, an example's code and message)
CODES = {
    400: (
        "A parameter or field is wrong; `fields` names it",
        ("invalid", 'status: "lost" is not a valid choice.'),
    ),
    401: (
        "No token, or one that is unknown, expired or revoked",
        ("authentication_failed", "The token is unknown, has expired or was revoked."),
    ),
    403: (
        "The user lacks the permission",
        ("permission_denied", "This needs the permission notifications.view_notificationevent."),
    ),
    404: ("There is no such notification", ("not_found", f"There is no notification '{ID}'.")),
    409: (
        "The rules refuse it in the present state; `message` says why",
        ("refused", "it is pending: the next sweep sends it"),
    ),
    411: (
        "The body came in chunks, without a Content-Length",
        ("length_required", str(errors.LengthRequired.default_detail)),
    ),
    413: ("The body is too large", ("too_large", str(errors.TooLarge.default_detail))),
    415: (
        "The body is not JSON",
        ("unsupported_media_type", 'Unsupported media type "text/plain" in request.'),
    ),
    429: (
        "Too many requests; try again after `Retry-After` seconds",
        ("throttled", "Request was throttled. Expected available in 17 seconds."),
    ),
    503: (
        "The database cannot be used at the moment",
        ("unavailable", str(errors.Unavailable.default_detail)),
    ),
}
EVERYWHERE = (401, 403, 429, 503)

ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "fields": {
                    "type": "object",
                    "additionalProperties": {"type": "array", "items": {"type": "string"}},
                },
            },
            "required": ["code", "message", "fields"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}
ERROR_HERE = {"$ref": "#/components/schemas/Error"}


def object_of(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), **more}


TIME = {"type": "string", "format": "date-time"}
NUMBER = {"type": "integer", "minimum": 0}
EVENTS = {"type": "array", "items": {"$ref": "#/components/schemas/Event"}}
PAGE = object_of({"data": EVENTS, "total": NUMBER, "page": NUMBER, "per_page": NUMBER})
RAISED = object_of({"id": {"type": "string"}, "created": {"type": "boolean"}})
RAISED["properties"]["warnings"] = {"type": "array", "items": {"type": "string"}}
RAISED_MANY = object_of({"data": {"type": "array", "items": RAISED}})
REQUEUED_MANY = object_of({"requeued": NUMBER, "skipped": NUMBER})
REQUEUED_MANY["properties"]["renewed"] = NUMBER
STRETCH = object_of({"data": EVENTS, "next_cursor": {"type": ["string", "null"]}, "per_page": NUMBER})

SWEEP = object_of(
    {
        "started_at": TIME,
        "ended_at": TIME,
        **dict.fromkeys(SWEEP_COUNTS, NUMBER),
    }
)
BY_CHANNEL = {"type": "object", "additionalProperties": NUMBER}
SECONDS = {"type": ["number", "null"], "minimum": 0}
WINDOW = object_of(
    {"delivered": BY_CHANNEL, "failed": BY_CHANNEL, "median_seconds": SECONDS, "p95_seconds": SECONDS}
)
TEXT = {"type": "string"}
HOLD = object_of(
    {
        **dict.fromkeys(("endpoint", "channel", "reason", "error", "by", "state"), TEXT),
        "since": TIME,
        "until": TIME,
        "times": NUMBER,
    }
)
KINDS = ("stranded", "probably_delivered", "in_grace", "not_delivered", "refused", "died_last_hour")
SUMMARY_SHAPE = {
    "type": "object",
    "properties": {
        "at": TIME,
        **{f"notifications_{kind}": NUMBER for kind in (*Status.values, *KINDS)},
        "beside": {"enum": BESIDE_CHOICES},
        "notifications_estimated": {"type": "array", "items": {"enum": Status.values}},
        "notifications_dead_by_channel": BY_CHANNEL,
        "oldest_due_seconds": {"type": "number", "minimum": 0},
        "last_sweep": {
            "type": "object",
            "additionalProperties": {"oneOf": [SWEEP, {"type": "null"}]},
        },
        "attempts": {"type": "object", "additionalProperties": BY_CHANNEL},
        "deliveries": {"type": "object", "additionalProperties": WINDOW},
        "holds": {"type": "array", "items": HOLD},
    },
}
STATS = {
    "at": "2026-11-23T08:20:00Z",
    "notifications_pending": 3,
    "notifications_sent": 9120,
    "notifications_failed": 1,
    "notifications_dead": 2,
    "notifications_read": 40,
    "notifications_stranded": 0,
    "notifications_probably_delivered": 0,
    "notifications_in_grace": 0,
    "beside": "off",
    "notifications_not_delivered": 0,
    "notifications_refused": 0,
    "notifications_died_last_hour": 1,
    "notifications_estimated": [],
    "notifications_dead_by_channel": {"Slack": 2},
    "oldest_due_seconds": 1.5,
    "last_sweep": {"pending": None, "retry": None},
    "attempts": {"Slack": {"sent": 9160, "transient": 31, "permanent": 2}},
    "deliveries": {
        "24h": {
            "delivered": {"Slack": 120},
            "failed": {"Slack": 3},
            "median_seconds": 0.8,
            "p95_seconds": 61.0,
        }
    },
    "holds": [],
}
