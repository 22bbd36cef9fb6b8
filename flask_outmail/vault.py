"""Secrets at rest: encrypted with `cryptography`, readable with any of the keys given, written with the newest.

Each stored value names the key it was made with, so that "this key is missing" can be told from "this is damaged".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import ConfigurationError, SecretUnreadable

if TYPE_CHECKING:
    from cryptography.fernet import Fernet


def generate_key() -> str:
    """A new key for `OUTMAIL_ENCRYPTION_KEYS`."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def derived_key(secret_key: str | bytes) -> str:
    """A key made from the application's SECRET_KEY: for development, where nobody has set one of our own."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    material = secret_key.encode() if isinstance(secret_key, str) else secret_key
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"flask-outmail vault").derive(material)
    return base64.urlsafe_b64encode(key).decode()


class Vault:
    """Seals and opens texts. The first key seals; all of them open.

    Raises:
        ConfigurationError: a key is not a Fernet key, or there is none.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        from cryptography.fernet import Fernet

        self._keys: dict[str, Fernet] = {}
        self._secrets: list[bytes] = []
        for number, key in enumerate(keys, 1):
            try:
                self._keys[_key_id(key)] = Fernet(key)
                self._secrets.append(hashlib.sha256(b"fingerprint " + key.encode()).digest())
            except ValueError as exc:
                raise ConfigurationError(
                    f"OUTMAIL_ENCRYPTION_KEYS: key {number} is not a Fernet key", code="config_invalid"
                ) from exc
        if not self._keys:
            raise ConfigurationError(
                "there is no key to encrypt secrets with: set OUTMAIL_ENCRYPTION_KEYS (or SECRET_KEY)",
                code="encryption_key_missing",
            )

    @property
    def newest_key_id(self) -> str:
        """How values sealed with the newest key begin; says nothing about the key."""
        return next(iter(self._keys))

    def seal(self, text: str) -> str:
        """`text`, encrypted; an empty text stays empty."""
        return self.seal_bytes(text.encode()).decode() if text else ""

    def open(self, sealed: str | None) -> str:
        """What `seal` was given.

        Raises:
            SecretUnreadable: the key it was sealed with is not among ours, or the value is damaged.
        """
        return self.open_bytes(sealed.encode()).decode() if sealed else ""

    def fingerprints(self, text: str) -> list[str]:
        """Keyed hashes of a text, one for each key, the newest first: to recognise it without storing it."""
        return [hmac.new(secret, text.encode(), "sha256").hexdigest() for secret in self._secrets]

    def seal_bytes(self, data: bytes) -> bytes:
        key_id, fernet = next(iter(self._keys.items()))
        return key_id.encode() + b":" + fernet.encrypt(data)

    def open_bytes(self, sealed: bytes) -> bytes:
        """What `seal_bytes` was given; raises as `open` does."""
        from cryptography.fernet import InvalidToken

        key_id, _, token = sealed.partition(b":")
        fernet = self._keys.get(key_id.decode("ascii", "replace"))
        if fernet is None:
            raise SecretUnreadable(
                "a stored secret was encrypted with a key that is no longer there", code="secret_unreadable"
            )
        try:
            return fernet.decrypt(token)
        except InvalidToken as exc:
            raise SecretUnreadable("a stored secret is damaged", code="secret_unreadable") from exc


def _key_id(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]
