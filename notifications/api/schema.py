"""The OpenAPI document: what each call takes and answers, with examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from threading import Lock
from typing import Any

from django.urls import get_script_prefix
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema

from ..operations.walk import CURSOR
from . import serializers
from .shapes import (
    CODES,
    DETAILS,
    ERROR,
    ERROR_HERE,
    EVENT,
    EVERYWHERE,
    PAGE,
    RAISED_MANY,
    REQUEUED_MANY,
    STATS,
    STRETCH,
    SUMMARY_SHAPE,
    object_of,
)

DESCRIPTION = """
Certificate alerts: raise them, read them, and requeue what could not be delivered.

Send `Authorization: Bearer TOKEN`; the permissions of the token's user decide. Each answer that is not a
success has one shape: `{"error": {"code", "message", "fields"}}`. Times are RFC 3339 in UTC.
"""


def said(schema: Any, description: str, *examples: Any) -> OpenApiResponse:
    return OpenApiResponse(
        schema,
        description=description,
        examples=[OpenApiExample(f"Example {n}", value) for n, value in enumerate(examples, 1)],
    )


def described(answers: dict[int, Any], *codes: int) -> dict[int, Any]:
    return answers | {code: refusal(*CODES[code]) for code in sorted({*codes, *EVERYWHERE})}


def refusal(description: str, example: tuple[str, str]) -> OpenApiResponse:
    code, message = example
    fields = {"status": ['"lost" is not a valid choice.']} if code == "invalid" else {}
    return said(ERROR_HERE, description, {"error": {"code": code, "message": message, "fields": fields}})


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
        **{"tags": ["notifications"], **options},
    )

    def decorate(method: Any) -> Any:
        method.schema = Described  # else the site's DEFAULT_SCHEMA_CLASS would be extended
        return describe(method)

    return decorate


def not_described(method: Any) -> Any:
    """A decorator for a method that no caller needs to know of."""
    method.schema = Described
    return extend_schema(exclude=True)(method)


def constant(status: str) -> OpenApiResponse:
    schema = object_of({"status": {"type": "string", "const": status}})
    return said(schema, "Done", {"status": status})


LIST = call(
    "list_notifications",
    "Notifications, newest first unless another order is asked for",
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
            serializers.Raised, "Raised", EVENT | {"status": "pending", "retry_count": 0, "last_error": None}
        ),
        200: said(
            serializers.Event,
            "That dedup_key was seen before: the first event; its id alone to a caller that may not view",
            EVENT,
        ),
    },
    400,
    411,
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
CREATE_MANY = call(
    "create_notifications",
    "Raise many alerts at once",
    {
        code: said(RAISED_MANY, text, {"data": [{"id": EVENT["id"], "created": code == 201}]})
        for code, text in ((201, "Raised, in their order"), (200, "Each dedup_key was seen before"))
    },
    400,
    411,
    413,
    415,
    request=serializers.Creations,
    description="All of them or none: a fault in one, named by its place, and nothing is raised.",
    examples=[
        OpenApiExample(
            "Two expiry warnings",
            {
                "notifications": [
                    {
                        "type": "ExpirationWarning",
                        "channel": "Slack",
                        "recipient": "#pki",
                        "message": f"{name} expires in 7 days",
                        "dedup_key": f"expiry:{name}:7",
                    }
                    for name in ("api.example.com", "www.example.com")
                ]
            },
            request_only=True,
        )
    ],
)
DETAIL = call(
    "get_notification",
    "One notification with its attempts",
    {200: said(serializers.EventWithAttempts, "The notification", EVENT | DETAILS)},
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
RESTORE = call(
    "restore_notification",
    "A dismissed one is a dead letter again",
    {200: constant("restored")},
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
    description=(
        "Allowed for dead and failed notifications that no attempt is running for, and for sent ones that "
        "were not delivered because their channel had no notifier. One whose certificate was renewed since "
        "is refused; requeueing many with `renewed` takes it too."
    ),
)
REQUEUE_MANY = call(
    "requeue_notifications",
    "Requeue all that a filter matches",
    {200: said(REQUEUED_MANY, "Done", {"requeued": 12, "skipped": 3, "renewed": 2})},
    400,
    411,
    413,
    415,
    request=serializers.BulkRequeue,
    description=(
        "Skipped are the matches that the rules refuse; `renewed` of them, where it is there, because their "
        "certificates were renewed since, unless `renewed` asks for them too. Without any filter, `all` must "
        "say that everything is meant. With `dry_run` nothing changes, and `requeued` counts what would be."
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
            STATS,
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
    """Leave out the calls of other people's apps in the same site."""
    ours = f"{__name__.partition('.')[0]}."
    return [endpoint for endpoint in endpoints if endpoint[3].__module__.startswith(ours)]


def narrowed(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say what a serializer's fields cannot: a bulk requeue needs a filter, and no text contains NUL."""
    schemas = result["components"]["schemas"]
    schemas["Error"] = ERROR
    # Who tries a call on the docs page is asked for these in this order; a cookie cannot be typed in there.
    result["components"]["securitySchemes"] = dict(
        sorted(result["components"]["securitySchemes"].items(), reverse=True)
    )
    for name in ("Creation", "Creations", "BulkRequeue"):
        schemas[name]["additionalProperties"] = False
        without_nul(schemas[name]["properties"].values())
    bulk = schemas["BulkRequeue"]
    filters = [name for name in bulk["properties"] if name not in ("all", "dry_run", "renewed")]
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
        found = _document()
    prefix = get_script_prefix().rstrip("/")
    return {**found, "servers": [{"url": prefix}]} if prefix else found


@cache
def _document() -> dict[str, Any]:
    with patched_settings(SETTINGS):
        generator = SchemaGenerator()  # type: ignore[no-untyped-call]
        found: dict[str, Any] = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
        return found
