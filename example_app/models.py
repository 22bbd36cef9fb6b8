"""Who buys, and what was bought."""

from __future__ import annotations

import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship
from werkzeug.security import check_password_hash, generate_password_hash

from .books import Book, book_or_none
from .extensions import Base, db


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    email: Mapped[str] = mapped_column(String(254))
    password_hash: Mapped[str] = mapped_column(String(255))
    is_admin: Mapped[bool] = mapped_column(default=False)

    def has_password(self, password: str) -> bool:
        return check_password_hash(self.password_hash, password)


class Order(Base):
    """One order, and what became of its confirmation: `mail_state` is "", accepted, held, failed or unknown."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    book_slug: Mapped[str] = mapped_column(String(80))
    title: Mapped[str] = mapped_column(String(200))
    price_cents: Mapped[int]
    quantity: Mapped[int]
    email: Mapped[str] = mapped_column(String(254))
    ordered_on: Mapped[datetime.date] = mapped_column(default=datetime.date.today)
    mail_state: Mapped[str] = mapped_column(String(16), default="")
    mail_reason: Mapped[str] = mapped_column(String(500), default="")
    message_id: Mapped[str] = mapped_column(String(255), default="")

    user: Mapped[User] = relationship()

    @property
    def number(self) -> str:
        return f"QP-{self.id:05d}"

    @property
    def total_cents(self) -> int:
        return self.price_cents * self.quantity

    @property
    def book(self) -> Book | None:
        return book_or_none(self.book_slug)


# The demonstration's log-ins: name, password, address, whether it is an administrator.
DEMO_USERS = (
    ("admin", "admin", "admin@quill-and-page.example", True),
    ("clara", "clara", "clara@reader.example", False),
)


def create_tables() -> None:
    """Creates all tables, Flask-Outmail's too, and the demonstration's users; what exists stays as it is."""
    db.create_all()
    known = set(db.session.scalars(db.select(User.name)))
    for name, password, email, is_admin in DEMO_USERS:
        if name not in known:
            hashed = generate_password_hash(password)
            db.session.add(User(name=name, password_hash=hashed, email=email, is_admin=is_admin))
    db.session.commit()
