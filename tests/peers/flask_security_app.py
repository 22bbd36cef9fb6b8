"""Flask-Security: its own mail of welcome, with its own Flask-Mail message class."""

import json
import os

from flask import Flask
from flask_security import MailUtil, Security, SQLAlchemyUserDatastore
from flask_security.models import fsqla_v3
from flask_sqlalchemy import SQLAlchemy

from flask_outmail import Mail

app = Flask(__name__)
app.config.update(json.loads(os.environ["PEER_CONFIG"]), SECURITY_PASSWORD_SALT="salt")
db = SQLAlchemy(app)
fsqla_v3.FsModels.set_db_info(db)


class Role(db.Model, fsqla_v3.FsRoleMixin):  # type: ignore[name-defined,misc]
    pass


class User(db.Model, fsqla_v3.FsUserMixin):  # type: ignore[name-defined,misc]
    pass


mail = Mail(app)
Security(app, SQLAlchemyUserDatastore(db, User, Role))
with app.app_context():
    MailUtil(app).send_mail(
        "welcome",
        "Welcome",
        "ann@customers.example",
        ("Contoso", app.config["OUTMAIL_SETUP"]["from_address"]),
        "Welcome to the shop",
        "<p>Welcome to the shop</p>",
    )
