"""Flask-User: its e-mail adapter makes a `flask_mail.Mail` of its own, which is ours."""

import json
import os

from flask import Flask

import flask_outmail

flask_outmail.install_as_flask_mail()

from flask_user.email_adapters import SMTPEmailAdapter  # noqa: E402

app = Flask(__name__)
app.config.update(json.loads(os.environ["PEER_CONFIG"]))
adapter = SMTPEmailAdapter(app)
with app.app_context():
    adapter.send_email_message(
        "ann@customers.example",
        "Welcome",
        "<p>Welcome to the shop</p>",
        "Welcome to the shop",
        app.config["OUTMAIL_SETUP"]["from_address"],
        "Contoso",
    )
