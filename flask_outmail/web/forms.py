"""The forms. They say what can be typed; what it means for a setup is decided in `setup_form` and by the services."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from flask import has_request_context, request
from flask_wtf import FlaskForm
from flask_wtf.file import FileField
from wtforms import (
    BooleanField,
    DateField,
    Field,
    HiddenField,
    PasswordField,
    RadioField,
    SelectField,
    StringField,
    TextAreaField,
)
from wtforms.validators import Length, Optional, ValidationError

from ..auth_objects import DESCRIPTION_MAX_CHARS, NAME_MAX_CHARS

#: What pages elsewhere show in place of a stored password; here nobody means it as one.
_PLACEHOLDER = re.compile(r"^[*•●∙·⬤]{3,}$")


class CsrfRefused(Exception):
    """A form came without its token, or with an old one; nothing was changed."""


def csrf_refused(form: FlaskForm) -> bool:
    """Whether the form's token was the trouble. Call after `validate`."""
    token = getattr(form, "csrf_token", None)
    return bool(token is not None and token.errors)


def told_by(form: FlaskForm) -> dict[str, str]:
    """What the fields themselves found wrong with what was typed: field → sentence. Call after `validate`."""
    return {name: str(errors[0]) for name, errors in form.errors.items() if name and name != "csrf_token"}


def in_order(form: FlaskForm, problems: dict[str, str]) -> dict[str, str]:
    """Problems in the order of the form's fields, as a person meets them."""
    places = {name: place for place, name in enumerate(form._fields)}
    return dict(sorted(problems.items(), key=lambda one: places.get(one[0], len(places))))


def demand_csrf() -> None:
    """For forms that are only a button.

    Raises:
        CsrfRefused: the token is missing or too old.
    """
    form = ActionForm()
    form.validate()
    if csrf_refused(form):
        raise CsrfRefused


def stripped(text: Any) -> Any:
    return text.strip() if isinstance(text, str) else text


class OneLine:
    """No control characters: they break headers, protocols and, some of them, databases."""

    def __init__(self, allowed: str = "") -> None:
        self._allowed = allowed

    def __call__(self, form: FlaskForm, field: Field) -> None:
        text = str(field.data or "")
        if any(unicodedata.category(one) == "Cc" and one not in self._allowed for one in text):
            raise ValidationError("Line breaks and control characters cannot stand here.")


class NotAPlaceholder:
    def __call__(self, form: FlaskForm, field: Field) -> None:
        if _PLACEHOLDER.match(str(field.data or "")):
            raise ValidationError(
                "These are the dots or stars that stand for a secret, not the secret itself. Enter it, or leave the"
                " field empty to keep the stored one."
            )


class LengthInWords(Length):  # type: ignore[misc]
    def __init__(self, max_chars: int) -> None:
        super().__init__(max=max_chars, message=f"At most {max_chars} characters.")


def text_field(label: str, max_chars: int) -> StringField:
    return StringField(label, filters=[stripped], validators=[OneLine(), LengthInWords(max_chars)])


def secret_field(label: str, max_chars: int = 1000) -> PasswordField:
    return PasswordField(label, validators=[NotAPlaceholder(), OneLine(), LengthInWords(max_chars)])


class ActionForm(FlaskForm):  # type: ignore[misc]
    """A button, and the token that makes it ours."""

    version = HiddenField()
    revision = HiddenField()


class SetupForm(FlaskForm):  # type: ignore[misc]
    """The outbound mail setup. Every field is there for every service; the service decides which of them count."""

    service = RadioField("What kind of mail service are you using?", validate_choice=False)
    auth_object = SelectField("Authentication object", validate_choice=False)
    host = text_field("Host", 255)
    # Text, so that whatever was typed is still there beside the sentence that says what is wrong with it.
    port = text_field("Port", 10)
    tls = RadioField("TLS", validate_choice=False)
    tls_none_confirmed = BooleanField("Send the password unprotected all the same")
    username = text_field("Username", 320)
    password = secret_field("Password")
    from_address = text_field("From email address", 320)
    from_name = text_field("From name", 200)
    failure_alerts_to = text_field("Backend failure alerts email address", 320)
    test_message_to = text_field("Send a test message to", 320)
    foreign_mailbox = text_field("A mailbox that must be refused", 320)
    revision = HiddenField()
    proof = HiddenField()
    #: The service whose values the locked fields showed. Without JavaScript they are still those of the former one
    #: when another is chosen.
    shown_service = HiddenField()


def client_secret_field() -> PasswordField:
    # What pasting adds is taken away later (`providers.cleaned`), so line ends are no error here.
    return PasswordField("Client secret", validators=[NotAPlaceholder(), OneLine("\r\n\t"), LengthInWords(1000)])


def certificate_field() -> TextAreaField:
    return TextAreaField("Certificate", validators=[OneLine("\r\n\t"), LengthInWords(50_000)])


class AuthObjectForm(FlaskForm):  # type: ignore[misc]
    name = text_field("Name", NAME_MAX_CHARS)
    description = TextAreaField(
        "Description", filters=[stripped], validators=[OneLine("\r\n\t"), LengthInWords(DESCRIPTION_MAX_CHARS)]
    )
    provider = SelectField("Provider", validate_choice=False)
    pasted = TextAreaField("What you copied", validators=[OneLine("\r\n\t"), LengthInWords(20_000)])
    # What pasting adds is taken away later (`providers.cleaned`), so line ends are no error here.
    tenant = StringField(
        "Directory (tenant) ID", filters=[stripped], validators=[OneLine("\r\n\t"), LengthInWords(255)]
    )
    client_id = StringField(
        "Application (client) ID", filters=[stripped], validators=[OneLine("\r\n\t"), LengthInWords(64)]
    )
    secret_kind = RadioField("What shows who the application is?", validate_choice=False)
    client_secret = client_secret_field()
    certificate = certificate_field()
    certificate_file = FileField("… or choose its file")
    certificate_password = secret_field("Password of the certificate")
    valid_days = SelectField("How long it is to last", validate_choice=False)
    token_file = text_field("Path of the token file", 500)
    token_function = SelectField("Or a function of this application", validate_choice=False)
    cloud = SelectField("Cloud", validate_choice=False)
    expires_on = DateField("Expiry date", validators=[Optional()])
    expiry_applies_to = text_field("Expiry applies to", 200)
    version = HiddenField()

    def validate_name(self, field: Field) -> None:
        if not field.data:
            raise ValidationError("Enter a name, so that it can be chosen in the setup.")

    def validate_expires_on(self, field: Field) -> None:
        if field.errors:
            field.errors = ["Enter a date in the form 2027-04-15."]


class SecretForm(FlaskForm):  # type: ignore[misc]
    """A new secret or certificate for an authentication object."""

    secret_kind = RadioField("What is to take its place?", validate_choice=False)
    client_secret = client_secret_field()
    expires_on = DateField("Expiry date", validators=[Optional()])
    valid_days = SelectField("How long it is to last", validate_choice=False)
    certificate = certificate_field()
    certificate_file = FileField("… or choose its file")
    certificate_password = secret_field("Password of the certificate")
    version = HiddenField()

    def validate_expires_on(self, field: Field) -> None:
        if field.errors:
            field.errors = ["Enter a date in the form 2027-04-15."]


def number(text: Any) -> int:
    """A hidden field's number; 0 for anything that is none."""
    text = str(text or "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def wanted_action() -> str:
    return request.form.get("action", "") if has_request_context() else ""
