"""A message of Flask-Mail's own class, attachment included, handed to us."""

import json
import os

import flask_mail
from flask import Flask

import flask_outmail

app = Flask(__name__)
app.config.update(json.loads(os.environ["PEER_CONFIG"]))
mail = flask_outmail.Mail(app)
with app.app_context():
    message = flask_mail.Message("Welcome", ["ann@customers.example"], "Welcome to the shop", sender=None)
    message.attach("terms.txt", "text/plain", b"Terms")
    mail.send(message)
try:
    flask_outmail.install_as_flask_mail()
except RuntimeError:
    pass
else:
    raise AssertionError("both libraries at once must be refused")
