"""The OpenAPI document: what each call takes and answers, with examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from threading import Lock
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema

from ..models import Status
from . import serializers
from .listing import CURSOR

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

DESCRIPTION = """
Certificate alerts: raise them, read them, and requeue what could not be delivered.

Send `Authorization: Bearer TOKEN`; the permissions of the token's user decide. Each answer that is not a
success has one shape: `{"error": {"code", "message", "fields"}}`. Times are RFC 3339 in UTC.
"""
CODES = {
    400: "A parameter or field is wrong; `fields` names it",
    401: "No token, or one that is unknown, expired or revoked",
    403: "The user lacks the permission",
    404: "There is no such notification",
    409: "The rules refuse it in the present state; `message` says why",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "Too many requests; try again after `Retry-After` seconds",
    503: "The database cannot be used at the moment",
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
    "example": {
        "error": {
            "code": "invalid",
            "message": 'status: "lost" is not a valid choice.',
            "fields": {"status": ['"lost" is not a valid choice.']},
        }
    },
}
ERROR_HERE = {"$ref": "#/components/schemas/Error"}


def described(answers: dict[int, Any], *codes: int) -> dict[int, Any]:
    return answers | {
        code: OpenApiResponse(ERROR_HERE, description=CODES[code]) for code in sorted({*codes, *EVERYWHERE})
    }


class Described(AutoSchema):
    """Views' docstrings are for their maintainers, not for callers."""

    def get_description(self) -> str:  # type: ignore[override]
        return ""


def call(name: str, summary: str, answers: dict[int, Any], *codes: int, **options: Any) -> Callable[..., Any]:
    """A decorator that describes a view's method."""
    describe = extend_schema(
        operation_id=name,
        summary=summary,
        responses=described(answers, *codes),
        tags=["notifications"],
        **options,
    )

    def decorate(method: Any) -> Any:
        method.schema = Described  # else the site's DEFAULT_SCHEMA_CLASS would be extended
        return describe(method)

    return decorate


def said(schema: Any, description: str, *examples: Any) -> OpenApiResponse:
    return OpenApiResponse(
        schema,
        description=description,
        examples=[OpenApiExample(f"Example {n}", value) for n, value in enumerate(examples, 1)],
    )


def object_of(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), **more}


def constant(status: str) -> OpenApiResponse:
    schema = object_of({"status": {"type": "string", "const": status}})
    return said(schema, "Done", {"status": status})


TIME = {"type": "string", "format": "date-time"}
NUMBER = {"type": "integer", "minimum": 0}
EVENTS = {"type": "array", "items": {"$ref": "#/components/schemas/Event"}}
PAGE = object_of({"data": EVENTS, "total": NUMBER, "page": NUMBER, "per_page": NUMBER})
STRETCH = object_of({"data": EVENTS, "next_cursor": {"type": ["string", "null"]}, "per_page": NUMBER})

SWEEP = object_of(
    {
        "started_at": TIME,
        "ended_at": TIME,
        **dict.fromkeys(("claimed", "sent", "rescheduled", "dead", "no_notifier", "released"), NUMBER),
    }
)
SUMMARY_SHAPE = {
    "type": "object",
    "properties": {
        "at": TIME,
        **{f"notifications_{status}": NUMBER for status in (*Status.values, "stranded")},
        "notifications_estimated": {"type": "array", "items": {"enum": Status.values}},
        "notifications_dead_by_channel": {"type": "object", "additionalProperties": NUMBER},
        "oldest_due_seconds": {"type": "number", "minimum": 0},
        "last_sweep": {
            "type": "object",
            "additionalProperties": {"oneOf": [SWEEP, {"type": "null"}]},
        },
    },
}

LIST = call(
    "list_notifications",
    "Notifications, newest first",
    {
        200: said(
            {"oneOf": [PAGE, STRETCH]},
            "A numbered page with the total of all matches; or, where `cursor` is given, a stretch without",
            {"data": [EVENT], "total": 1, "page": 1, "per_page": 50},
            {"data": [EVENT], "next_cursor": None, "per_page": 50},
        )
    },
    400,
    parameters=[serializers.ListQuery],
    description=(
        "Numbered pages count all matches and suit people. To read through very many, start with an empty "
        "`cursor` and go on with each `next_cursor` until it is null: every page costs the same, and no "
        "notification is met twice."
    ),
)
CREATE = call(
    "create_notification",
    "Raise an alert",
    {
        201: said(
            serializers.Event, "Raised", EVENT | {"status": "pending", "retry_count": 0, "last_error": None}
        ),
        200: said(serializers.Event, "That dedup_key was seen before: the first event", EVENT),
    },
    400,
    413,
    415,
    request=serializers.Creation,
    examples=[
        OpenApiExample(
            "An expiry warning",
            {
                "type": "ExpirationWarning",
                "channel": "Slack",
                "recipient": "#pki",
                "message": "api.example.com expires in 7 days",
                "certificate_id": "mc-api-prod",
                "dedup_key": "expiry:mc-api-prod:7:Slack",
            },
            request_only=True,
        )
    ],
)
DETAIL = call(
    "get_notification",
    "One notification with its attempts",
    {200: said(serializers.EventWithAttempts, "The notification", EVENT | {"attempts": [ATTEMPT]})},
    400,
    404,
)
READ = call(
    "mark_notification_read",
    "Seen (sent), or dismissed (dead)",
    {200: constant("marked_as_read")},
    400,
    404,
    409,
    request=None,
)
REQUEUE = call(
    "requeue_notification",
    "Pending again, with a fresh budget of attempts",
    {200: constant("requeued")},
    400,
    404,
    409,
    request=None,
    description="Allowed for dead and failed notifications that no attempt is running for.",
)
REQUEUE_MANY = call(
    "requeue_notifications",
    "Requeue all that a filter matches",
    {200: said(object_of({"requeued": NUMBER, "skipped": NUMBER}), "Done", {"requeued": 12, "skipped": 3})},
    400,
    413,
    415,
    request=serializers.BulkRequeue,
    description=(
        "Skipped are the matches that the rules refuse. Without any filter, `all` must say that everything "
        "is meant. With `dry_run` nothing changes, and `requeued` counts what would be."
    ),
    examples=[
        OpenApiExample(
            "What would it do?", {"status": "dead", "channel": "Slack", "dry_run": True}, request_only=True
        )
    ],
)
SUMMARY = call(
    "get_summary",
    "Counts per status, the oldest that is due, the last sweep",
    {
        200: said(
            SUMMARY_SHAPE,
            "A part that cannot be had at the moment is left out",
            {
                "at": "2026-11-23T08:20:00Z",
                "notifications_pending": 3,
                "notifications_sent": 9120,
                "notifications_failed": 1,
                "notifications_dead": 2,
                "notifications_read": 40,
                "notifications_stranded": 0,
                "oldest_due_seconds": 1.5,
                "last_sweep": {"pending": None, "retry": None},
            },
        )
    },
    400,
)


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "notifications.api.access.BearerToken"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "An API token."}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "notifications.api.access.StaffSession"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "A staff login; changes also need the CSRF token in X-CSRFToken.",
        }


# --- The document --------------------------------------------------------------------------------


def ours_only(endpoints: Sequence[tuple[str, str, str, Any]], **_: Any) -> list[tuple[str, str, str, Any]]:
    """Leave out the calls of other apps in the same site."""
    return [endpoint for endpoint in endpoints if endpoint[3].__module__.startswith(__package__)]


def narrowed(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say what a serializer's fields cannot: a bulk requeue needs a filter, and no text contains NUL."""
    schemas = result["components"]["schemas"]
    schemas["Error"] = ERROR
    for name in ("Creation", "BulkRequeue"):
        schemas[name]["additionalProperties"] = False
        without_nul(schemas[name]["properties"].values())
    bulk = schemas["BulkRequeue"]
    filters = [name for name in bulk["properties"] if name not in ("all", "dry_run")]
    given: dict[str, Any] = {name: {"minLength": 1} for name in filters} | {"all": {"const": True}}
    bulk["anyOf"] = [{"required": [name], "properties": {name: rule}} for name, rule in given.items()]
    for calls in result["paths"].values():
        for operation in calls.values():
            queries = [p for p in operation.get("parameters", ()) if p["in"] == "query"]
            without_nul(p["schema"] for p in queries)
            for parameter in queries:
                if parameter["name"] == "cursor":
                    parameter["schema"]["pattern"] = f"^({CURSOR})?$"
            if body := operation.get("requestBody"):
                body["required"] = True
    return result


def without_nul(properties: Iterable[dict[str, Any]]) -> None:
    for schema in properties:
        if "string" in schema.get("type", ()) and "enum" not in schema:
            schema["pattern"] = r"^[^\x00]*$"


SETTINGS = {
    "TITLE": "certctl notifications",
    "DESCRIPTION": DESCRIPTION.strip(),
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "ENFORCE_NON_BLANK_FIELDS": True,
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    "PREPROCESSING_HOOKS": ["notifications.api.schema.ours_only"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "notifications.api.schema.narrowed",
    ],
}
generating = Lock()


def document() -> dict[str, Any]:
    """The OpenAPI document of this app's calls, at the addresses that the site gives them."""
    # The generator's settings are the process's while it runs.
    with generating:
        return _document()


@cache
def _document() -> dict[str, Any]:
    with patched_settings(SETTINGS):
        generator = SchemaGenerator()  # type: ignore[no-untyped-call]
        found: dict[str, Any] = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
        return found
