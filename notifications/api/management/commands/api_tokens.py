from __future__ import annotations

import argparse
import json
import re
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import router, transaction
from django.db.models import QuerySet

from notifications import durations
from notifications.api import access
from notifications.api.models import ApiToken
from notifications.reporting.command_line import one_line_errors

UNITS = {"d": "days", "h": "hours", "m": "minutes"}
LONGEST = timedelta(days=3660)
ALLOWED = {"view": access.VIEW, "create": access.ADD, "read": access.CHANGE, "requeue": access.REQUEUE}


def life(text: str) -> timedelta:
    """An argument such as 90d, 12h or 30m."""
    found = re.fullmatch(r"(\d{1,6})([dhm])", text)
    span = timedelta(**{UNITS[found[2]]: int(found[1])}) if found else timedelta(0)
    if not timedelta(0) < span <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90d, 12h or 30m, up to 3660d")
    return span


def rights(text: str) -> list[str]:
    """An argument such as view,create."""
    found = [word.strip() for word in text.split(",")]
    if unknown := [word for word in found if word not in ALLOWED]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(ALLOWED)}")
    return found


class Command(BaseCommand):
    help = "Issue, list and revoke the tokens of the REST interface. A token may do what its user may do."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser(
            "create", help="issue a token; its secret is the one line on standard output"
        )
        create.add_argument("user", help="whose permissions it has: a person or a service account")
        create.add_argument("--name", required=True, help="what uses it")
        create.add_argument("--expires", type=life, default="90d", help="after which time (default: 90d)")
        create.add_argument(
            "--allow",
            type=rights,
            help=f"USER is a new service account, without a password, that may do this: {','.join(ALLOWED)}",
        )
        listing = verbs.add_parser("list", help="show the tokens, never their secrets")
        listing.add_argument("user", nargs="?", help="only this user's")
        listing.add_argument("--json", action="store_true", help="as one JSON array")
        revoke = verbs.add_parser("revoke", help="end a token now")
        revoke.add_argument("user")
        which = revoke.add_mutually_exclusive_group(required=True)
        which.add_argument("--name", help="the token of this name")
        which.add_argument("--all", action="store_true", help="all of the user's tokens")

    def handle(self, *args: Any, **options: Any) -> None:
        with one_line_errors():
            getattr(self, options["verb"])(options)

    def create(self, options: dict[str, Any]) -> None:
        name, allowed = options["user"], options["allow"]
        try:
            with transaction.atomic(using=router.db_for_write(get_user_model())):
                user = service_account(name, allowed) if allowed else user_named(name)
                token, secret = ApiToken.objects.issue(user, options["name"], options["expires"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stderr.write(f"This is shown once. It works until {durations.minute(token.expires_at)}.")
        self.stdout.write(secret)

    def list(self, options: dict[str, Any]) -> None:
        tokens = tokens_of(options["user"]) if options["user"] else ApiToken.objects.select_related("user")
        rows = [
            {
                "user": token.user.get_username(),
                "name": token.name,
                "begins_with": token.hint,
                "created": token.created_at.isoformat(timespec="seconds"),
                "expires": token.expires_at.isoformat(timespec="seconds"),
                "expired": token.has_expired,
            }
            for token in tokens
        ]
        if options["json"]:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            state = "expired" if row["expired"] else "expires"
            self.stdout.write(
                f"{row['begins_with']}…  {row['user']}: {row['name']}, {state} {row['expires']}"
            )
        if not rows:
            self.stdout.write("There are no tokens.")

    def revoke(self, options: dict[str, Any]) -> None:
        tokens = tokens_of(options["user"])
        if options["name"]:
            tokens = tokens.filter(name=options["name"])
        count, _ = tokens.delete()
        if not count:
            raise CommandError("there is no such token")
        self.stdout.write(f"Revoked {count} {'token' if count == 1 else 'tokens'}.")


def service_account(name: str, allowed: list[str]) -> Any:
    """A new user that can do nothing but call with a token. Raises CommandError where the name is taken."""
    model = get_user_model()
    users: Any = model._default_manager
    if users.filter(**{model.USERNAME_FIELD: name}).exists():
        raise CommandError(f"there is a user {name!r} already: leave out --allow, or choose another name")
    user = users.create_user(**{model.USERNAME_FIELD: name})
    for word in allowed:
        app, _, codename = ALLOWED[word].partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return user


def user_named(name: str) -> Any:
    model = get_user_model()
    user = model._default_manager.filter(**{model.USERNAME_FIELD: name}).first()
    if user is None:
        raise CommandError(f"there is no user {name!r}")
    return user


def tokens_of(name: str) -> QuerySet[ApiToken]:
    return ApiToken.objects.filter(user=user_named(name)).select_related("user")
