"""DKIM signatures (RFC 6376) for mail that goes out over SMTP; needs the extra `[dkim]`.

dkimpy makes the header; the hash of the body is made here, piece by piece, because dkimpy wants a whole message in
memory. The body is signed as it is ("simple"), headers in the form that survives refolding ("relaxed").
"""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any

from ..content import Content
from ..errors import ConfigurationError
from ..settings import DkimKey

#: Signed where they are there, and From once more than it is there, so that none can be added (RFC 6376 8.15).
_SIGNED = (
    "from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references",
    "mime-version", "content-type", "content-transfer-encoding", "list-unsubscribe", "list-unsubscribe-post",
)  # fmt: skip


class DkimSigner:
    """Signs messages. Safe to use from several threads.

    Raises:
        ConfigurationError: dkimpy is not installed, or cannot read the key.
    """

    def __init__(self, settings: DkimKey) -> None:
        try:
            import dkim
            from dkim.crypto import UnparsableKeyError, parse_pem_private_key
        except ImportError as exc:
            raise ConfigurationError(
                "OUTMAIL_DKIM_DOMAIN is set, and dkimpy is not installed: pip install 'flask-outmail[dkim]'",
                code="dkim_library_missing",
            ) from exc
        try:
            self._key: Any = parse_pem_private_key(settings.private_key.encode())
        except (UnparsableKeyError, ValueError, TypeError, LookupError) as exc:
            raise ConfigurationError(
                "OUTMAIL_DKIM_KEY_FILE holds no RSA private key in PEM", code="dkim_key_invalid"
            ) from exc
        self._dkim: Any = dkim
        self._settings = settings

    def signed(self, content: Content) -> Content:
        """The message with a DKIM-Signature header before it. Reads the files that are attached.

        Raises:
            InvalidMessage: `attachment_changed`, a file is gone or has changed.
        """
        head, body_hash = _headers_and_body_hash(content)
        signer = self._dkim.DKIM(head, linesep=b"\r\n")
        signer.hasher = hashlib.sha256
        there = {name.lower().decode("ascii", "replace") for name, _ in signer.headers}
        names = [name.encode() for name in _SIGNED if name in there]
        policy = self._dkim.CanonicalizationPolicy.from_c_value(b"relaxed/simple")
        fields = [
            (b"v", b"1"),
            (b"a", b"rsa-sha256"),
            (b"c", policy.to_c_value()),
            (b"d", self._settings.domain.encode()),
            (b"s", self._settings.selector.encode()),
            (b"t", str(int(time.time())).encode()),
            (b"h", b" : ".join([*names, b"from"])),
            (b"bh", base64.b64encode(body_hash)),
            # dkimpy folds before b=, and the place holder keeps what stands before it as it is.
            (b"b", b"0" * 60),
        ]
        value = signer.gen_header(fields, [*names, b"from"], policy, b"DKIM-Signature", self._key)
        return content.after(b"DKIM-Signature: " + value)


def _headers_and_body_hash(content: Content) -> tuple[bytes, bytes]:
    """The headers with the empty line after them, and the hash of the body without empty lines at its end."""
    head = b""
    in_body = False
    digest = hashlib.sha256()
    # Empty lines count once something follows them (RFC 6376 3.4.3).
    waiting = b""
    for piece in content.chunks():
        if not in_body:
            head += piece
            end = head.find(b"\r\n\r\n")
            if end < 0:
                continue
            in_body, piece, head = True, head[end + 4 :], head[: end + 4]
        whole = waiting + piece
        kept = whole.rstrip(b"\r\n")
        waiting = whole[len(kept) :]
        digest.update(kept)
    digest.update(b"\r\n")
    return head, digest.digest()
