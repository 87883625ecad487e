"""The calls. They check the caller and the shape of what came in, and hand over to the QuerySet's verbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.core.exceptions import ValidationError as ModelValidationError
from django.db import IntegrityError
from rest_framework.exceptions import MethodNotAllowed, NotFound, PermissionDenied, ValidationError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ..database import database_now
from ..models import NotificationEvent, NotificationQuerySet
from ..models.conditions import free
from ..operations import bulk
from ..operations.filters import Filters, matching
from ..operations.survey import renewed_among
from ..operations.verbs import REQUEUE
from ..reporting import snapshot as stats
from . import access, errors, listing, schema, serializers
from .transport import AlwaysFirst, BoundedJSON


class View(APIView):
    """Everything is set here, so that a site's own REST_FRAMEWORK settings change nothing.

    permissions  the permission that each method needs
    queried      the methods that take parameters
    """

    permissions: ClassVar[dict[str, str]] = {}
    queried: ClassVar[tuple[str, ...]] = ()
    http_method_names = ["get", "head", "post"]
    authentication_classes = [access.BearerToken, access.StaffSession]
    permission_classes = [access.Permitted]
    throttle_classes = [access.Throttle]
    parser_classes = [BoundedJSON]
    renderer_classes = [JSONRenderer]
    content_negotiation_class: type[BaseContentNegotiation] = AlwaysFirst
    versioning_class = None
    schema = schema.Described()

    def get_exception_handler(self) -> Callable[..., Response]:
        return errors.answer

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.META.get("HTTP_TRANSFER_ENCODING"):
            # Django takes such a body for an empty one, and its fields would be called missing.
            raise errors.LengthRequired()
        if request.query_params and request.method not in self.queried:
            names = list(request.query_params)
            raise ValidationError({name: ["Unknown. This call takes no parameters."] for name in names})


def query(request: Request) -> dict[str, Any]:
    """The query string's values. Raises ValidationError for a parameter that is given twice."""
    twice = [name for name, values in request.query_params.lists() if len(values) > 1]
    if twice:
        raise ValidationError({name: ["Given more than once."] for name in twice})
    return request.query_params.dict()


def caller(request: Request) -> str:
    return str(request.user.get_username())


def event_or_404(event_id: str, rows: NotificationQuerySet | None = None) -> NotificationEvent:
    found = None
    if "\x00" not in event_id:
        found = (rows if rows is not None else NotificationEvent.objects.all()).filter(pk=event_id).first()
    if found is None:
        raise NotFound(f"There is no notification {event_id!r}.")
    return found


class Notifications(View):
    permissions = {"GET": access.VIEW, "POST": access.ADD}
    queried = ("GET", "HEAD")

    @schema.LIST
    def get(self, request: Request) -> Response:
        asked = serializers.ListQuery(data=query(request))
        asked.is_valid(raise_exception=True)
        chosen: dict[str, Any] = asked.validated_data
        rows, per_page = matching(listing.chosen(chosen)), chosen["per_page"]
        if "cursor" in chosen:
            events, cursor = listing.read_on(rows, chosen["cursor"], per_page)
            return Response({"data": shown(events), "next_cursor": cursor, "per_page": per_page})
        page = chosen.get("page", 1)
        events, total = listing.numbered(rows, page, per_page, chosen["order"])
        return Response({"data": shown(events), "total": total, "page": page, "per_page": per_page})

    @schema.CREATE
    def post(self, request: Request) -> Response:
        given = serializers.Creation(data=request.data)
        given.is_valid(raise_exception=True)
        try:
            event, created = NotificationEvent.objects.notify(**given.validated_data)
        except IntegrityError as error:
            # certctl's own table lets a notification point to a certificate that it knows only.
            raise ValidationError({"certificate_id": ["There is no such certificate."]}) from error
        if not created and not request.user.has_perm(access.VIEW):
            return Response({"id": event.pk})
        answer = serializers.Event(event).data
        return Response(answer | warned(event), status=201) if created else Response(answer)


class Batch(View):
    permissions = {"POST": access.ADD}

    @schema.CREATE_MANY
    def post(self, request: Request) -> Response:
        given = serializers.Creations(data=request.data)
        given.is_valid(raise_exception=True)
        try:
            raised = NotificationEvent.objects.notify_many(given.validated_data["notifications"])
        except IntegrityError as error:
            raise ValidationError({"certificate_id": ["One of them names no certificate."]}) from error
        except ModelValidationError as error:
            raise ValidationError({"notifications": error.message_dict}) from error
        made = [
            {"id": event.pk, "created": created} | (warned(event) if created else {})
            for event, created in raised
        ]
        return Response({"data": made}, status=201 if any(one["created"] for one in made) else 200)


def warned(event: NotificationEvent) -> dict[str, Any]:
    """What whoever raised it should know, where there is anything."""
    said = [f"{why[0].upper()}{why[1:]}, so nothing may be delivered." for why in event.warnings]
    return {"warnings": said} if said else {}


def shown(events: list[NotificationEvent]) -> Any:
    return serializers.Event(events, many=True).data


class Notification(View):
    permissions = {"GET": access.VIEW}

    @schema.DETAIL
    def get(self, request: Request, event_id: str) -> Response:
        rows = NotificationEvent.objects.with_kind().prefetch_related("deliveryattempts")
        return Response(serializers.EventWithAttempts(event_or_404(event_id, rows)).data)


class Verb(Notification):
    """A change of one notification. A GET reads the one whose id ends in the verb, if there is one."""

    word: ClassVar[str]
    allowed_methods = ["POST"]  # what the answers say

    @schema.not_described
    def get(self, request: Request, event_id: str) -> Response:
        try:
            answer: Response = super().get(request, f"{event_id}/{self.word}")
            return answer
        except NotFound:
            raise MethodNotAllowed(str(request.method)) from None


class Read(Verb):
    permissions = {"GET": access.VIEW, "POST": access.CHANGE}
    word = "read"

    @schema.READ
    def post(self, request: Request, event_id: str) -> Response:
        event_or_404(event_id).mark_read(by=caller(request), via="api")
        return Response({"status": "marked_as_read"})


class Restore(Verb):
    permissions = {"GET": access.VIEW, "POST": access.CHANGE}
    word = "restore"

    @schema.RESTORE
    def post(self, request: Request, event_id: str) -> Response:
        event_or_404(event_id).restore(by=caller(request), via="api")
        return Response({"status": "restored"})


class Requeue(Verb):
    permissions = {"GET": access.VIEW, "POST": access.REQUEUE}
    word = "requeue"

    @schema.REQUEUE
    def post(self, request: Request, event_id: str) -> Response:
        event_or_404(event_id).requeue(by=caller(request), via="api")
        return Response({"status": "requeued"})


# Whoever chooses by these can find out, by the counts, what a notification says and to whom.
READING = ("search", "error", "alike", "recipient")


class RequeueMany(View):
    permissions = {"POST": access.REQUEUE}

    @schema.REQUEUE_MANY
    def post(self, request: Request) -> Response:
        given = serializers.BulkRequeue(data=request.data)
        given.is_valid(raise_exception=True)
        chosen = listing.chosen(given.validated_data)
        named = [name for name in READING if getattr(chosen, name)]
        if named and not request.user.has_perm(access.VIEW):
            raise PermissionDenied(f"To choose by {' and '.join(named)} needs the permission {access.VIEW}.")
        matched = matching(chosen)
        total, too = matched.count(), given.validated_data["renewed"]
        movable = matched.filter(free(database_now()), REQUEUE.allows())
        over = 0 if too else renewed_among(movable)
        if given.validated_data["dry_run"]:
            requeued = movable.count() - over
        else:
            requeued = carried_out(chosen, total, caller(request), too)
        answer = {"requeued": requeued, "skipped": max(0, total - requeued)}
        return Response(answer | ({"renewed": over} if over else {}))


def carried_out(chosen: Filters, total: int, by: str, renewed: bool) -> int:
    """Requeue them, as one operation on record; how many that were."""
    operation = bulk.start(REQUEUE, filters=chosen.query, requested=total, by=by, via="api", renewed=renewed)
    return bulk.finish(operation).changed


class Summary(View):
    permissions = {"GET": access.VIEW}

    @schema.SUMMARY
    def get(self, request: Request) -> Response:
        return Response(stats.summary())


class Nowhere(View):
    """What is under the API's prefix and is no call: JSON, also while debugging."""

    authentication_classes = []
    permission_classes = []
    throttle_classes = []
    schema = None  # type: ignore[assignment]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound("There is no such call. See the API's documentation.")
