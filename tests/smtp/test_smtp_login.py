"""Credentials: offered as the server takes them, never before TLS when there is TLS, never shown."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest

from flask_outmail.errors import AuthenticationFailed, MessageRejected, OutmailError
from flask_outmail.masking import MASK, Secrets
from flask_outmail.transports.smtp import SmtpSession, SmtpSettings

from .scripted import Server, Talk, answer, envelope, transport_to

USER = {"username": "shop@x.example", "password": "correct-horse-17"}


def offering(*mechanisms: str) -> tuple[str, ...]:
    return ("PIPELINING", f"AUTH {' '.join(mechanisms)}")


def decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def logs_in(seen: list[str], *questions: str, verdict: str = "235 2.7.0 ok") -> Any:
    def auth(talk: Talk, argument: str) -> bool:
        seen.append(argument)
        for question in questions:
            talk.say(f"334 {base64.b64encode(question.encode()).decode()}")
            seen.append(talk.line())
        talk.say(verdict)
        return True

    return auth


def test_in_the_clear_the_way_that_hides_the_password_comes_first() -> None:
    seen: list[str] = []
    hooks = {"AUTH": logs_in(seen, "<17.4@x.example>")}
    with Server(offering("PLAIN", "LOGIN", "CRAM-MD5"), hooks) as server, transport_to(server, **USER) as transport:
        assert transport.deliver(envelope()).accepted
        assert seen[0] == "CRAM-MD5"
        # RFC 2195: HMAC-MD5 of the challenge, keyed by the password.
        digest = hmac.new(b"correct-horse-17", b"<17.4@x.example>", "md5").hexdigest()
        assert decoded(seen[1]) == f"shop@x.example {digest}"
        assert not any("correct-horse" in line for line in server.talks[0].lines)


@pytest.mark.parametrize(("mechanism", "questions"), [("PLAIN", ()), ("LOGIN", ("Username:", "Password:"))])
def test_the_old_ways_say_user_and_password(mechanism: str, questions: tuple[str, ...]) -> None:
    seen: list[str] = []
    with (
        Server(offering(mechanism), {"AUTH": logs_in(seen, *questions)}) as server,
        transport_to(server, **USER) as transport,
    ):
        assert transport.deliver(envelope()).accepted
        told = "".join(decoded(one.removeprefix(f"{mechanism} ")) for one in seen if one != mechanism)
        assert told.replace("\0", "") == "shop@x.examplecorrect-horse-17"


def test_a_mechanism_that_is_offered_and_not_known_gives_way_to_the_next() -> None:
    def auth(talk: Talk, argument: str) -> bool:
        if argument.startswith("PLAIN"):
            talk.say("504 5.7.4 Unrecognized authentication type")
            return True
        return bool(logs_in([], "Username:", "Password:")(talk, argument))

    with Server(offering("PLAIN", "LOGIN"), {"AUTH": auth}) as server, transport_to(server, **USER) as transport:
        assert transport.deliver(envelope()).accepted


def test_a_refused_password_is_tried_once_and_in_one_way() -> None:
    # More would lock the account.
    hooks = {"AUTH": answer("535 5.7.8 no")}
    with Server(offering("PLAIN", "LOGIN"), hooks) as server, transport_to(server, **USER) as transport:
        with pytest.raises(AuthenticationFailed):
            transport.deliver(envelope())
        assert server.verbs(0).count("AUTH") == 1
        assert len(server.talks) == 1


def test_where_every_mechanism_is_unknown_after_all_the_last_answer_is_told() -> None:
    hooks = {"AUTH": answer("504 5.7.4 Unrecognized authentication type")}
    with Server(offering("PLAIN", "LOGIN"), hooks) as server, transport_to(server, **USER) as transport:
        with pytest.raises(AuthenticationFailed) as caught:
            transport.deliver(envelope())
        assert caught.value.smtp_code == 504
        assert server.verbs(0).count("AUTH") == 2


@pytest.mark.parametrize("mechanisms", [("GSSAPI", "NTLM"), ()])
def test_where_both_sides_know_no_way_to_log_in_the_servers_ways_are_named(mechanisms: tuple[str, ...]) -> None:
    with Server(offering(*mechanisms)) as server, transport_to(server, **USER) as transport:
        with pytest.raises(AuthenticationFailed) as caught:
            transport.deliver(envelope())
        assert caught.value.code == "auth_not_offered"
        assert (", ".join(mechanisms) or "none") in str(caught.value)
        assert "AUTH" not in server.verbs(0)


def test_a_server_that_refuses_to_ask_is_not_answered() -> None:
    seen: list[str] = []
    hooks = {"AUTH": logs_in(seen, verdict="535 5.7.3 no")}
    with Server(offering("CRAM-MD5"), hooks) as server, transport_to(server, **USER) as transport:
        with pytest.raises(AuthenticationFailed):
            transport.deliver(envelope())
        assert seen == ["CRAM-MD5"]
        assert [line for line in server.talks[0].lines if line != "QUIT"][1:] == ["AUTH CRAM-MD5"]


def test_a_server_that_keeps_asking_is_told_that_this_is_all() -> None:
    # RFC 4954 4: "*" ends the dialogue.
    seen: list[str] = []
    hooks = {"AUTH": logs_in(seen, "Username:", "Password:", "And?", verdict="501 5.7.0 cancelled")}
    with Server(offering("LOGIN"), hooks) as server, transport_to(server, **USER) as transport:
        with pytest.raises(AuthenticationFailed):
            transport.deliver(envelope())
        assert seen[-1] == "*"


class OneToken:
    def token(self, *, refused: str = "") -> str:
        return "secret-token"


def test_a_token_never_travels_in_the_clear() -> None:
    with (
        Server(offering("XOAUTH2")) as server,
        transport_to(server, username="shop@x.example", tokens=OneToken()) as transport,
    ):
        with pytest.raises(AuthenticationFailed) as caught:
            transport.deliver(envelope())
        assert caught.value.code == "auth_needs_tls"
        assert "AUTH" not in server.verbs(0)


def test_a_long_credential_is_an_answer_and_not_a_command() -> None:
    seen: list[str] = []
    long = {"username": "shop@x.example", "password": "long-" * 400}
    with (
        Server(offering("PLAIN"), {"AUTH": logs_in(seen, "")}) as server,
        transport_to(server, **long) as transport,
    ):
        assert transport.deliver(envelope()).accepted
        assert seen[0] == "PLAIN"
        assert decoded(seen[1]) == "\0shop@x.example\0" + "long-" * 400
        assert max(len(line) for line in server.talks[0].lines if line.startswith("AUTH")) < 512


@pytest.mark.parametrize("form", ["AGhvcnNl", "correct-horse-17", "Y29ycmVjdC1ob3JzZS0xNw==", "CORRECT-HORSE-17"])
def test_a_server_that_quotes_the_credential_is_not_quoted(form: str) -> None:
    initial = base64.b64encode(b"\0shop@x.example\0correct-horse-17").decode()
    said = f"535 5.7.8 AUTH PLAIN {initial.upper()} {form if form != 'AGhvcnNl' else initial[:20]} is wrong"
    with Server(offering("PLAIN"), {"AUTH": answer(said)}) as server, transport_to(server, **USER) as transport:
        with pytest.raises(AuthenticationFailed) as caught:
            transport.deliver(envelope())
        told = repr(caught.value) + caught.value.detail + str(caught.value.smtp_error)
        for secret in ("correct-horse", "CORRECT-HORSE", "Y29ycmVjdC1ob3", initial[:16], initial[:16].upper()):
            assert secret not in told


def test_a_credential_quoted_later_is_masked_too_and_the_rest_stays_readable() -> None:
    said = (
        "554 5.7.1 policy abcDEF0123456789ghiJKL4567 for correct-horse-17 (see https://x.example/why?id=4Xyz99abCD12)"
    )
    hooks = {"AUTH": logs_in([]), ".": answer(said)}
    with Server(offering("PLAIN"), hooks) as server, transport_to(server, **USER) as transport:
        with pytest.raises(MessageRejected) as caught:
            transport.deliver(envelope())
        assert "correct-horse" not in caught.value.detail
        assert "abcDEF0123456789ghiJKL4567" in caught.value.detail
        assert "id=4Xyz99abCD12" in caught.value.detail


def test_a_queue_name_that_looks_encoded_is_on_the_receipt() -> None:
    hooks = {"AUTH": logs_in([]), ".": answer("250 2.0.0 Ok: queued as 4XyZ1b2C3d4E5f6G7h8I9j0K1l2M")}
    with Server(offering("PLAIN"), hooks) as server, transport_to(server, **USER) as transport:
        assert transport.deliver(envelope()).request_id == "4XyZ1b2C3d4E5f6G7h8I9j0K1l2M"


def test_a_transcript_shows_the_dialogue_without_credentials() -> None:
    lines: list[tuple[str, str]] = []
    with Server(offering("LOGIN"), {"AUTH": logs_in([], "Username:", "Password:")}) as server:
        settings = SmtpSettings("127.0.0.1", server.port, tls="none", **USER)  # type: ignore[arg-type]
        session = SmtpSession(settings, observe=lambda who, line: lines.append((who, line)))
        session.open()
        session.close()
    text = "\n".join(line for _, line in lines)
    assert "AUTH LOGIN" in text and "235 2.7.0 ok" in text and MASK in text
    for secret in ("correct-horse", "Y29ycmVjdC1ob3"):
        assert secret not in text


@pytest.mark.parametrize("secret", ["x", "ab", "abc1"])
def test_a_very_short_password_masks_itself_and_not_every_word_it_stands_in(secret: str) -> None:
    secrets = Secrets()
    secrets.add(secret)
    assert secrets.mask(f"554 {secret} example abc12 abx") == f"554 {MASK} example abc12 abx"


def test_nothing_is_masked_where_nobody_logged_in() -> None:
    said = "554 5.7.1 see eyJhbGciOiJIUzI1NiJ9eyJzdWIiOiIxMjM0NTY3ODkw"
    with Server(hooks={".": answer(said)}) as server, transport_to(server) as transport:
        with pytest.raises(OutmailError) as caught:
            transport.deliver(envelope())
        assert caught.value.detail == said[4:]
