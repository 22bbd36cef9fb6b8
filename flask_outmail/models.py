"""The tables, all named `outmail_…`, and nothing else: what is done with them is in `auth_objects`, `setups`, `outbox`.

They have a declarative base of their own, so that the classes can be imported and are typed; `attach` makes the
application's own metadata know them. There is no foreign key into the application's tables.

Databases in use are upgraded by adding tables, columns and indexes (`upgrade`): so a new column is nullable or has a
`server_default`, and what must be unique in an existing table is so by an index.
"""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Constraint,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.schema import ColumnCollectionConstraint

# Named there, because an import of the package must not load SQLAlchemy; given on from here.
from .settings import FEDERATED, MANAGED_IDENTITY
from .settings import PRIMARY as PRIMARY


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC on every database; naive moments are refused, because nobody knows what they mean."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        if dialect.name in ("mysql", "mariadb"):
            # Whole seconds otherwise, and then two activations in one second have no order.
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return super().load_dialect_impl(dialect)

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        return value.astimezone(timezone.utc).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.replace(tzinfo=timezone.utc)


#: MySQL and MariaDB would cut a plain binary off at 64 KiB.
LongBinary = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


class Base(DeclarativeBase):
    # Names for every constraint: migration tools cannot drop what has no name.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime}  # noqa: RUF012 -- read by SQLAlchemy when the class is made


class AuthObject(Base):
    """A stored credential. The columns ending in `_sealed` are encrypted (`vault`) and never leave as they are."""

    __tablename__ = "outmail_auth_objects"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    description: Mapped[str] = mapped_column(String(500), default="")
    provider: Mapped[str] = mapped_column(String(64))
    tenant: Mapped[str] = mapped_column(String(255))
    client_id: Mapped[str] = mapped_column(String(64))
    cloud: Mapped[str] = mapped_column(String(64), default="global")
    client_secret_sealed: Mapped[str] = mapped_column(Text, default="")
    certificate_sealed: Mapped[str] = mapped_column(Text, default="")
    certificate_password_sealed: Mapped[str] = mapped_column(Text, default="")
    #: Where a federated credential's token comes from: a file ("": the one the environment names), or a function.
    token_file: Mapped[str | None] = mapped_column(String(500))
    token_function: Mapped[str | None] = mapped_column(String(100))
    #: The secret or certificate in use before this one, with its date: serves while Entra does not take the new one.
    previous_sealed: Mapped[str | None] = mapped_column(Text)
    replaced_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None] = mapped_column(String(200))
    expires_on: Mapped[date | None] = mapped_column(Date)
    expiry_applies_to: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    created_by: Mapped[str] = mapped_column(String(200), default="")
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_by: Mapped[str] = mapped_column(String(200), default="")
    #: Counts the edits: a form carries the one it was opened with, so that two people cannot overwrite each other.
    version: Mapped[int] = mapped_column(Integer, default=1)

    @property
    def uses_certificate(self) -> bool:
        return bool(self.certificate_sealed)

    @property
    def credential_words(self) -> str:
        """What it shows to Microsoft, for reading."""
        if self.token_function:
            return f"token of the function {self.token_function}"
        words = {FEDERATED: "token file", MANAGED_IDENTITY: "managed identity"}
        return words.get(self.provider) or ("certificate" if self.uses_certificate else "client secret")

    def days_left(self, today: date) -> int | None:
        return None if self.expires_on is None else (self.expires_on - today).days


class SavedToken(Base):
    """An access token that the processes of an application share, encrypted. Losing a row costs one request.

    `id` is a keyed hash of whose token it is. Until `claimed_until` one process is asking for a newer one.
    """

    __tablename__ = "outmail_tokens"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    token_sealed: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[datetime | None]
    claimed_until: Mapped[datetime | None]


class Setup(Base):
    """One saved revision of a connection's settings. The values never change; a change is a new revision.

    The active revision of a connection is the one activated last.
    """

    __tablename__ = "outmail_setups"
    __table_args__ = (UniqueConstraint("connection", "revision"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    connection: Mapped[str] = mapped_column(String(64), default=PRIMARY)
    revision: Mapped[int] = mapped_column(Integer)
    service: Mapped[str] = mapped_column(String(64))
    host: Mapped[str] = mapped_column(String(255), default="")
    port: Mapped[int] = mapped_column(Integer, default=0)
    tls: Mapped[str] = mapped_column(String(16), default="starttls")
    username: Mapped[str] = mapped_column(String(320), default="")
    password_sealed: Mapped[str] = mapped_column(Text, default="")
    from_address: Mapped[str] = mapped_column(String(320), default="")
    from_name: Mapped[str] = mapped_column(String(200), default="")
    failure_alerts_to: Mapped[str] = mapped_column(String(320), default="")
    auth_object_id: Mapped[int | None] = mapped_column(ForeignKey("outmail_auth_objects.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    created_by: Mapped[str] = mapped_column(String(200), default="")
    restored_from: Mapped[int | None] = mapped_column(Integer)
    activated_at: Mapped[datetime | None]
    activated_by: Mapped[str] = mapped_column(String(200), default="")
    verified_at: Mapped[datetime | None]
    verified_by: Mapped[str] = mapped_column(String(200), default="")
    #: The fingerprint of the values, secrets included, that passed a test. Another fingerprint now means unverified.
    verified_fingerprint: Mapped[str] = mapped_column(String(64), default="")

    auth_object: Mapped[AuthObject | None] = relationship(lazy="joined")


class Proof(Base):
    """One run of a setup test: which values, what came of each step, who asked.

    The password that was tested is kept, sealed, only so that saving right after a test need not ask for it again.
    """

    __tablename__ = "outmail_proofs"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    connection: Mapped[str] = mapped_column(String(64), default=PRIMARY)
    fingerprint: Mapped[str] = mapped_column(String(64))
    passed: Mapped[bool] = mapped_column(Boolean)
    steps: Mapped[Any] = mapped_column(JSON)
    host: Mapped[str] = mapped_column(String(255), default="")
    port: Mapped[int] = mapped_column(Integer, default=0)
    username: Mapped[str] = mapped_column(String(320), default="")
    password_sealed: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    created_by: Mapped[str] = mapped_column(String(200), default="")


class Delivery(Base):
    """One message to hand over. Its content is encrypted, and dropped once nobody needs it to deliver."""

    __tablename__ = "outmail_deliveries"
    __table_args__ = (Index(None, "state", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    connection: Mapped[str] = mapped_column(String(64), default=PRIMARY)
    state: Mapped[str] = mapped_column(String(16))
    message_id: Mapped[str] = mapped_column(String(255), index=True)
    #: Recognises the same message handed in again: a hash of its envelope, content and recipients included.
    digest: Mapped[str] = mapped_column(String(64), index=True, default="")
    sender: Mapped[str] = mapped_column(String(320), default="")
    recipients: Mapped[Any] = mapped_column(JSON)
    subject: Mapped[str] = mapped_column(String(255), default="")
    content_sealed: Mapped[bytes | None] = mapped_column(LongBinary)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)
    claimed_until: Mapped[datetime | None]
    code: Mapped[str] = mapped_column(String(64), default="")
    reason: Mapped[str] = mapped_column(String(500), default="")

    attempts: Mapped[list[Attempt]] = relationship(
        back_populates="delivery", order_by="Attempt.id", cascade="all, delete-orphan"
    )


class Attempt(Base):
    """One try to hand a delivery over, and what came of it."""

    __tablename__ = "outmail_attempts"

    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("outmail_deliveries.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime] = mapped_column(default=utc_now)
    connection: Mapped[str] = mapped_column(String(64), default="")
    state: Mapped[str] = mapped_column(String(16))
    code: Mapped[str] = mapped_column(String(64), default="")
    reason: Mapped[str] = mapped_column(String(500), default="")
    request_id: Mapped[str] = mapped_column(String(255), default="")
    elapsed_s: Mapped[float] = mapped_column(Float, default=0.0)

    delivery: Mapped[Delivery] = relationship(back_populates="attempts")


class Incident(Base):
    """One cause of trouble, counted and told as one, from when it was first met until it is over.

    `kind` is one of `outbox.alerts.KINDS`; `about` names what it is about when that is no connection (a credential).
    `alert` says what became of its alert: "" not told yet, "kept" nobody could be told (shown on the pages),
    "partly" told, but not by mail, "told" by a channel other than mail, "mailed".
    """

    __tablename__ = "outmail_incidents"
    __table_args__ = (Index(None, "connection", "code", "closed_at"), Index(None, "open_key", unique=True))

    id: Mapped[int] = mapped_column(primary_key=True)
    connection: Mapped[str] = mapped_column(String(64))
    code: Mapped[str] = mapped_column(String(64))
    fault: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(500), default="")
    request_id: Mapped[str] = mapped_column(String(255), default="")
    opened_at: Mapped[datetime] = mapped_column(default=utc_now)
    last_at: Mapped[datetime] = mapped_column(default=utc_now)
    count: Mapped[int] = mapped_column(Integer, default=1)
    alert: Mapped[str] = mapped_column(String(16), default="")
    #: When somebody was told last, or one process set out to tell: what decides between two that want to.
    alerted_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str] = mapped_column(String(200), default="")
    kind: Mapped[str] = mapped_column(String(16), default="failing", server_default="failing")
    about: Mapped[str] = mapped_column(String(200), default="", server_default="")
    #: A hash of what it is about while it is open, NULL afterwards: so that no two can be open for one cause.
    open_key: Mapped[str | None] = mapped_column(String(64))
    #: The remedy as it was when the cause was met, for the error itself is not kept.
    remedy: Mapped[Any] = mapped_column(JSON, nullable=True)
    #: What each channel said to the last notice: name -> {"outcome", "words"}.
    channels: Mapped[Any] = mapped_column(JSON, nullable=True)
    tried_at: Mapped[datetime | None]
    #: For what happens in steps (days until a credential ends): the last step that was told.
    level: Mapped[int | None] = mapped_column(Integer)
    #: How often it came back soon after it was over.
    flaps: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    #: When the notice of recovery is due; NULL when none is.
    recovery_at: Mapped[datetime | None]
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str] = mapped_column(String(200), default="", server_default="")


for _table in Base.metadata.tables.values():
    # Whatever the database's default is: a subject may hold any character, an emoji too.
    _table.kwargs.update(mysql_charset="utf8mb4", mariadb_charset="utf8mb4")


def attach(metadata: MetaData) -> None:
    """Makes the application's metadata know our tables, for `db.create_all()` and migrations. May be called again."""
    for table in Base.metadata.sorted_tables:
        if table.name not in metadata.tables:
            _as_plain_sql(table, table.to_metadata(metadata))


def _as_plain_sql(ours: Table, copy: Table) -> None:
    """Gives the copy nothing of ours but what the database sees: it only makes tables, and is written into migrations.

    A migration must run without this package, and the same names must come out whatever the application's own naming
    convention is: otherwise the next migration would find a difference.
    """
    for column in copy.columns:
        if isinstance(column.type, UtcDateTime):
            column.type = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    names = {_signature(part): part.name for part in _named(ours)}
    for part in _named(copy):
        part.name = names[_signature(part)]


def _named(table: Table) -> list[Index | Constraint]:
    return [*table.indexes, *table.constraints]


def _signature(part: Index | Constraint) -> tuple[str, ...]:
    columns = part.columns if isinstance(part, (Index, ColumnCollectionConstraint)) else ()
    return (type(part).__name__, *(column.name for column in columns))
