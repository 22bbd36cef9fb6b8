"""Flask-AppBuilder: the mail that confirms a registration, sent by `Mail(current_app)` inside a request."""

import json
import os
from types import SimpleNamespace

from flask import Flask

import flask_outmail

flask_outmail.install_as_flask_mail()

from flask_appbuilder.security.registerviews import BaseRegisterUser  # noqa: E402

app = Flask(__name__)
app.config.update(json.loads(os.environ["PEER_CONFIG"]))
flask_outmail.Mail(app)


class Registration(BaseRegisterUser):
    email_subject = "Welcome"

    def __init__(self) -> None:
        pass

    def render_template(self, template: str, **values: object) -> str:
        return f"<p>Welcome to the shop, {values['first_name']}: {values['url']}</p>"


app.add_url_rule("/activation/<activation_hash>", "activation", lambda activation_hash: "")
person = SimpleNamespace(
    registration_hash="h", username="ann", first_name="Ann", last_name="A", email="ann@customers.example"
)
with app.test_request_context("/"):
    import flask_appbuilder.security.registerviews as views

    views.url_for = lambda endpoint, **values: f"https://shop.example/activation/{values['activation_hash']}"
    assert Registration().send_email(person)
