"""SMTP submission, through smtplib and by hand."""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
from typing import Any

import pytest

from flask_outmail.simulator import PRESETS, Simulator


def xoauth2(user: str, token: str) -> str:
    return base64.b64encode(f"user={user}\x01auth=Bearer {token}\x01\x01".encode()).decode()


@pytest.fixture
def token(sim: Simulator, graph: Any) -> str:
    return str(graph.token(scope=sim.cloud["smtp_scope"]))


# Signing in


def test_password_over_starttls(sim: Simulator, smtp_client: Any, make_mime: Any) -> None:
    refused = smtp_client().sendmail(sim.mailbox, ["ann@x.example", "bob@x.example"], make_mime())

    assert refused == {}
    assert [mail.recipient for mail in sim.delivered] == ["ann@x.example", "bob@x.example"]
    assert {mail.via for mail in sim.delivered} == {"smtp"}
    assert sim.delivered[0].raw == make_mime()


def test_password_over_implicit_tls(sim: Simulator, trust: ssl.SSLContext, make_mime: Any) -> None:
    with smtplib.SMTP_SSL("localhost", sim.smtps_port, context=trust, timeout=10) as client:
        client.login(sim.mailbox, sim.smtp_password)
        client.sendmail(sim.mailbox, ["ann@x.example"], make_mime())

    assert len(sim.delivered) == 1


@pytest.mark.parametrize("initial_response", [True, False])
def test_xoauth2_in_both_forms(
    sim: Simulator, smtp_client: Any, make_mime: Any, token: str, initial_response: bool
) -> None:
    client = smtp_client(sign_in=False)

    def answer(challenge: bytes | None = None) -> str:
        return f"user={sim.mailbox}\x01auth=Bearer {token}\x01\x01"

    code, _ = client.auth("XOAUTH2", answer, initial_response_ok=initial_response)
    client.sendmail(sim.mailbox, ["ann@x.example"], make_mime())

    assert code == 235
    assert sim.delivered[0].client == sim.client_id


def test_real_tokens_do_not_fit_an_ordinary_smtp_line(token: str) -> None:
    assert 512 < len(xoauth2("noreply@contoso.example", token)) < 12288


def test_login_in_every_form(sim: Simulator, raw_smtp: Any) -> None:
    user = base64.b64encode(sim.mailbox.encode()).decode()
    password = base64.b64encode(sim.smtp_password.encode()).decode()

    talk = raw_smtp()
    assert talk.ask("AUTH LOGIN") == "334 VXNlcm5hbWU6"
    assert talk.ask(user) == "334 UGFzc3dvcmQ6"
    assert talk.ask(password).startswith("235 2.7.0 ")
    assert talk.ask("AUTH LOGIN").startswith("503 ")

    talk = raw_smtp()
    assert talk.ask(f"AUTH LOGIN {user}") == "334 UGFzc3dvcmQ6"
    assert talk.ask("*").startswith("501 ")
    assert talk.ask("AUTH LOGIN").startswith("334 ")
    assert talk.ask("*").startswith("501 ")
    assert talk.ask(f"auth login {user}") == "334 UGFzc3dvcmQ6"
    assert talk.ask("ü").startswith("501 ")
    assert talk.ask(f"auth login {user}") == "334 UGFzc3dvcmQ6"
    assert talk.ask("x" * 20_000).startswith("535 ")
    assert talk.ask(f"auth login {user}") == "334 UGFzc3dvcmQ6"
    assert talk.ask(password).startswith("235 ")


def test_plain_is_there_only_on_request(sim: Simulator, raw_smtp: Any) -> None:
    plain = base64.b64encode(f"\x00{sim.mailbox}\x00{sim.smtp_password}".encode()).decode()

    assert raw_smtp().ask(f"AUTH PLAIN {plain}").startswith("504 5.7.4 ")
    sim.behaviour.plain_auth = True
    assert raw_smtp().ask(f"AUTH PLAIN {plain}").startswith("235 ")
    talk = raw_smtp()
    assert talk.ask("AUTH PLAIN").startswith("334")
    assert talk.ask("*").startswith("501 ")


def test_capabilities_before_and_after_encryption(raw_smtp: Any) -> None:
    talk = raw_smtp(ready=False)
    assert talk.hear().startswith("220 ")
    before = talk.ask("EHLO test")
    talk.ask("STARTTLS")
    talk.start_tls()
    after = talk.ask("EHLO test")

    for word in ("SIZE 157286400", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", "8BITMIME", "CHUNKING", "SMTPUTF8"):
        assert word in before
        assert word in after
    assert "STARTTLS" in before
    assert "AUTH" not in before
    assert "STARTTLS" not in after
    assert "AUTH LOGIN XOAUTH2" in after


def test_capabilities_can_be_hidden(sim: Simulator, raw_smtp: Any) -> None:
    sim.behaviour.hidden_capabilities = ("STARTTLS", "SIZE")
    sim.behaviour.smtp_utf8 = False
    talk = raw_smtp(ready=False)
    talk.hear()

    capabilities = talk.ask("EHLO test")

    assert "STARTTLS" not in capabilities
    assert "SIZE" not in capabilities
    assert "SMTPUTF8" not in capabilities


def test_nothing_is_done_before_encryption_and_sign_in(raw_smtp: Any) -> None:
    talk = raw_smtp(ready=False)
    talk.hear()
    assert talk.ask("MAIL FROM:<a@x.example>").startswith("503 ")
    talk.ask("EHLO test")
    assert talk.ask("AUTH LOGIN").startswith("530 5.7.0 ")
    assert talk.ask("MAIL FROM:<a@x.example>").startswith("530 5.7.57 ")
    assert raw_smtp().ask("MAIL FROM:<a@x.example>").startswith("530 5.7.57 ")


@pytest.mark.parametrize("mistake", ["password", "user", "token", "graph token", "mailbox", "no role", "no mailbox"])
def test_wrong_credentials_are_535(sim: Simulator, graph: Any, raw_smtp: Any, token: str, mistake: str) -> None:
    talk = raw_smtp()
    if mistake in ("password", "user"):
        user = sim.mailbox if mistake == "password" else "nobody@contoso.example"
        talk.ask("AUTH LOGIN " + base64.b64encode(user.encode()).decode())
        answer = talk.ask(base64.b64encode(b"wrong").decode())
    else:
        app = sim.add_app("Bare", roles=["Mail.Send"])
        used = {
            "token": "garbage",
            "graph token": graph.token(),
            "no role": graph.token(scope=sim.cloud["smtp_scope"], client_id=app.client_id, client_secret=app.secret),
        }.get(mistake, token)
        user = {"mailbox": "nobody@contoso.example", "no mailbox": "retired@contoso.example"}.get(mistake, sim.mailbox)
        answer = talk.ask(f"AUTH XOAUTH2 {xoauth2(user, used)}")

    assert answer.startswith("535 5.7.3 Authentication unsuccessful")


def test_scoped_application_signs_in_to_its_mailbox_only(sim: Simulator, graph: Any, raw_smtp: Any) -> None:
    app = sim.add_app("Scoped", scoped_to={sim.mailbox})
    token = graph.token(scope=sim.cloud["smtp_scope"], client_id=app.client_id, client_secret=app.secret)

    assert raw_smtp().ask(f"AUTH XOAUTH2 {xoauth2('anna@contoso.example', token)}").startswith("535 ")
    assert raw_smtp().ask(f"AUTH XOAUTH2 {xoauth2(sim.mailbox, token)}").startswith("235 ")


def test_xoauth2_refusal_may_come_as_a_challenge_first(sim: Simulator, raw_smtp: Any) -> None:
    sim.behaviour.xoauth2_failure = "challenge"
    talk = raw_smtp()

    challenge = talk.ask(f"AUTH XOAUTH2 {xoauth2(sim.mailbox, 'garbage')}")

    assert challenge.startswith("334 ")
    assert b'"status":"401"' in base64.b64decode(challenge[4:])
    assert talk.ask("").startswith("535 5.7.3 ")
    assert talk.ask("NOOP").startswith("250 ")


def test_garbled_sign_in_is_501(raw_smtp: Any) -> None:
    talk = raw_smtp()

    assert talk.ask("AUTH XOAUTH2 ???").startswith("501 ")
    assert talk.ask("AUTH XOAUTH2 QUJD").startswith("501 ")
    assert talk.ask("AUTH XOAUTH2").startswith("334")
    assert talk.ask("*").startswith("501 ")
    assert talk.ask("AUTH CRAM-MD5").startswith("504 5.7.4 ")


def test_basic_authentication_can_be_off(sim: Simulator, smtp_client: Any) -> None:
    sim.behaviour.basic_auth = False

    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        smtp_client()
    assert (refused.value.smtp_code, b"5.7.139" in refused.value.smtp_error) == (535, True)


def test_fourth_connection_of_a_mailbox_is_432_until_one_leaves(sim: Simulator, smtp_client: Any) -> None:
    first, *_ = [smtp_client() for _ in range(3)]

    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        smtp_client()
    first.quit()
    for _ in range(200):
        try:
            smtp_client()
            break
        except smtplib.SMTPAuthenticationError:
            continue
    else:
        pytest.fail("the place of the connection that left was not given away")
    assert refused.value.smtp_code == 432
    assert b"4.3.2 Concurrent connections limit exceeded" in refused.value.smtp_error


# A message


def test_envelope_decides_and_a_bcc_header_is_removed_but_noticed(
    sim: Simulator, smtp_client: Any, make_mime: Any
) -> None:
    smtp_client().sendmail(sim.mailbox, ["bob@x.example"], make_mime(Bcc="secret@x.example"))

    [mail] = sim.delivered
    assert mail.recipient == "bob@x.example"
    assert mail.had_bcc_header
    assert b"secret" not in mail.raw


def test_dots_are_unstuffed(sim: Simulator, smtp_client: Any, make_mime: Any) -> None:
    raw = make_mime(body=".\r\n..two\r\na.b\r\n.last\r\n")

    smtp_client().sendmail(sim.mailbox, ["ann@x.example"], raw)

    assert sim.delivered[0].raw == raw


def test_sent_copy_lands_in_sent_items(sim: Simulator, smtp_client: Any, graph: Any, make_mime: Any) -> None:
    smtp_client().sendmail(sim.mailbox, ["ann@x.example"], make_mime())

    assert len(graph.request("GET", "mailFolders/sentitems/messages").json()["value"]) == 1


def signed_in(sim: Simulator, raw_smtp: Any) -> Any:
    talk = raw_smtp()
    talk.ask("AUTH LOGIN " + base64.b64encode(sim.mailbox.encode()).decode())
    assert talk.ask(base64.b64encode(sim.smtp_password.encode()).decode()).startswith("235 ")
    return talk


def test_pipelined_commands_are_answered_in_order(sim: Simulator, raw_smtp: Any, make_mime: Any) -> None:
    talk = signed_in(sim, raw_smtp)

    talk.say(
        b"MAIL FROM:<noreply@contoso.example> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=abc\r\n"
        b"RCPT TO:<ann@x.example> NOTIFY=FAILURE ORCPT=rfc822;ann@x.example\r\n"
        b"RCPT TO:nonsense\r\nRCPT TO:<bob@x.example>\r\nDATA\r\n"
    )
    codes = [talk.hear()[:9] for _ in range(5)]
    talk.say(make_mime() + b".\r\nNOOP\r\n")

    assert codes == ["250 2.1.0", "250 2.1.5", "501 5.1.3", "250 2.1.5", "354 Start"]
    assert talk.hear().startswith("250 2.0.0 OK <one@test.example>")
    assert talk.hear().startswith("250 2.0.0")
    assert [mail.recipient for mail in sim.delivered] == ["ann@x.example", "bob@x.example"]


def test_chunks_are_joined_and_dots_left_alone(sim: Simulator, raw_smtp: Any, make_mime: Any) -> None:
    talk = signed_in(sim, raw_smtp)
    first, second = make_mime(), b".\r\n..end\r\n"

    talk.say(
        b"MAIL FROM:<noreply@contoso.example>\r\nRCPT TO:<ann@x.example>\r\n"
        + b"BDAT %d\r\n%bBDAT %d LAST\r\n%bNOOP\r\n" % (len(first), first, len(second), second)
    )
    codes = [talk.hear()[:9] for _ in range(5)]

    assert codes == ["250 2.1.0", "250 2.1.5", "250 2.6.0", "250 2.0.0", "250 2.0.0"]
    [mail] = sim.delivered
    assert mail.raw.endswith(second)


def test_a_chunk_that_is_refused_is_read_all_the_same(sim: Simulator, raw_smtp: Any) -> None:
    talk = signed_in(sim, raw_smtp)
    sim.behaviour.smtp_size_limit_bytes = 10

    assert talk.ask(b"BDAT 5 LAST\r\nQUIT\n").startswith("503 ")  # nobody to receive it
    talk.ask("MAIL FROM:<noreply@contoso.example>")
    talk.ask("RCPT TO:<ann@x.example>")
    assert talk.ask(b"BDAT 15 LAST\r\n" + b"QUIT\r\n" * 2 + b"abc")[:9] == "552 5.3.4"
    assert talk.ask("NOOP").startswith("250 ")
    assert sim.delivered == []
    sim.faults.refuse("smtp.data", 451, "4.7.500")
    assert talk.ask(b"BDAT 3 LAST\r\nabc").startswith("451 4.7.500")
    assert talk.ask("BDAT many").startswith("501 ")
    assert talk.hear() == ""  # nobody could say where the next command begins


@pytest.mark.parametrize("parts", [[b"BDAT 3 LAST\r\nabc"], [b"BDAT 3 LAST\r\n", b"abc"]])
def test_connection_lost_before_a_chunk_is_whole(sim: Simulator, raw_smtp: Any, parts: list[bytes]) -> None:
    talk = signed_in(sim, raw_smtp)
    sim.faults.lose_request("smtp.data")
    talk.ask("MAIL FROM:<noreply@contoso.example>")
    talk.ask("RCPT TO:<ann@x.example>")
    for part in parts:
        talk.say(part)

    assert talk.hear() == ""
    assert sim.delivered == []


def test_connection_lost_while_signing_in(sim: Simulator, raw_smtp: Any, token: str) -> None:
    sim.faults.lose_request("smtp.auth")

    assert raw_smtp().ask(f"AUTH XOAUTH2 {xoauth2(sim.mailbox, token)}") == ""


def test_a_message_without_a_byte_is_a_message(sim: Simulator, raw_smtp: Any) -> None:
    talk = signed_in(sim, raw_smtp)
    talk.ask("MAIL FROM:<noreply@contoso.example>")
    talk.ask("RCPT TO:<ann@x.example>")
    talk.ask("DATA")

    assert talk.ask(".").startswith("250 ")
    assert [mail.text for mail in sim.delivered] == [""]


def test_small_commands(sim: Simulator, raw_smtp: Any) -> None:
    talk = signed_in(sim, raw_smtp)

    for line, code in [
        ("NOOP", "250"), ("noop", "250"), ("VRFY ann", "252"), ("HELP", "214"), ("WHAT", "500"),
        ("RCPT TO:<a@b.c>", "503"),
        ("DATA", "503"), ("STARTTLS", "503"), ("MAIL FROM:a@b.c", "501"), ("MAIL FROM:<a@b.c> ODD=1", "555"),
        ("MAIL FROM:<a@b.c> SIZE=x", "501"), ("MAIL FROM:<a@b.c> SIZE=157286401", "552"), ("MAIL FROM:<a@b.c>", "250"),
        ("MAIL FROM:<jörg@b.c>", "503"), ("RCPT TO:<a@b.c> ODD=1", "555"), ("RSET", "250"),
        ("MAIL FROM:<jörg@b.c>", "553"), ("MAIL FROM:<a@b.c>", "250"), ("RCPT TO:<>", "501"),
        ("x" * 20000, "500"), ("HELO test", "250"), ("QUIT", "221"),
    ]:  # fmt: skip
        assert talk.ask(line).startswith(code), line
    assert talk.hear() == ""


def test_smtputf8_addresses(sim: Simulator, raw_smtp: Any, make_mime: Any) -> None:
    talk = signed_in(sim, raw_smtp)
    talk.ask("MAIL FROM:<noreply@contoso.example>")
    assert talk.ask("RCPT TO:<jörg@x.example>").startswith("553 5.6.7 ")
    talk.ask("RSET")
    talk.ask("MAIL FROM:<noreply@contoso.example> SMTPUTF8")
    assert talk.ask("RCPT TO:<jörg@x.example>").startswith("250 ")
    talk.ask("DATA")
    assert talk.ask(make_mime(To="Jörg <jörg@x.example>") + b".\r\n").startswith("250 ")
    assert sim.delivered[0].recipient == "jörg@x.example"

    sim.behaviour.smtp_utf8 = False
    assert talk.ask("MAIL FROM:<noreply@contoso.example> SMTPUTF8").startswith("555 ")


@pytest.mark.parametrize("body", [b"bare\nline feed\r\n", b"smuggled\n.\nMAIL FROM:<x@y.z>\r\n"])
def test_bare_line_feed_is_refused(sim: Simulator, raw_smtp: Any, make_mime: Any, body: bytes) -> None:
    talk = signed_in(sim, raw_smtp)
    talk.ask("MAIL FROM:<noreply@contoso.example>")
    talk.ask("RCPT TO:<ann@x.example>")
    talk.ask("DATA")

    assert talk.ask(make_mime() + body + b".\r\n").startswith("550 5.6.11 ")
    assert sim.delivered == []


def test_content_above_the_size_limit_is_552(sim: Simulator, raw_smtp: Any) -> None:
    sim.behaviour.smtp_size_limit_bytes = 1000
    talk = signed_in(sim, raw_smtp)
    for size in (1001, 300_000):
        talk.ask("MAIL FROM:<noreply@contoso.example>")
        talk.ask("RCPT TO:<ann@x.example>")
        talk.ask("DATA")
        assert talk.ask(b"x" * size + b"\r\n.\r\n").startswith("552 5.3.4 ")
    assert talk.ask("NOOP").startswith("250 ")
    assert sim.delivered == []


def test_recipients_above_the_limit_get_a_452_each(sim: Simulator, smtp_client: Any, make_mime: Any) -> None:
    sim.behaviour.smtp_recipient_limit = 2

    refused = smtp_client().sendmail(sim.mailbox, [f"r{number}@x.example" for number in range(4)], make_mime())

    assert {address: code for address, (code, _) in refused.items()} == {"r2@x.example": 452, "r3@x.example": 452}
    assert len(sim.delivered) == 2


# Sending as somebody else


@pytest.mark.parametrize(
    ("wording", "code", "text"), [("554-5.2.252", 554, b"5.2.252"), ("550-5.7.60", 550, b"5.7.60")]
)
@pytest.mark.parametrize("place", ["header", "envelope"])
def test_foreign_sender_is_refused_after_the_data(
    sim: Simulator, smtp_client: Any, make_mime: Any, wording: str, code: int, text: bytes, place: str
) -> None:
    sim.behaviour.send_as_wording = wording
    header, envelope = (
        ("anna@contoso.example", sim.mailbox) if place == "header" else (sim.mailbox, "anna@contoso.example")
    )

    with pytest.raises(smtplib.SMTPDataError) as refused:
        smtp_client().sendmail(envelope, ["ann@x.example"], make_mime(From=header))

    assert (refused.value.smtp_code, text in refused.value.smtp_error) == (code, True)


def test_send_as_allows_it(sim: Simulator, smtp_client: Any, make_mime: Any) -> None:
    smtp_client().sendmail("news@contoso.example", ["ann@x.example"], make_mime(From="news@contoso.example"))

    assert (sim.delivered[0].mail_from, sim.delivered[0].envelope_from) == (sim.mailbox, "news@contoso.example")


def test_repeated_denials_block_the_mailbox_until_cleared(sim: Simulator, smtp_client: Any, make_mime: Any) -> None:
    client = smtp_client()
    for _ in range(3):
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail(sim.mailbox, ["ann@x.example"], make_mime(From="anna@contoso.example"))

    with pytest.raises(smtplib.SMTPSenderRefused) as refused:
        client.sendmail(sim.mailbox, ["ann@x.example"], make_mime())
    assert (refused.value.smtp_code, b"5.2.252 Sender throttled" in refused.value.smtp_error) == (550, True)
    sim.clear()
    client.sendmail(sim.mailbox, ["ann@x.example"], make_mime())


# Faults


def test_one_recipient_of_several_is_refused(sim: Simulator, smtp_client: Any, make_mime: Any) -> None:
    sim.faults.preset("smtp-rcpt-550", recipient="Bad@x.example", times=None)
    sim.faults.preset("smtp-rcpt-451", recipient="later@x.example")

    refused = smtp_client().sendmail(sim.mailbox, ["good@x.example", "bad@x.example", "later@x.example"], make_mime())

    assert {address: code for address, (code, _) in refused.items()} == {"bad@x.example": 550, "later@x.example": 451}
    assert [mail.recipient for mail in sim.delivered] == ["good@x.example"]


AUTH_PRESETS = [name for name, preset in PRESETS.items() if preset.fault.endpoint == "smtp.auth"]


@pytest.mark.parametrize("name", AUTH_PRESETS)
@pytest.mark.parametrize("mechanism", ["LOGIN", "XOAUTH2"])
def test_every_refusal_of_a_sign_in(sim: Simulator, raw_smtp: Any, token: str, name: str, mechanism: str) -> None:
    fault = sim.faults.preset(name)
    talk = raw_smtp()

    if mechanism == "LOGIN":
        talk.ask("AUTH LOGIN " + base64.b64encode(sim.mailbox.encode()).decode())
        answer = talk.ask(base64.b64encode(sim.smtp_password.encode()).decode())
    else:
        answer = talk.ask(f"AUTH XOAUTH2 {xoauth2(sim.mailbox, token)}")

    assert answer.startswith(f"{fault.status} {fault.code} ")


@pytest.mark.parametrize("name", ["smtp-dot-drop-delivered", "smtp-dot-drop-lost", "smtp-drop-before-dot"])
def test_connection_lost_around_the_final_dot(sim: Simulator, smtp_client: Any, make_mime: Any, name: str) -> None:
    sim.faults.preset(name)

    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        smtp_client().sendmail(sim.mailbox, ["ann@x.example"], make_mime())

    assert len(sim.delivered) == (1 if name == "smtp-dot-drop-delivered" else 0)
    assert sim.answers[-1].status == 0


@pytest.mark.parametrize(
    "name", ["smtp-full-554", "smtp-quota-554", "smtp-size-552", "smtp-sender-limit", "smtp-send-as-550"]
)
def test_refusals_after_the_dot(sim: Simulator, smtp_client: Any, make_mime: Any, name: str) -> None:
    fault = sim.faults.preset(name)
    client = smtp_client()

    with pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail(sim.mailbox, ["ann@x.example"], make_mime())

    assert (refused.value.smtp_code, fault.code in str(refused.value.smtp_error)) == (fault.status, True)
    assert sim.delivered == []
    client.sendmail(sim.mailbox, ["ann@x.example"], make_mime())


@pytest.mark.parametrize("name", ["smtp-mail-451", "smtp-mail-530", "smtp-throttled", "smtp-data-451"])
def test_refusals_before_the_content(sim: Simulator, smtp_client: Any, make_mime: Any, name: str) -> None:
    fault = sim.faults.preset(name)

    with pytest.raises(smtplib.SMTPResponseException) as refused:
        smtp_client().sendmail(sim.mailbox, ["ann@x.example"], make_mime())

    assert refused.value.smtp_code == fault.status


def test_refused_greetings(sim: Simulator, raw_smtp: Any) -> None:
    for name, expected in (("connect-421", "421 4.3.2"), ("connect-554", "554 5.7.1"), ("connect-drop", "")):
        sim.faults.preset(f"smtp-{name}")
        try:
            talk = raw_smtp(ready=False)
        except ConnectionResetError:
            assert expected == ""  # the reset was there before the connection was
            continue
        assert talk.hear()[:9].strip() == expected
        assert talk.hear() == ""


def test_garbage_instead_of_a_greeting(sim: Simulator) -> None:
    sim.faults.preset("smtp-garbage-greeting")

    with pytest.raises(smtplib.SMTPException):
        smtplib.SMTP("localhost", sim.smtp_port, timeout=10)


def test_slow_greeting_ends_with_the_clients_patience(sim: Simulator) -> None:
    sim.faults.preset("smtp-slow-greeting")

    with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):
        smtplib.SMTP("localhost", sim.smtp_port, timeout=0.2)


def test_refused_starttls(sim: Simulator, smtp_client: Any) -> None:
    sim.faults.preset("smtp-no-starttls")
    client = smtp_client(sign_in=False, starttls=False)

    assert client.docmd("STARTTLS")[0] == 454
    assert client.noop()[0] == 250


def test_ehlo_can_be_unknown(sim: Simulator, smtp_client: Any) -> None:
    sim.faults.preset("smtp-ehlo-500")
    client = smtplib.SMTP("localhost", sim.smtp_port, timeout=10)

    assert client.ehlo()[0] == 500
    assert client.helo()[0] == 250
    client.close()


def test_bytes_can_be_slipped_in_before_encryption(sim: Simulator, raw_smtp: Any) -> None:
    sim.faults.preset("smtp-starttls-injection")
    talk = raw_smtp(ready=False)
    talk.hear()
    talk.ask("EHLO test")

    assert talk.ask("STARTTLS").startswith("220 ")
    assert talk.hear() == "250 2.0.0 injected"
    talk.start_tls()
    assert talk.ask("EHLO test").startswith("250-")


def test_commands_sent_before_encryption_are_not_obeyed_after_it(raw_smtp: Any) -> None:
    """The server's half of the same hole."""
    talk = raw_smtp(ready=False)
    talk.hear()
    talk.ask("EHLO test")
    talk.say(b"STARTTLS\r\nNOOP\r\n")
    assert talk.hear().startswith("220 ")

    talk.start_tls()

    assert talk.ask("EHLO test").startswith("250-")


@pytest.mark.parametrize("kind", ["expired", "wrong-name", "untrusted"])
def test_bad_certificates_with_starttls(sim: Simulator, smtp_client: Any, kind: str) -> None:
    sim.behaviour.smtp_certificate = kind

    with pytest.raises(ssl.SSLCertVerificationError):
        smtp_client()


@pytest.mark.parametrize("kind", ["expired", "wrong-name", "untrusted"])
def test_bad_certificates_with_implicit_tls(sim: Simulator, trust: ssl.SSLContext, kind: str) -> None:
    sim.behaviour.smtp_certificate = kind

    sock = socket.create_connection(("localhost", sim.smtps_port), timeout=10)
    with sock, pytest.raises(ssl.SSLCertVerificationError):
        trust.wrap_socket(sock, server_hostname="localhost")


def test_silence_ends_with_421(sim: Simulator, raw_smtp: Any) -> None:
    talk = raw_smtp()
    sim.behaviour.smtp_idle_timeout_s = 0.05
    talk.ask("NOOP")

    assert talk.hear().startswith("421 4.4.2 ")
    assert talk.hear() == ""


def test_idle_connections_can_be_dropped_without_a_word(sim: Simulator, smtp_client: Any) -> None:
    client = smtp_client()

    assert sim.drop_smtp_connections() == 1

    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        client.noop()


def test_passwords_and_tokens_are_not_in_the_list_of_answers(
    sim: Simulator, smtp_client: Any, raw_smtp: Any, token: str
) -> None:
    smtp_client()
    raw_smtp().ask(f"AUTH XOAUTH2 {xoauth2(sim.mailbox, token)}")

    written = repr(sim.answers)
    assert "AUTH LOGIN" in written
    for secret in (sim.smtp_password, base64.b64encode(sim.smtp_password.encode()).decode(), token):
        assert secret not in written
