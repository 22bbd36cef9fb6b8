"""Whatever a server says, it is understood or refused by name: no answer makes us crash, wait for ever or trust it."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flask_outmail import entra
from flask_outmail.diagnosis.microsoft import claims
from flask_outmail.diagnosis.remedies import remedy_for
from flask_outmail.errors import AuthenticationFailed, OutmailError, Throttled, TransportUnavailable
from flask_outmail.masking import Secrets, readable
from flask_outmail.transports import graph_calls
from flask_outmail.transports.smtp_client import MAX_REPLY_BYTES, ProtocolError, Reply, SmtpClient

# The same examples on every run: a failure that comes and goes helps nobody.
few = settings(derandomize=True, deadline=None, max_examples=40, database=None)

#: Read once: it takes longer than all the rest.
CONTEXT = ssl.create_default_context()
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
#: Bytes that are nearly what is expected, which break more than noise does.
NEARLY_SMTP = st.lists(
    st.sampled_from([b"250", b"250 ", b"250-", b"2500", b"99 ", b"354 ", b"421 4.3.2 bye", b"\r\n", b"\n", b"\r",
                     b"\0", b"\xff\xfe", b"ok", b"\xc2\xb2\xc2\xb250 x", b"5.7.1", b" ", b"-",
                     b"535-5.7.3 no\r\n535 5.7.3 no\r\n"])
).map(b"".join)  # fmt: skip


def heard(said: bytes, *, pieces: int = 1, ask: Callable[[SmtpClient], Any] = lambda client: client.reply()) -> Any:
    """What the client makes of `said` and a hang-up, over a real socket."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener.accept()[0] as sock:
            size = max(1, -(-len(said) // pieces))
            try:
                for start in range(0, len(said), size):
                    sock.sendall(said[start : start + size])
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65_536):
                    pass
            except OSError:
                pass  # the client has heard enough

    thread = threading.Thread(target=serve)
    thread.start()
    client = SmtpClient("127.0.0.1", listener.getsockname()[1], context=CONTEXT, connect_timeout_s=5, timeout_s=5)
    try:
        client.connect()
        return ask(client)
    finally:
        client.close()
        thread.join(10)
        listener.close()


@few
@given(st.one_of(NEARLY_SMTP, st.binary(max_size=200)), st.integers(1, 5))
@example(b"", 1)
@example(b"250", 1)
@example("²50 superscript\r\n".encode(), 1)
@example(b"250-a\r\n550 b\r\n", 1)
@example(b"199 too low\r\n", 1)
@example(b"600 too high\r\n", 1)
def test_any_bytes_are_a_reply_or_an_error_of_the_line(said: bytes, pieces: int) -> None:
    try:
        reply = heard(said, pieces=pieces)
    except OSError:
        return  # ProtocolError is one; all say that the connection is of no use any more
    assert isinstance(reply, Reply)
    assert 200 <= reply.code <= 599
    assert said.startswith(str(reply.code).encode())
    assert "\n" not in reply.text
    assert reply.status.startswith(str(reply.code))


@few
@given(st.integers(200, 599), st.lists(WORDS, min_size=1, max_size=5), st.integers(1, 7))
def test_a_reply_of_any_number_of_lines_is_read_whole_however_it_is_cut(
    code: int, lines: list[str], pieces: int
) -> None:
    said = [f"{code}-{line}\r\n" for line in lines[:-1]] + [f"{code} {lines[-1]}\r\n"]
    reply = heard("".join(said).encode(), pieces=pieces)
    assert reply.code == code
    assert [line.strip() for line in reply.lines] == [readable(line).strip() for line in lines]
    assert reply.text.isprintable(), "what a terminal or a log would obey does not come through"
    assert bool(reply) == (code < 400)
    assert reply.is_temporary == (400 <= code < 500)


@few
@given(st.lists(WORDS, max_size=4), st.one_of(NEARLY_SMTP, st.binary(max_size=60)))
def test_any_ehlo_answer_is_a_list_of_features_or_an_error_of_the_line(offers: list[str], after: bytes) -> None:
    said = "".join(f"250-{one}\r\n" for one in ["hello", *offers]) + "250 HELP\r\n"

    def greet(client: SmtpClient) -> dict[str, str]:
        client.ehlo()
        return client.features

    features = heard(said.encode() + after, ask=greet)
    assert "HELP" in features
    assert all(key == key.upper() for key in features)


@pytest.mark.parametrize("code", [500, 502, 504, 550])
def test_a_server_that_knows_no_ehlo_is_greeted_with_helo_and_offers_nothing(code: int) -> None:
    def greet(client: SmtpClient) -> tuple[bool, dict[str, str]]:
        return bool(client.ehlo()), client.features

    assert heard(f"{code} what?\r\n250 mail.example SIZE\r\n".encode(), ask=greet) == (True, {})


@pytest.mark.parametrize("said", [b"250-x\r\n" * 20_000, b"250 " + b"x" * 200_000], ids=["lines", "a line"])
def test_a_reply_without_an_end_is_given_up(said: bytes) -> None:
    assert len(said) > MAX_REPLY_BYTES
    with pytest.raises(ProtocolError):
        heard(said)


@few
@given(st.binary(max_size=60))
def test_any_challenge_of_cram_md5_is_answered_or_refused(challenge: bytes) -> None:
    said = b"334 " + challenge.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n535 5.7.8 no\r\n"
    try:
        reply = heard(said, ask=lambda client: client.auth_cram_md5("user", "a secret password"))
    except OSError:
        return
    assert not reply or reply.code == 334
    assert "secret password" not in reply.text


# -- Graph -----------------------------------------------------------------------------------------------------------

GRAPH_ERROR = st.recursive(
    st.fixed_dictionaries({}, optional={"code": JSON, "message": JSON, "innerError": JSON, "innererror": JSON}),
    lambda inner: st.fixed_dictionaries(
        {"code": st.text(max_size=10)}, optional={"innerError": inner, "INNERERROR": inner}
    ),
)


@few
@given(st.one_of(st.binary(max_size=200), JSON.map(lambda read: json.dumps(read).encode())))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example("\ufeff{}".encode())
@example(b"\xff\xfe{\x00}\x00")
@example(b"NaN")
def test_any_body_of_graph_is_an_object_or_as_good_as_none(content: bytes) -> None:
    body = graph_calls._json(content)
    assert isinstance(body, dict)
    code, text = graph_calls._error(body)
    assert isinstance(code, str) and isinstance(text, str)


@few
@given(GRAPH_ERROR)
def test_any_error_of_graph_has_a_code_and_a_sentence_that_are_text(error: Any) -> None:
    code, text = graph_calls._error({"error": error})
    assert isinstance(code, str) and isinstance(text, str)
    assert remedy_for(OutmailError(text, code=code)).title


def test_the_innermost_code_of_graph_wins_and_depth_has_an_end() -> None:
    error: dict[str, Any] = {"code": "outer", "message": "a sentence", "innerError": {"code": "inner"}}
    assert graph_calls._error({"error": error}) == ("inner", "a sentence")
    for _depth in range(1000):
        error = {"code": "outer", "innerError": error}
    assert graph_calls._error({"error": error})[0] == "outer"


# -- Entra -----------------------------------------------------------------------------------------------------------


def answer(text: str, status: int = 400) -> Any:
    return SimpleNamespace(text=text, host="login.example", status_code=status, headers={}, secrets=Secrets())


@few
@given(st.one_of(st.text(max_size=200), JSON.map(json.dumps)))
@example("[" * 100_000)
@example('{"error": "invalid_client"}\n{"error": "invalid_client"}\n')
@example('{"access_token": "x"')
def test_any_answer_of_entra_is_an_object_or_said_not_to_be_entras(text: str) -> None:
    try:
        body = entra._json(answer(text))
    except TransportUnavailable as exc:
        body = {} if (exc.code, exc.retryable) == ("not_entra", False) else None
    assert isinstance(body, dict)


@few
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "error": JSON,
            "error_description": st.one_of(JSON, st.from_regex(r"AADSTS\d{1,9}: .{0,30}", fullmatch=True)),
            "error_codes": JSON,
            "trace_id": JSON,
            "correlation_id": JSON,
        },
    )
)
@example({"error_description": "\n"})
@example({"error_codes": [True], "error": {}})
@example({"error_description": "\u2028"})
def test_any_refusal_of_entra_becomes_an_error_with_a_remedy(body: dict[str, Any]) -> None:
    with pytest.raises((AuthenticationFailed, Throttled)) as caught:
        entra._refuse(body)
    assert caught.value.code
    assert len(caught.value.detail) <= 300
    assert "\n" not in caught.value.detail
    assert remedy_for(caught.value).title


@few
@given(st.one_of(st.text(max_size=100), JSON.map(lambda read: f"x.{_payload(read)}.y")))
@example("x.W10.y")
@example("x." + base64.urlsafe_b64encode(b"[" * 100_000).decode() + ".y")
@example("x.\u00e9.y")
def test_any_token_is_read_or_left_unread(token: str) -> None:
    assert isinstance(claims(token), dict)


def _payload(read: Any) -> str:
    return re.sub("=+$", "", base64.urlsafe_b64encode(json.dumps(read).encode()).decode())
