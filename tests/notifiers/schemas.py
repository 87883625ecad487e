"""What each provider accepts, as JSON Schema, written from its documentation (named in the channel's file).

additionalProperties is False nearly everywhere: a field that the provider does not document is a fault.
"""

from __future__ import annotations

from typing import Any


def text(most: int, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most, **more}


def record(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


TIMESTAMP = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)$"}
LINK = {"type": "string", "pattern": "^https?://"}


def plain(most: int) -> dict[str, Any]:
    return record({"type": {"const": "plain_text"}, "text": text(most)}, emoji={"type": "boolean"})


HEAD = record({"type": {"const": "mrkdwn"}, "text": text(80, pattern="^\\*[A-Z][a-z]+\\*$")})
FIELDS = {"type": "array", "minItems": 1, "maxItems": 10, "items": {"oneOf": [plain(2_000), HEAD]}}
MRKDWN = record(
    {"type": {"const": "mrkdwn"}, "text": text(3_000, pattern="^[^<>&]*(<https?://[^<>|]+\\|[^<>]+>)?$")}
)
BLOCKS = {
    "type": "array",
    "minItems": 1,
    "maxItems": 50,
    "items": {
        "oneOf": [
            record({"type": {"const": "header"}, "text": plain(150)}),
            record({"type": {"const": "section"}, "text": plain(3_000)}),
            record({"type": {"const": "section"}, "fields": FIELDS}),
            record(
                {
                    "type": {"const": "context"},
                    "elements": {"type": "array", "maxItems": 10, "items": {"oneOf": [MRKDWN, plain(2_000)]}},
                }
            ),
        ]
    },
}
SLACK = record(
    {
        "text": text(40_000, pattern="^[^<>]*$"),
        "blocks": BLOCKS,
    },
    attachments={
        "type": "array",
        "maxItems": 1,
        "items": record({"color": {"type": "string", "pattern": "^#[0-9a-f]{6}$"}, "blocks": BLOCKS}),
    },
    channel=text(80),
    username=text(80),
)

RUN = record(
    {"type": {"const": "TextRun"}, "text": text(28_000)},
    weight={"enum": ["Lighter", "Default", "Bolder"]},
    size={"enum": ["Small", "Default", "Medium", "Large", "ExtraLarge"]},
    isSubtle={"type": "boolean"},
)
TEXT_BLOCK = record(
    {"type": {"const": "RichTextBlock"}, "inlines": {"type": "array", "minItems": 1, "items": RUN}}
)
# Its texts are Markdown.
FACT = record(
    {
        "title": text(40, pattern="^[A-Z][a-z]+$"),
        "value": text(2_000, pattern=r"^(?!\s*([-+]|\d+[.)])\s)[^\\*_`~#<>\[\]|&]+$"),
    }
)
FACTS = record({"type": {"const": "FactSet"}, "facts": {"type": "array", "minItems": 1, "items": FACT}})
CARD = record(
    {
        "$schema": {"const": "http://adaptivecards.io/schemas/adaptive-card.json"},
        "type": {"const": "AdaptiveCard"},
        "version": {"const": "1.4"},
        "body": {
            "type": "array",
            "minItems": 1,
            "items": {
                "oneOf": [
                    TEXT_BLOCK,
                    FACTS,
                    record(
                        {
                            "type": {"const": "Container"},
                            "items": {"type": "array", "minItems": 1, "items": TEXT_BLOCK},
                        },
                        style={"enum": ["default", "emphasis", "good", "attention", "warning", "accent"]},
                        bleed={"type": "boolean"},
                    ),
                ]
            },
        },
        "msteams": record({"width": {"const": "full"}}),
    },
    fallbackText={"type": "string"},
    actions={
        "type": "array",
        "items": record({"type": {"const": "Action.OpenUrl"}, "title": text(100), "url": LINK}),
    },
)
TEAMS = record(
    {
        "type": {"const": "message"},
        "attachments": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": record(
                {
                    "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                    "contentUrl": {"type": "null"},
                    "content": CARD,
                }
            ),
        },
    }
)

PAGERDUTY = record(
    {
        "routing_key": text(32, minLength=32),
        "event_action": {"const": "trigger"},
        "dedup_key": text(255),
        "payload": record(
            {
                "summary": text(1_024),
                "source": text(1_024),
                "severity": {"enum": ["critical", "error", "warning", "info"]},
            },
            timestamp=TIMESTAMP,
            component={"type": "string"},
            group={"type": "string"},
            custom_details={"type": "object"},
            **{"class": {"type": "string"}},
        ),
    },
    client={"type": "string"},
    client_url=LINK,
    links={"type": "array", "items": record({"href": LINK}, text={"type": "string"})},
    images={"type": "array"},
)

OPSGENIE = record(
    {"message": text(130)},
    alias=text(512),
    description=text(15_000),
    tags={"type": "array", "maxItems": 20, "items": text(50)},
    details={"type": "object", "additionalProperties": {"type": "string"}},
    entity=text(512),
    source=text(100),
    priority={"enum": ["P1", "P2", "P3", "P4", "P5"]},
)

WEBHOOK = record(
    {
        "type": text(300, pattern=r"^certificate\..+"),
        "timestamp": TIMESTAMP,
        "data": record(
            {
                "id": {"type": "string"},
                "type": {"type": "string"},
                "certificate_id": {"type": ["string", "null"]},
                "message": {"type": "string"},
                "recipient": {"type": "string"},
                "url": {"type": "string"},
            }
        ),
    }
)

SCHEMAS = {
    "Slack": SLACK,
    "Teams": TEAMS,
    "PagerDuty": PAGERDUTY,
    "OpsGenie": OPSGENIE,
    "Webhook": WEBHOOK,
}
