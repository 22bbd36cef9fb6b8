"""Connections kept between messages, requests and threads."""

from __future__ import annotations

import os
import ssl
import threading
import weakref
from collections.abc import Callable
from time import monotonic

from ..errors import Throttled
from .smtp_session import SmtpSession, SmtpSettings

#: When the server has refused one connection too many, how long no more than it allowed are opened.
_HUMBLE_S = 300.0
#: "Concurrent connections limit exceeded" (Exchange). Other processes have them, and keep them for a few seconds.
_TOO_MANY = "432"
_TOO_MANY_PAUSE_S, _TOO_MANY_WAIT_S = 0.5, 10.0

OpenSession = Callable[[ssl.SSLSession | None], SmtpSession]


class _Server:
    """What all pools of a process for the same server and user share: the lock, and the count."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.pools: weakref.WeakSet[SmtpPool] = weakref.WeakSet()
        self.humble: tuple[int, float] | None = None

    @property
    def count(self) -> int:
        return sum(pool.count for pool in self.pools)

    def allowed(self, limit: int) -> int:
        if self.humble is not None:
            count, until = self.humble
            if monotonic() < until:
                return min(count, limit)
            self.humble = None
        return limit

    def longest_idle(self) -> SmtpSession | None:
        """Takes the connection that has waited longest out of its pool."""
        idle = [(session.used_at, number, pool) for number, pool in enumerate(self.pools) for session in pool.idle[:1]]
        return min(idle)[2].idle.pop(0) if idle else None


#: By process, host, port and user. A server counts the connections of a user, not those of a pool.
_servers: weakref.WeakValueDictionary[tuple[int, str, int, str], _Server] = weakref.WeakValueDictionary()


def _server(key: tuple[str, int, str]) -> _Server:
    return _servers.setdefault((os.getpid(), *key), _Server())


def make_room(settings: SmtpSettings) -> None:
    """Lets one idle connection go if the next one would be too many, for a caller that opens one beside the pools."""
    server = _server(settings.server_key)
    with server.changed:
        session = server.longest_idle() if server.count >= settings.connections else None
    if session is not None:
        session.client.quit()


class SmtpPool:
    """At most `settings.connections` connections to one server. Safe to use from several threads, and after `fork`.

    All pools of a process for the same server and user share that number; one that needs a connection takes the room
    of another's idle one. `open_session` gives a session that is connected and logged in. One that is given back is
    kept for `idle_s` seconds, and `age_s` at most; a thread that lives as long as anything is kept says QUIT then.
    """

    def __init__(self, open_session: OpenSession, settings: SmtpSettings, *, name: str) -> None:
        self._open_session = open_session
        self._settings = settings
        self._name = name
        self._start_over()
        _pools.add(self)

    def _start_over(self) -> None:
        self._process_id = os.getpid()
        #: Not in use, the one used last at the end.
        self.idle: list[SmtpSession] = []
        self._lent: dict[SmtpSession, int] = {}
        self._opening = 0
        # Counts how often `close` was called: what was lent before is not kept afterwards.
        self._epoch = 0
        self._keeper: threading.Thread | None = None
        self._tls_session: ssl.SSLSession | None = None
        self._server = _server(self._settings.server_key)
        self._server.pools.add(self)

    @property
    def count(self) -> int:
        return len(self.idle) + len(self._lent) + self._opening

    def forget_parent(self) -> None:
        """After a fork: the connections are the parent's. They are let go of here, without a word to the server."""
        if self._process_id != os.getpid():
            inherited = [*self.idle, *self._lent]
            self._start_over()
            for session in inherited:
                session.client.close()

    # -- lending -----------------------------------------------------------------------------------------------------

    def take(self, *, fresh: bool = False, wait: bool = True) -> SmtpSession | None:
        """A connection for one thread: a kept one, or a new one. `fresh` asks for a new one in any case.

        Without `wait`, None when all that are allowed are in use.

        Raises:
            DeliveryError: none could be opened, or none became free in time; nothing was handed over.
        """
        self.forget_parent()
        started = monotonic()
        while True:
            leaving: list[SmtpSession] = []
            try:
                found, has_room = self._reserve(leaving, fresh, started + self._settings.timeout_s if wait else 0.0)
            finally:
                for session in leaving:
                    session.client.quit(wait_s=0.0)
            if found is not None or not has_room:
                return found
            opened = self._opened(wait and monotonic() - started < _TOO_MANY_WAIT_S)
            if opened is not None:
                return opened

    def _reserve(self, leaving: list[SmtpSession], fresh: bool, deadline: float) -> tuple[SmtpSession | None, bool]:
        """A kept connection, or none and whether there is room for a new one, which then counts already."""
        server = self._server
        with server.changed:
            while True:
                found = None if fresh else self._kept(leaving)
                if found is not None:
                    return found, False
                allowed = server.allowed(self._settings.connections)
                if server.count >= allowed and (other := server.longest_idle()) is not None:
                    leaving.append(other)
                if server.count < allowed:
                    self._opening += 1
                    return None, True
                if not deadline:
                    return None, False
                wait_s = deadline - monotonic()
                if wait_s <= 0:
                    raise Throttled(
                        f"all {allowed} connections to the mail server are in use",
                        code="connections_busy",
                        transport=self._name,
                    )
                server.changed.wait(wait_s)

    def _kept(self, leaving: list[SmtpSession]) -> SmtpSession | None:
        now = monotonic()
        while self.idle:
            # The one used last: the others may grow old and be closed.
            session = self.idle.pop()
            if not self._is_over(session, now) and _is_alive(session):
                self._lent[session] = self._epoch
                return session
            leaving.append(session)
        return None

    def give(self, session: SmtpSession) -> None:
        """Takes a connection back; one that is no longer good is closed."""
        if self._process_id != os.getpid():
            session.client.close()
            return
        now = monotonic()
        good = session.client.is_open and not session.client.ending
        if good:
            session.used_at = now
            self._tls_session = session.client.tls_session() or self._tls_session
        with self._server.changed:
            keep = self._lent.pop(session, None) == self._epoch and good and not self._is_over(session, now)
            if keep:
                self.idle.append(session)
                self._keep_house()
            self._server.changed.notify()
        if good and not keep:
            session.client.quit(wait_s=0.0)
        elif not good:
            session.client.close()

    def _opened(self, patient: bool) -> SmtpSession | None:
        """A new connection; None when the server allows no more than there are, and one must be waited for."""
        session = None
        changed = self._server.changed
        try:
            session = self._open_session(self._tls_session)
        except Throttled as exc:
            with changed:
                too_many = exc.code.startswith(_TOO_MANY)
                # Any other "not now" is about their number only when others of ours are at work.
                others = self._server.count - self._opening if too_many else len(self._lent)
                if others:
                    self._server.humble = (others, monotonic() + _HUMBLE_S)
                elif patient and too_many:
                    changed.wait(_TOO_MANY_PAUSE_S)
                else:
                    raise
        finally:
            with changed:
                self._opening -= 1
                if session is not None:
                    self._lent[session] = self._epoch
                else:
                    changed.notify()
        return session

    def _is_over(self, session: SmtpSession, now: float) -> bool:
        settings = self._settings
        return now - session.used_at >= settings.idle_s or now - session.opened_at >= settings.age_s

    # -- ending ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Says QUIT on every connection that is not in use; those that are follow when they are given back."""
        self.forget_parent()
        with self._server.changed:
            idle, self.idle = self.idle, []
            self._epoch += 1
            self._server.changed.notify_all()
        _say_goodbye(idle)

    def sweep(self) -> float:
        """Closes what has been idle for too long; how many seconds until the next is due, 0 when none is kept."""
        now = monotonic()
        with self._server.changed:
            over = [session for session in self.idle if self._is_over(session, now)]
            self.idle = [session for session in self.idle if session not in over]
            due_s = min((self._settings.idle_s - (now - one.used_at) for one in self.idle), default=0.0)
            if not self.idle:
                self._keeper = None
            self._server.changed.notify_all()
        _say_goodbye(over)
        return max(due_s, 0.05) if due_s else 0.0

    def _keep_house(self) -> None:
        if self._keeper is None or not self._keeper.is_alive():
            self._keeper = threading.Thread(
                target=_keep_house, args=(weakref.ref(self),), name="outmail-smtp-pool", daemon=True
            )
            self._keeper.start()


def _is_alive(session: SmtpSession) -> bool:
    """Whether the server still waits for us. It says 421, or nothing, before it hangs up."""
    try:
        return not session.client.has_spoken()
    except OSError:
        return False


def _say_goodbye(sessions: list[SmtpSession]) -> None:
    # All are told before the first answer is waited for.
    for session in sessions:
        session.client.say_goodbye()
    for session in sessions:
        session.client.close_after_goodbye()


def _keep_house(reference: weakref.ref[SmtpPool]) -> None:
    stop = threading.Event()
    while True:
        pool = reference()
        if pool is None:
            return
        due_s = pool.sweep()
        del pool
        if not due_s:
            return
        stop.wait(min(due_s, 1.0))


_pools: weakref.WeakSet[SmtpPool] = weakref.WeakSet()


def _forked() -> None:
    for pool in list(_pools):
        pool.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
