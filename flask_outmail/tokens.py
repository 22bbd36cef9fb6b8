"""Access tokens for sending: asked for once, kept, renewed before they end, and shared.

However many threads want a token, one of them asks (`entra`) and the others get its answer, a failure too. With a
`TokenStore`, processes share a token, and one of them asks for all. A store can fail without harm: each process then
asks for itself.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

from . import entra
from .clouds import Cloud
from .errors import AuthenticationFailed, DeliveryError, OutmailError, Throttled, TransportTimeout
from .setup_values import Credential

logger = logging.getLogger(__name__)

#: A token is renewed when this part of its life is over (less or more by `JITTER`), while it still serves.
RENEW_AFTER, JITTER = 0.8, 0.05
#: A token is not used in its last seconds (less for one that lives only minutes): a request takes time to arrive.
RESERVE_S, RESERVE_PART = 60.0, 0.1
#: After a renewal that failed, the next one is tried so much later, while the old token serves.
RENEWAL_PAUSE_S = 60.0
#: A server that refuses every token must not become a token request for each message: so many in so many seconds.
REFUSALS_MAX, REFUSALS_WINDOW_S = 5, 60.0
#: A token in the store that is younger than this was fetched because of the same refusal.
RENEWED_S = 10.0
#: How long one process asks on behalf of all, and how often the others look whether it has brought the token.
CLAIM_S, LOOK_S = 5.0, 0.05
#: Mail that goes on coming must not flood an Entra that refuses: after so many refusals in a row the next request
#: waits a second, then two, and so on. A repair shows within the longest of these pauses, mostly at once.
REFUSALS_FREE, PAUSE_MAX_S = 3, 30.0


class TokenSource(Protocol):
    """Gives access tokens for one scope. Safe to use from several threads."""

    def token(self, *, refused: str = "") -> str:
        """A token that is valid now. May touch the network.

        `refused` is the token that a server has just refused: another is wanted in its place. Many may say so of one
        token; it is renewed once. The answer can be the same token again, when a new one would not help either.
        """
        ...


class TokenStore(Protocol):
    """Keeps tokens where other processes find them. A `key` tells nothing about the credential, but is a secret.

    Any method may fail with any exception; sending goes on without the store.
    """

    def load(self, key: str) -> str | None:
        """What was saved under this key."""
        ...

    def save(self, key: str, text: str, seconds: float) -> None:
        """Keeps `text`, which holds a token and must not be readable where it lies, for so many seconds.

        Ends the caller's claim.
        """
        ...

    def claim(self, key: str, seconds: float) -> bool:
        """Whether the caller is the one to ask for a new token; nobody else is, for so many seconds."""
        ...

    def release(self, key: str) -> None:
        """Gives a claim back without a token."""
        ...


@dataclass(frozen=True, slots=True)
class _Held:
    """A token in memory. Moments are of the source's own monotonic clock."""

    text: str = field(repr=False)
    ends_at: float
    renew_at: float
    is_for_refused: bool = False


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A token as it is saved. `issued_on` is a time of day, in seconds since 1970."""

    token: str = field(repr=False)
    issued_on: float
    lifetime_s: float
    renew_after_s: float


class _Flight:
    """One request under way, and what came of it for all who wait."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.held: _Held | None = None
        self.error: OutmailError = TransportTimeout("the request for a token was broken off", code="no_answer")


class EntraTokens:
    """Tokens for one credential and one scope. Safe to use from several threads, and after `fork`.

    `clock` is monotonic, `now` is the time of day, both in seconds; `dice` gives numbers from 0 to 1.
    `refused` says why the newest credential is not taken, while the one before it serves.
    """

    def __init__(
        self,
        credential: Credential,
        cloud: Cloud,
        scope: str,
        *,
        timeout_s: float = 20.0,
        ca_file: str = "",
        store: TokenStore | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._credential = credential
        self._cloud = cloud
        self._scope = scope
        self._timeout_s = timeout_s
        self._ca_file = ca_file
        self._store = store
        self._clock, self._now, self._dice = clock, now, dice
        self._key = _key(credential, cloud, scope)
        self._held: _Held | None = None
        self._failure: tuple[float, OutmailError] | None = None
        self._refusals_in_a_row = 0
        self._renewals_for_refused: deque[float] = deque(maxlen=REFUSALS_MAX)
        self.refused: OutmailError | None = None
        self._start_afresh()
        _sources.add(self)

    def _start_afresh(self) -> None:
        """What a thread of the parent held at the moment of a fork is never given back in the child."""
        self._lock = threading.Lock()
        self._flight: _Flight | None = None
        self._is_renewing = False

    def token(self, *, refused: str = "") -> str:
        """A token that is valid now.

        Raises:
            ConfigurationError: tenant, client id, or secret and certificate are missing or cannot be read.
            AuthenticationFailed: Entra refused; `code` is its AADSTS number.
            Throttled, TransportUnavailable: Entra is busy, or cannot be reached.
        """
        held = self._held
        if not self._serves(held, refused):
            return self._together(refused).text
        assert held is not None  # noqa: S101 -- for the type checker
        if self._clock() >= held.renew_at:
            self._renew_aside()
        return held.text

    def _serves(self, held: _Held | None, refused: str) -> bool:
        return held is not None and held.text != refused and self._clock() < held.ends_at

    # -- one request for all threads ---------------------------------------------------------------------------------

    def _together(self, refused: str) -> _Held:
        with self._lock:
            held = self._held
            if held is not None and (self._serves(held, refused) or self._is_enough(held, refused)):
                return held
            if self._failure is not None and self._clock() < self._failure[0]:
                raise copy.copy(self._failure[1])
            flight, leads = self._flight, self._flight is None
            if flight is None:
                flight = self._flight = _Flight()
        if leads:
            return self._lead(flight, refused)
        if not flight.done.wait(self._patience_s):
            raise TransportTimeout("no token came in time", code="no_answer")
        if flight.held is None:
            # A copy for each thread: a traceback grows in whoever raises it.
            raise copy.copy(flight.error)
        return flight.held

    def _lead(self, flight: _Flight, refused: str) -> _Held:
        try:
            flight.held = self._obtain(refused=refused)
        except OutmailError as exc:
            flight.error = exc
            raise
        finally:
            with self._lock:
                self._flight = None
                if flight.held is None:
                    self._failure = self._remembered(flight.error)
                else:
                    self._held, self._failure, self._refusals_in_a_row = flight.held, None, 0
            flight.done.set()
        return flight.held

    def _remembered(self, error: OutmailError) -> tuple[float, OutmailError] | None:
        """Until when a failure stands for the next ones, so that mail that goes on coming does not flood Entra."""
        pause_s = error.retry_after_s if isinstance(error, DeliveryError) else None
        if pause_s is None and isinstance(error, (AuthenticationFailed, Throttled)):
            self._refusals_in_a_row += 1
            if self._refusals_in_a_row >= REFUSALS_FREE:
                pause_s = 2.0 ** min(self._refusals_in_a_row - REFUSALS_FREE, 10)
        return None if pause_s is None else (self._clock() + min(pause_s, PAUSE_MAX_S), error)

    @property
    def _patience_s(self) -> float:
        # Discovery and token, for two credentials, each with its connection and its answer.
        return 8 * self._timeout_s + 5.0

    def _is_enough(self, held: _Held, refused: str) -> bool:
        """Whether a refusal of this token is not worth another one: several new ones were refused just now."""
        now = self._clock()
        if not refused or not held.is_for_refused or now >= held.ends_at:
            return False
        times = self._renewals_for_refused
        return len(times) == REFUSALS_MAX and now - times[0] < REFUSALS_WINDOW_S

    # -- early renewal -----------------------------------------------------------------------------------------------

    def _renew_aside(self) -> None:
        """Renews in a thread of its own, so that nobody waits for what is not needed yet."""
        with self._lock:
            if self._is_renewing or self._flight is not None:
                return
            self._is_renewing = True
        try:
            threading.Thread(target=self._renew, name="outmail-token", daemon=True).start()
        except RuntimeError:
            # The interpreter is ending, or there are no more threads to be had; the old token serves.
            self._is_renewing = False

    def _renew(self) -> None:
        held: _Held | None = None
        try:
            held = self._obtain(older=self._held)
        except Exception as exc:
            # Nobody waits for this thread: whoever needs a token once the old one has ended gets the error itself.
            logger.warning(
                "a token could not be renewed early; the old one serves until it ends",
                extra={"code": getattr(exc, "code", ""), "error": type(exc).__name__},
            )
        with self._lock:
            self._is_renewing = False
            if held is not None:
                self._held = held
            elif self._held is not None:
                later = self._clock() + RENEWAL_PAUSE_S * (1 + self._dice())
                self._held = replace(self._held, renew_at=later)

    # -- from the store, or from Entra -------------------------------------------------------------------------------

    def _obtain(self, *, refused: str = "", older: _Held | None = None) -> _Held:
        """A token that is neither the refused one nor one like `older`: from the store, or else newly issued."""
        store = self._store
        if store is None:
            return self._hold(self._ask(refused), bool(refused))
        try:
            found = self._shared(store, refused, older)
        except Exception as exc:
            # A store (database, Redis, one of the application's own) only saves requests; mail does not depend on it.
            _log_store("look", exc)
            return self._hold(self._ask(refused), bool(refused))
        if found is not None:
            return found
        try:
            fresh = self._ask(refused)
        except BaseException:
            with suppress(Exception):
                store.release(self._key)
            raise
        try:
            store.save(self._key, json.dumps(asdict(fresh)), fresh.lifetime_s)
        except Exception as exc:
            _log_store("save", exc)
        return self._hold(fresh, bool(refused))

    def _shared(self, store: TokenStore, refused: str, older: _Held | None) -> _Held | None:
        """The token that will do, from this or another process; None when it falls to this one to ask for it."""
        deadline = self._clock() + CLAIM_S
        while True:
            found = self._find(store, refused, older)
            if found is not None:
                return found
            if store.claim(self._key, CLAIM_S):
                # Somebody may have saved one between our look and our claim.
                found = self._find(store, refused, older)
                if found is not None:
                    store.release(self._key)
                return found
            if self._clock() >= deadline:
                return None
            time.sleep(LOOK_S)

    def _find(self, store: TokenStore, refused: str, older: _Held | None) -> _Held | None:
        """A token in the store that will do."""
        try:
            fresh = _Fresh(**json.loads(store.load(self._key) or "{}"))
            held = self._hold(fresh)
        except (ValueError, TypeError):
            return None
        if refused and fresh.issued_on < self._now() - RENEWED_S:
            # Nobody fetched it because of what has refused ours: it may have gone with ours, as all do where they are
            # revoked. Only Entra can tell, and says why there is no other.
            return None
        own = self._held
        if not self._serves(held, refused) or (
            own is not None and own.text == held.text and own.ends_at < self._clock()
        ):
            # The second: a time of day that was set back makes a dead token look alive, but we saw it end.
            return None
        if older is not None and (held.text == older.text or self._clock() >= held.renew_at):
            return None
        return held

    def _ask(self, refused: str) -> _Fresh:
        asked_at, asked_on = self._clock(), self._now()
        issued = entra.issue(
            self._credential, self._cloud, self._scope, timeout_s=self._timeout_s, ca_file=self._ca_file
        )
        if issued.refused is not None:
            logger.warning(
                "the newest secret or certificate was refused; the one before it was used",
                extra={"code": issued.refused.code},
            )
        self.refused = issued.refused
        if refused:
            self._renewals_for_refused.append(asked_at)
        return _Fresh(issued.text, asked_on, issued.lifetime_s, issued.refresh_in_s or issued.lifetime_s * RENEW_AFTER)

    def _hold(self, fresh: _Fresh, is_for_refused: bool = False) -> _Held:
        # A clock that was set back makes a token look young. It cannot be younger than just now.
        asked_at = self._clock() - max(0.0, self._now() - fresh.issued_on)
        reserve_s = min(RESERVE_S, fresh.lifetime_s * RESERVE_PART)
        # Spread, so that not all processes renew at the same moment.
        jitter_s = fresh.lifetime_s * JITTER * (2 * self._dice() - 1)
        return _Held(
            text=fresh.token,
            ends_at=asked_at + fresh.lifetime_s - reserve_s,
            renew_at=asked_at + fresh.renew_after_s + jitter_s,
            is_for_refused=is_for_refused,
        )


def _log_store(step: str, exc: Exception) -> None:
    # Not the exception itself: a database's text may quote the values of the statement.
    logger.warning("tokens are not shared: the store failed", extra={"step": step, "error": type(exc).__name__})


def _key(credential: Credential, cloud: Cloud, scope: str) -> str:
    """One for each authority, application, scope and secret; a hash that only a store with a key of its own keeps."""
    values = asdict(credential)
    values.pop("expires_on")
    return hashlib.sha256(json.dumps([cloud.authority, scope, values], sort_keys=True).encode()).hexdigest()


class Renewing:
    """A store that gives nothing and takes everything: for a test, which must see what Entra says now.

    What it brings replaces the token that other processes would go on using, with the permissions of an hour ago.
    """

    def __init__(self, store: TokenStore) -> None:
        self._store = store

    def load(self, key: str) -> None:
        return None

    def save(self, key: str, text: str, seconds: float) -> None:
        self._store.save(key, text, seconds)

    def claim(self, key: str, seconds: float) -> bool:
        return True

    def release(self, key: str) -> None:
        return None


_sources: weakref.WeakSet[EntraTokens] = weakref.WeakSet()


def _after_fork() -> None:
    for source in list(_sources):
        source._start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
