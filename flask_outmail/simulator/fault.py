"""One misbehaviour of the simulator, and the places where there can be one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

HTTP_ENDPOINTS = (
    "token",
    "discovery",
    "identity",
    "sendMail",
    "send",
    "messages",
    "attachments",
    "uploadSession",
    "upload",
)
SMTP_ENDPOINTS = tuple(
    f"smtp.{stage}" for stage in ("connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "dot")
)
ENDPOINTS = HTTP_ENDPOINTS + SMTP_ENDPOINTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One misbehaviour. Without `status`, `body` and `drop` the ordinary answer comes, later or with more headers.

    `endpoint`: where; one of `ENDPOINTS`. "messages" covers create, read, change and delete of drafts.
    `status`: the HTTP status, or the SMTP reply code.
    `code`: Graph's error code, the AADSTS number, or the SMTP enhanced status code.
    `inner`: codes nested below `code` as innerError, outermost first (Graph only).
    `error`: the token endpoint's `error` word.
    `body`: sent instead of JSON; for SMTP the raw bytes sent (a greeting, or after the reply to STARTTLS).
    `happens`: the request is obeyed first (stored, delivered), and only then answered wrongly.
    `drop`: no answer; the connection is reset.
    `delay_s`: seconds to wait first. `times`: how often it happens, None for "until cleared".
    `after`: how many matching requests pass unharmed before.
    `mailbox`, `recipient`, `method`: only for this mailbox, SMTP recipient, HTTP method.
    """

    endpoint: str
    status: int | None = None
    code: str = ""
    message: str = ""
    error: str = ""
    inner: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: int | str | None = None
    body: str | None = None
    content_type: str = "text/html; charset=utf-8"
    happens: bool = False
    drop: bool = False
    delay_s: float = 0.0
    times: int | None = 1
    after: int = 0
    mailbox: str | None = None
    recipient: str | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if self.endpoint not in ENDPOINTS:
            raise ValueError(f"a fault's endpoint is one of {', '.join(ENDPOINTS)}; not {self.endpoint!r}")
        if self.times is not None and self.times < 1:
            raise ValueError("times is at least 1, or None for ever")
        if self.status is not None and not 100 <= self.status <= 599:
            raise ValueError("status is a three-digit reply code")
        if self.after < 0 or self.delay_s < 0:
            raise ValueError("after and delay_s cannot be negative")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Fault:
        """A fault from outside this process.

        Raises:
            ValueError: an unknown name, or a value of the wrong kind.
        """
        known = {item.name: str(item.type) for item in fields(cls)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"a fault has no {name!r}; it has {', '.join(known)}")
            if not _fits(known[name], value):
                raise ValueError(f"{name} should be {known[name]}")
        checked = dict(values)
        checked["inner"] = tuple(checked.get("inner", ()))
        if "endpoint" not in checked:
            raise ValueError("a fault needs an endpoint")
        return cls(**checked)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def answers(self) -> bool:
        """Whether the ordinary answer is replaced."""
        return self.status is not None or self.body is not None or self.drop

    def all_headers(self) -> dict[str, str]:
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return headers

    def __str__(self) -> str:
        what = "connection reset" if self.drop else str(self.status or ("odd bytes" if self.body else "late or marked"))
        words = [self.endpoint, what, self.code, self.message]
        if self.happens:
            words.append("(although it was done)")
        if self.delay_s:
            words.append(f"after {self.delay_s:g} s")
        for name in ("mailbox", "recipient", "method"):
            if value := getattr(self, name):
                words.append(f"only {name} {value}")
        return " ".join(word for word in words if word)


def _fits(kind: str, value: Any) -> bool:
    if value is None:
        return "None" in kind
    if isinstance(value, bool):
        return kind == "bool"
    if kind.startswith("tuple"):
        return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    if kind.startswith("Mapping"):
        return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    allowed: tuple[type, ...] = ()
    for word, types in (("str", (str,)), ("int", (int,)), ("float", (int, float))):
        if word in kind:
            allowed += types
    return isinstance(value, allowed)
