"""The tables, all named `outmail_…`, and nothing else: what is done with them is in `auth_objects`, `setups`, `outbox`.

They have a declarative base of their own, so that the classes can be imported and are typed; `attach` makes the
application's own metadata know them. There is no foreign key into the application's tables.

Databases in use are upgraded by adding tables, columns and indexes (`upgrade`): so a new column is nullable or has a
`server_default`, and what must be unique in an existing table is so by an index.
"""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any
from uuid import uuid4

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

from .settings import PRIMARY as PRIMARY

# Named there, because an import of the package must not load SQLAlchemy; given on from here.
from .setup_values import FEDERATED, MANAGED_IDENTITY


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def new_uid() -> str:
    return uuid4().hex


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


#: MySQL and MariaDB take "Order-a" and "order-A" for the same text otherwise, and a message would go amiss for its key.
ExactString = String(200).with_variant(mysql.VARCHAR(200, collation="utf8mb4_bin"), "mysql", "mariadb")


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
    """One run of a test: which values, what came of each step, who asked.

    `kind`: None for a setup that a person tested, "scheduled", or "credential" for a credential by itself; `connection`
    is then where its authentication object stands.

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
    kind: Mapped[str | None] = mapped_column(String(16))


class Delivery(Base):
    """One message to hand over: who it is for, which state it is in (`outbox.states`), and who is busy with it."""

    __tablename__ = "outmail_deliveries"
    __table_args__ = (
        # What is claimed next is one short range of this index, however many rows are done.
        Index(None, "state", "connection", "turn", "id"),
        Index(None, "state", "due_at"),
        Index(None, "state", "id"),
        # What the pages show: the log, newest first, and what became of the messages of each hour.
        Index(None, "created_at", "id"),
        Index(None, "state", "created_at", "id"),
        Index(None, "parent_id"),
        # Indexes, not constraints: SQLite adds no constraint to a table that is there already.
        Index(None, "uid", unique=True),
        Index(None, "key", unique=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    #: Its name before it has a row: the caller's handle, and the name of its file while it waits in the spool.
    uid: Mapped[str | None] = mapped_column(String(64), default=new_uid)
    #: Given by the caller, so that asking twice queues once.
    key: Mapped[str | None] = mapped_column(ExactString)
    connection: Mapped[str] = mapped_column(String(64), default=PRIMARY)
    state: Mapped[str] = mapped_column(String(16))
    #: How it came here: "enqueue", "send" (queued by `mail.send`), "direct" (handed over at once), "held", "again".
    origin: Mapped[str] = mapped_column(String(16), default="held", server_default="held")
    #: The smallest turn goes first; it is the priority, negated.
    turn: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    #: Not before this moment, while it is waiting. For an unknown one: when to ask the server about it.
    due_at: Mapped[datetime | None]
    #: Since when it could leave: what its age is counted from.
    queued_at: Mapped[datetime | None]
    #: After this moment it is not handed over any more.
    not_after_at: Mapped[datetime | None]
    message_id: Mapped[str] = mapped_column(String(255), index=True)
    #: Recognises the same message handed in again: a hash of its envelope, content and recipients included.
    digest: Mapped[str] = mapped_column(String(64), index=True, default="")
    sender: Mapped[str] = mapped_column(String(320), default="")
    recipients: Mapped[Any] = mapped_column(JSON)
    subject: Mapped[str] = mapped_column(String(255), default="")
    size_bytes: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    #: The envelope, encrypted; None once nobody needs it to deliver. Not loaded with a list of rows.
    content_sealed: Mapped[bytes | None] = mapped_column(LongBinary, deferred=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)
    #: The worker (`Worker.id`) or other process that has claimed it.
    claimed_by: Mapped[str] = mapped_column(String(64), default="", server_default="")
    #: The end of a claim by somebody who is no worker; a worker's claim lasts as long as its heart beats.
    claimed_until: Mapped[datetime | None]
    #: Set right before the message is given to a transport: from here on it may have left.
    begun_at: Mapped[datetime | None]
    attempt_count: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    #: The delivery that this one repeats, or whose refused recipients it tries again.
    parent_id: Mapped[int | None] = mapped_column(Integer)
    #: Whether its content is kept for some days although nobody needs it to deliver any more; NULL: it is not.
    keeps_content: Mapped[bool | None] = mapped_column(Boolean)
    code: Mapped[str] = mapped_column(String(64), default="")
    reason: Mapped[str] = mapped_column(String(500), default="")

    attempts: Mapped[list[Attempt]] = relationship(
        back_populates="delivery", order_by="Attempt.id", cascade="all, delete-orphan"
    )


class Attempt(Base):
    """One try to hand a delivery over, and what came of it. `state` is "begun" until that is known."""

    __tablename__ = "outmail_attempts"

    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("outmail_deliveries.id", ondelete="CASCADE"), index=True)
    #: Counts the attempts of one delivery, from 1.
    number: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    at: Mapped[datetime] = mapped_column(default=utc_now)
    connection: Mapped[str] = mapped_column(String(64), default="")
    state: Mapped[str] = mapped_column(String(16))
    code: Mapped[str] = mapped_column(String(64), default="")
    reason: Mapped[str] = mapped_column(String(500), default="")
    request_id: Mapped[str] = mapped_column(String(255), default="")
    elapsed_s: Mapped[float] = mapped_column(Float, default=0.0)
    #: The worker or other process that made it, the transport, and the revision of the setup it used.
    worker_id: Mapped[str] = mapped_column(String(64), default="", server_default="")
    transport: Mapped[str] = mapped_column(String(64), default="", server_default="")
    setup_id: Mapped[int | None] = mapped_column(Integer)
    #: Recipients that were refused: address → [code, text].
    refused: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))

    delivery: Mapped[Delivery] = relationship(back_populates="attempts")


class Worker(Base):
    """A process that hands deliveries over. `beat` counts up while it lives.

    Others judge its life by whether `beat` moves while they watch, on a clock of their own: `seen_at` is for people,
    because the clocks of machines differ and jump.
    """

    __tablename__ = "outmail_workers"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    host: Mapped[str] = mapped_column(String(255), default="")
    pid: Mapped[int] = mapped_column(Integer, default=0)
    version: Mapped[str] = mapped_column(String(64), default="")
    #: The revision of the setup it uses, by connection.
    setups: Mapped[Any] = mapped_column(JSON)
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    seen_at: Mapped[datetime] = mapped_column(default=utc_now)
    beat: Mapped[int] = mapped_column(Integer, default=0)
    is_stopping: Mapped[bool] = mapped_column(Boolean, default=False)
    accepted_count: Mapped[int] = mapped_column(Integer, default=0)


class Lane(Base):
    """What all workers must know of a connection: whether it pauses, and what it may carry in a minute.

    It pauses because the server asked to wait, or because the connection failed: after some faults in a row the
    pause grows, and behind it one message at a time is tried until one passes.
    """

    __tablename__ = "outmail_lanes"

    connection: Mapped[str] = mapped_column(String(64), primary_key=True)
    paused_at: Mapped[datetime | None]
    paused_until: Mapped[datetime | None]
    code: Mapped[str] = mapped_column(String(64), default="")
    reason: Mapped[str] = mapped_column(String(500), default="")
    fault_count: Mapped[int] = mapped_column(Integer, default=0)
    #: Which setup the faults belong to: one that was changed since gets a fresh start.
    stamp: Mapped[str] = mapped_column(String(200), default="")
    #: What is left of the rate limit, and when that was so.
    allowance: Mapped[float] = mapped_column(Float, default=0.0)
    allowance_at: Mapped[datetime | None]
    #: When the connection is to be tried next although nobody asks (`checking`).
    check_due_at: Mapped[datetime | None]


class Slot(Base):
    """The right to have one message under way on a connection. There are as many as its server allows."""

    __tablename__ = "outmail_slots"

    connection: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    worker_id: Mapped[str] = mapped_column(String(64), default="", index=True)


class Backlog(Base):
    """The most messages that were seen to wait in one half hour: what the overview draws (`outbox.backlog`)."""

    __tablename__ = "outmail_backlog"

    #: Where the half hour begins.
    start: Mapped[datetime] = mapped_column(primary_key=True)
    ready: Mapped[int] = mapped_column(Integer)
    later: Mapped[int] = mapped_column(Integer)
    held: Mapped[int] = mapped_column(Integer)


class AuditEntry(Base):
    """What a person did: a change, or a look into a message. Holds no secret, no address and no words of a message."""

    __tablename__ = "outmail_audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    who: Mapped[str] = mapped_column(String(200), default="")
    action: Mapped[str] = mapped_column(String(64))
    #: What it was done to: "delivery 17", "revision 3 of primary", or the address of the page below the prefix.
    object: Mapped[str] = mapped_column(String(200), default="")
    detail: Mapped[str] = mapped_column(String(200), default="")


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
