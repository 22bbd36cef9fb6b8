"""Invenio-Mail: a templated message, and the task that fills `Message.__dict__` by itself."""

import json
import os

from flask import Flask

import flask_outmail

flask_outmail.install_as_flask_mail()

from invenio_mail import InvenioMail  # noqa: E402
from invenio_mail.api import TemplatedMessage  # noqa: E402
from jinja2 import DictLoader  # noqa: E402

app = Flask(__name__)
app.config.update(json.loads(os.environ["PEER_CONFIG"]))
app.jinja_loader = DictLoader({"welcome.html": "<p>Welcome to the shop, {{ name }}</p>"})  # type: ignore[assignment]
InvenioMail(app)
with app.app_context():
    made = TemplatedMessage(
        template_html="welcome.html", ctx={"name": "Ann"}, subject="Welcome", recipients=["ann@customers.example"]
    )
    kept = json.loads(json.dumps({name: value for name, value in made.__dict__.items() if name != "attachments"}))
    message = flask_outmail.Message()
    message.__dict__.update(kept)
    app.extensions["mail"].send(message)
