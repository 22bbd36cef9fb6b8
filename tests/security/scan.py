"""A scanner (wapiti) over the example application's pages, logged in as its administrator: `make scan`.

The shop gets mail of every fate, an authentication object, a setup and an open incident, so that every page has
something to show. What counts is printed at the end: what the scanner found, how many requests there were, which
routes of the pages they reached, and every answer of 500 or more. Exit code 1 when there is anything that is not
explained here.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

from example_app import create_app
from example_app.config import simulator_settings
from example_app.models import create_tables
from example_app.world import World
from flask_outmail.simulator import Simulator

#: Left out: guessing other programs' files (buster, cms, nikto, wp_enum, wapp, htp, network_device, takeover), TLS of
#: a server that has none here (ssl, https_redirect), other languages' faults (log4shell, spring4shell), and ldap, which
#: takes any two answers that differ for a hit, where nothing speaks LDAP.
MODULES = (
    "backup,brute_login_form,cookieflags,crlf,csp,csrf,exec,file,htaccess,http_headers,methods,permanentxss,redirect,"
    "shellshock,sql,ssrf,timesql,upload,xss,xxe"
)
#: What it always says, and why that stays.
EXPLAINED = {
    "Secure Flag cookie": "the demonstration has no TLS; an application sets SESSION_COOKIE_SECURE where it has",
    "HTTP Methods": "OPTIONS is answered with the methods that a route takes, and GET of a form beside its POST",
}
#: What would end the log-in. That it takes a POST with a token is shown by tests of its own.
LEFT_OUT = ("/logout",)


class Seen:
    """What reached the application: by route, and each answer of 500 or more."""

    def __init__(self, app: Flask) -> None:
        self.routes: Counter[tuple[str, str]] = Counter()
        self.paths: set[str] = set()
        self.faults: Counter[str] = Counter()
        self._inner, self._urls = app.wsgi_app, app.url_map.bind("localhost")

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        try:
            route = self._urls.match(path, method)[0]
        except HTTPException:  # no route of the application's
            route = "(none)"
        self.routes[method, str(route)] += 1
        self.paths.add(f"{path}?{environ.get('QUERY_STRING', '')}")

        def note(status: str, *rest: Any) -> Any:
            if status >= "500":
                self.faults[f"{status[:3]} {method} {route}"] += 1
            return start_response(status, *rest)

        return self._inner(environ, note)


class Bait(ThreadingHTTPServer):
    """Where the scanner's addresses lead: whoever asks here has been tricked into a request (SSRF, XXE)."""

    daemon_threads = True

    def __init__(self) -> None:
        self.caught: list[str] = []
        super().__init__(("127.0.0.1", 0), _Bait)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class _Bait(BaseHTTPRequestHandler):
    server: Bait

    def do_GET(self) -> None:
        if not re.match(r"/get_\w+\.php", self.path):
            self.server.caught.append(self.path)
        body = b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def log_message(self, *args: Any) -> None:
        pass


def furnish(app: Flask, simulator: Simulator) -> FlaskClient:
    """Logs in, sets mail up by the pages' own forms, and sends mail of every fate. Returns the logged-in client."""
    client = app.test_client()

    def submit(path: str, page: str = "", **fields: Any) -> Any:
        shown = client.get(page or path).text
        values = dict(re.findall(r'name="(csrf_token|revision|version|proof)"[^>]*value="([^"]*)"', shown))
        return client.post(path, data={**values, **fields})

    submit("/login", name="admin", password="admin")
    sender = {"username": simulator.mailbox, "failure_alerts_to": "ops@elsewhere.example"}
    secret = {"client_secret": simulator.client_secret, "cloud": "simulator", "expires_on": "2027-04-15"}
    for name in ("Contoso mailer", "Contoso spare"):
        submit(
            "/outmail/auth-objects/new",
            name=name,
            provider="microsoft_client_credentials",
            tenant=simulator.tenant,
            client_id=simulator.client_id,
            **secret,
        )
    smtp = {"host": simulator.smtp_host, "port": str(simulator.smtp_port), "tls": "starttls"}
    password = {"password": simulator.smtp_password, "from_address": simulator.mailbox}
    for fields in ({"service": "microsoft365_graph", "auth_object": "1"}, {"service": "smtp", **smtp, **password}):
        for action in ("test", "save"):
            submit("/outmail/setup", action=action, **sender, **fields)
    faults = simulator.faults
    fates = (
        lambda: faults.preset("smtp-auth-535"),
        lambda: faults.preset("smtp-rcpt-550"),
        lambda: faults.lose_answer("smtp.dot"),
        lambda: None,
    )
    for fate in fates:
        fate()
        submit("/books/the-lighthouse-ledger", quantity="1", email="clara@reader.example")
    return client


def scan(wapiti: str, url: str, bait: Bait, cookie: str, report: Path, minutes: float) -> dict[str, Any]:
    """One run of the scanner over everything below `url`; returns its report."""
    command = [wapiti, "-u", url, "-m", MODULES, "-f", "json", "-o", str(report), "--flush-session", "--no-bugreport"]
    command += ["-C", cookie, "--skip", "csrf_token", "--endpoint", bait.url, "-S", "normal", "-t", "20", "-v", "1"]
    command += ["--store-session", str(report.parent / "session"), "--max-attack-time", str(minutes * 60)]
    for path in LEFT_OUT:
        command += ["-x", url.rstrip("/") + path]
    subprocess.run(command, check=True)
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def tell(found: dict[str, Any], seen: Seen, bait: Bait, app: Flask) -> int:
    infos = found["infos"]
    pages = {rule.endpoint for rule in app.url_map.iter_rules() if rule.endpoint.startswith("outmail.")}
    reached = {route for _, route in seen.routes}
    print(f"\n{infos['version']}; {infos.get('crawled_pages_nbr')} pages; {sum(seen.routes.values())} requests,")
    print(f"{len(seen.paths)} different addresses, {len(reached & pages)} of {len(pages)} routes of the pages.\n")
    print("Not reached:", *sorted(pages - reached))
    print(f"Tricked into a request: {len(bait.caught)}. Answers of 500 and more: {dict(seen.faults)}\n")
    rows = 0
    for kind in ("vulnerabilities", "anomalies", "additionals"):
        for name, findings in found[kind].items():
            rows += 0 if name in EXPLAINED else len(findings)
            # Which addresses takes 20 lines to say and tells nothing new; the scanner's own report has them.
            for info, count in Counter(re.sub(r"http://\S+", "…", row["info"]) for row in findings).items():
                print(f"| {kind} | {name} | {count} | {findings[0]['path']} | {info} | {EXPLAINED.get(name, '')} |")
    return 1 if rows or bait.caught or seen.faults else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--wapiti", default="wapiti", help="the scanner's program")
    parser.add_argument("--minutes", type=float, default=10.0, help="longest time for each kind of attack")
    parser.add_argument("--report", type=Path, default=None, help="where the scanner's own report (JSON) is kept")
    options = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, Simulator(directory=Path(folder) / "simulator") as simulator:
        app = create_app(
            {
                "EXAMPLE_INSTANCE": Path(folder) / "instance",
                **simulator_settings(World.of(simulator)),
                "OUTMAIL_KEEP_BODIES_DAYS": 7,
                # The limits have tests of their own; here what stands behind them is attacked.
                "OUTMAIL_TESTS_PER_MINUTE": 1_000_000,
                "OUTMAIL_TESTS_PER_PERSON": 1_000_000,
                "OUTMAIL_CONNECT_TIMEOUT_SECONDS": 2,
                "OUTMAIL_SMTP_TIMEOUT_SECONDS": 2,
                "OUTMAIL_GRAPH_TIMEOUT_SECONDS": 2,
                "OUTMAIL_TOKEN_TIMEOUT_SECONDS": 2,
                "WTF_CSRF_TIME_LIMIT": None,
                # The scanner asks for more pages at once than the usual pool has connections for.
                "SQLALCHEMY_ENGINE_OPTIONS": {"pool_size": 50, "max_overflow": 50},
            }
        )
        with app.app_context():
            create_tables()
        client = furnish(app, simulator)
        seen, bait = Seen(app), Bait()
        server = make_server("127.0.0.1", 0, seen, threaded=True)  # type: ignore[arg-type]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        session = client.get_cookie(app.config["SESSION_COOKIE_NAME"])
        assert session is not None
        report = options.report or Path(folder) / "report.json"
        found = scan(
            options.wapiti, f"http://127.0.0.1:{server.port}/", bait, f"{session.key}={session.value}", report,
            options.minutes,
        )  # fmt: skip
        return tell(found, seen, bait, app)


if __name__ == "__main__":
    sys.exit(main())
