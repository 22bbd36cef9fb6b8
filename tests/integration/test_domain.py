"""The check of a domain, against a DNS server of the tests' own on a real socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from flask_outmail.diagnosis import steps
from flask_outmail.diagnosis.domain import MICROSOFT_SELECTORS, MICROSOFT_SPF, DomainCheck
from flask_outmail.diagnosis.steps import Step

from ..conftest import MakeApp, graph_setup

D = "contoso.example"
GOOD = {
    (D, "MX"): ["10 contoso-example.mail.protection.outlook.com."],
    (D, "TXT"): ['"v=spf1 include:spf.protection.outlook.com -all"', '"unrelated"'],
    ("spf.protection.outlook.com", "TXT"): ['"v=spf1 ip4:192.0.2.0/24 -all"'],
    (f"selector1._domainkey.{D}", "CNAME"): ["selector1._domainkey.tenant.example."],
    ("selector1._domainkey.tenant.example", "TXT"): ['"v=DKIM1; k=rsa; " "p=MIIB"'],
    (f"_dmarc.{D}", "TXT"): ['"v=DMARC1; p=reject; rua=mailto:d@contoso.example"'],
}


class NameServer:
    """Answers what `zone` holds, over UDP; a name that it does not know does not exist."""

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], list[str]] = {}
        self.silent = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(4096)
            if not data:
                return
            if not self.silent:
                self._socket.sendto(self._answer(dns.message.from_wire(data)).to_wire(), peer)

    def _answer(self, query: Any) -> Any:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        [question] = query.question
        name, kind = question.name.to_text().rstrip(".").lower(), dns.rdatatype.to_text(question.rdtype)
        while (name, "CNAME") in self.zone:
            [target] = self.zone[name, "CNAME"]
            answer.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "CNAME", target))
            name = target.rstrip(".")
        if records := self.zone.get((name, kind)):
            answer.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", kind, *records))
        elif name not in {known for known, _ in self.zone}:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer

    def close(self) -> None:
        host, _, port = self.address.partition(":")
        self._socket.sendto(b"", (host, int(port)))
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def server() -> Iterator[NameServer]:
    running = NameServer()
    running.zone = dict(GOOD)
    yield running
    running.close()


Ask = Callable[..., dict[str, Step]]


@pytest.fixture
def ask(server: NameServer) -> Ask:
    def run(domain: str = D, **known: Any) -> dict[str, Step]:
        given = {"spf_includes": MICROSOFT_SPF, "selectors": MICROSOFT_SELECTORS, "timeout_s": 2.0, **known}
        check = DomainCheck(domain, nameservers=[server.address], **given)
        return {step.key: step for step in steps.run(check.checks())}

    return run


def test_a_domain_in_order_passes_every_step(ask: Ask) -> None:
    found = ask()
    assert {step.state for step in found.values()} == {"passed"}
    assert "p=reject" in found["dmarc"].seen and "selector1" in found["dkim"].seen


@pytest.mark.parametrize(
    ("key", "name", "records", "code"),
    [
        ("mx", D, [], "mx_missing"),
        ("mx", D, ["0 ."], "mx_null"),
        ("spf", D, ['"nothing"'], "spf_missing"),
        ("spf", D, ['"v=spf1 -all"', '"V=SPF1 ~all"'], "spf_several"),
        ("spf", D, ['"v=spf1 +all"'], "spf_allows_all"),
        ("spf", D, ['"v=spf1 include:other.example -all"'], "spf_without_service"),
        ("spf", D, ['"v=spf1 ' + " ".join(f"a:h{n}.example" for n in range(11)) + ' -all"'], "spf_too_many_lookups"),
        ("spf", D, [f'"v=spf1 include:{D} -all"'], "spf_too_many_lookups"),
        ("dkim", "selector1._domainkey.tenant.example", ['"v=DKIM1; p="'], "dkim_revoked"),
        ("dkim", "selector1._domainkey.tenant.example", ['"hello"'], "dkim_missing"),
        ("dmarc", f"_dmarc.{D}", ['"v=DMARC1; p=none"'], "dmarc_none"),
        ("dmarc", f"_dmarc.{D}", ['"v=DMARC1; p=rejekt"'], "dmarc_unreadable"),
        ("dmarc", f"_dmarc.{D}", ['"v=DMARC1; p=none"', '"v=DMARC1; p=reject"'], "dmarc_several"),
        ("dmarc", f"_dmarc.{D}", ['"hello"'], "dmarc_missing"),
    ],
)
def test_what_is_missing_is_a_warning_with_its_remedy(
    server: NameServer, ask: Ask, key: str, name: str, records: list[str], code: str
) -> None:
    server.zone[name, "MX" if key == "mx" else "TXT"] = records
    step = ask()[key]
    assert (step.state, step.code) == ("warning", code)
    assert step.remedy is not None and step.remedy.steps and step.remedy.code == code


def test_an_include_counts_wherever_it_stands(server: NameServer, ask: Ask) -> None:
    server.zone[D, "TXT"] = ['"v=spf1 redirect=_spf.contoso.example"']
    server.zone["_spf.contoso.example", "TXT"] = ['"v=spf1 include:spf.protection.outlook.com -all"']
    assert ask()["spf"].state == "passed"


def test_the_policy_of_the_parent_counts_for_a_domain_below_it(server: NameServer, ask: Ask) -> None:
    server.zone[f"mail.{D}", "MX"] = ["10 mx.contoso.example."]
    assert ask(f"mail.{D}")["dmarc"].seen == f"p=reject (from {D})"


def test_a_domain_that_does_not_exist_fails_at_once(ask: Ask) -> None:
    found = ask("nothere.example")
    assert (found["mx"].state, found["mx"].code, found["spf"].state) == ("failed", "domain_not_found", "skipped")


def test_dns_that_does_not_answer_is_said_and_ends(server: NameServer, ask: Ask) -> None:
    server.silent = True
    assert ask(timeout_s=0.5)["mx"].code == "dns_no_answer"


def test_nothing_is_demanded_of_a_service_that_is_not_known(ask: Ask) -> None:
    found = ask(spf_includes=(), selectors=())
    assert (found["spf"].state, found["dkim"].seen.startswith("not checked")) == ("passed", True)


def test_the_command_checks_the_domain_of_the_setup(make_app: MakeApp, simulator: Any, server: NameServer) -> None:
    setup = graph_setup(simulator, from_address=f"shop@{D}")
    app, _ = make_app(setup, OUTMAIL_DNS_SERVERS=[server.address])
    assert app.test_cli_runner().invoke(args=["outmail", "domain"]).exit_code == 0
    server.zone[f"_dmarc.{D}", "TXT"] = ['"v=DMARC1; p=none"']
    shown = app.test_cli_runner().invoke(args=["outmail", "domain"])
    assert shown.exit_code == 1 and "Forgeries of this domain are delivered" in shown.output
    read = json.loads(app.test_cli_runner().invoke(args=["outmail", "domain", D.upper(), "--json"]).output)
    assert [one["state"] for one in read["steps"]] == ["passed", "passed", "passed", "warning"]


@pytest.mark.parametrize(("selector", "state"), [("shop1", "passed"), ("shop2", "warning")])
def test_the_key_that_this_application_signs_with_is_looked_for(
    make_app: MakeApp, server: NameServer, tmp_path: Path, selector: str, state: str
) -> None:
    server.zone[f"shop1._domainkey.{D}", "TXT"] = ['"v=DKIM1; k=rsa; p=MIIB"']
    (tmp_path / "dkim.pem").write_text("read when something is signed")
    signing = {"OUTMAIL_DKIM_DOMAIN": D, "OUTMAIL_DKIM_SELECTOR": selector}
    signing["OUTMAIL_DKIM_KEY_FILE"] = str(tmp_path / "dkim.pem")
    setup = {"service": "smtp", "host": "mail.invalid", "from_address": f"shop@{D}"}
    app, _ = make_app(setup, OUTMAIL_DNS_SERVERS=[server.address], **signing)
    read = json.loads(app.test_cli_runner().invoke(args=["outmail", "domain", "--json"]).output)
    assert [one["state"] for one in read["steps"] if one["key"] == "dkim"] == [state]


@pytest.mark.parametrize("name", ["", "-", "a b", "x@y.example", "a\nb"])
def test_a_name_that_is_none_is_refused(make_app: MakeApp, name: str) -> None:
    app, _ = make_app(MAIL_SERVER="localhost")
    assert app.test_cli_runner().invoke(args=["outmail", "domain", name]).exit_code in (1, 2)
