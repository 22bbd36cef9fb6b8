"""The forms, each with its CSRF token."""

from __future__ import annotations

from flask_wtf import FlaskForm
from wtforms import EmailField, Field, Form, HiddenField, IntegerField, PasswordField, StringField, TextAreaField
from wtforms.validators import DataRequired, Email, InputRequired, Length, NumberRange, ValidationError


def one_line(form: Form, field: Field) -> None:
    """Browsers never send a line break from these fields. Who does wants to write headers of a mail."""
    if not str(field.data or "").isprintable():
        raise ValidationError("Please write this on one line, without control characters.")


_EMAIL = (
    DataRequired("Please enter an email address."),
    one_line,
    Length(max=254, message="This is too long for an email address."),
    Email("Please enter an email address, like name@example.com."),
)


class LoginForm(FlaskForm):  # type: ignore[misc]
    name = StringField("Name", [DataRequired("Please enter your name."), Length(max=80)])
    password = PasswordField("Password", [DataRequired("Please enter your password.")])
    next = HiddenField()


class OrderForm(FlaskForm):  # type: ignore[misc]
    quantity = IntegerField(
        "Copies",
        [InputRequired("Please enter how many copies."), NumberRange(1, 20, "Please order between 1 and 20 copies.")],
        default=1,
    )
    email = EmailField("Send the confirmation to", _EMAIL)


class ContactForm(FlaskForm):  # type: ignore[misc]
    name = StringField("Your name", [DataRequired("Please tell us your name."), one_line, Length(max=80)])
    email = EmailField("Your email address", _EMAIL)
    text = TextAreaField("Your question", [DataRequired("Please write your question."), Length(max=4000)])


class ButtonForm(FlaskForm):  # type: ignore[misc]
    """A button alone: nothing but the token."""
