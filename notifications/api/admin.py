"""API tokens in the admin: issue one (its secret is shown once), see when it expires, revoke it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import ForeignKey, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from ..durations import timestamp
from .models import DEFAULT_LIFE, ApiToken

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[ApiToken]
    ModelForm = forms.ModelForm[ApiToken]
else:
    ModelAdmin, ModelForm = admin.ModelAdmin, forms.ModelForm


class IssueForm(ModelForm):
    class Meta:
        model = ApiToken
        fields = ("user", "name", "expires_at")

    def clean_expires_at(self) -> datetime:
        expiry: datetime = self.cleaned_data["expires_at"]
        if expiry <= timezone.now():
            raise ValidationError("This is past: the token would never work.")
        return expiry


@admin.register(ApiToken)
class ApiTokenAdmin(ModelAdmin):
    """Superusers see everybody's tokens, others their own: a token carries its user's permissions."""

    form = IssueForm
    list_display = ("name", "hint", "user", "created", "expires", "usable")
    search_fields = ("name", "hint")
    readonly_fields = ("expires",)

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> tuple[str, ...]:
        return ("user", "name", "expires" if obj else "expires_at")

    @admin.display(ordering="created_at")
    def created(self, token: ApiToken) -> str:
        return timestamp(token.created_at)

    @admin.display(ordering="expires_at")
    def expires(self, token: ApiToken) -> str:
        return timestamp(token.expires_at)

    @admin.display(boolean=True)
    def usable(self, token: ApiToken) -> bool:
        return not token.has_expired

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        tokens = super().get_queryset(request).select_related("user")
        return tokens if request.user.is_superuser else tokens.filter(user_id=str(request.user.pk))

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any], request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user" and not request.user.is_superuser:
            users = db_field.remote_field.model._default_manager
            kwargs |= {"queryset": users.filter(pk=request.user.pk), "initial": request.user.pk}
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"expires_at": timezone.now() + DEFAULT_LIFE, **super().get_changeform_initial_data(request)}

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ApiToken, form: ModelForm, change: bool) -> None:
        secret = obj.draw_secret()
        super().save_model(request, obj, form, change)
        self.message_user(request, f"This is shown once, so copy it now: {secret}", messages.WARNING)
