"""Postfix with Dovecot SASL, of the tests' own: in a directory of its own, on ports of its own.

Both need to be started by root and give up their rights themselves. What Postfix accepts lies in `mailbox`.
"""

from __future__ import annotations

import http.server
import json
import os
import pwd
import shutil
import smtplib
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import parse_qs

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .process import Server, ServerMissing, find_program

USERNAME = "shop@customers.example"
PASSWORD = "p\u00e4ssword-17"
DOMAIN = "customers.example"

MAIN_CF = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
meta_directory = /etc/postfix
shlib_directory = {shlib}
mail_owner = postfix
setgid_group = postdrop
maillog_file = /dev/stdout
myhostname = mail.customers.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
virtual_mailbox_domains = {domain}, more.example
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtpd_client_connection_count_limit = 50
smtpd_tls_chain_files = {folder}/server.pem
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{sasl_port}
smtpd_sasl_security_options = noanonymous
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{nobody@{domain}=550 5.1.1 User unknown}},
    {{busy@{domain}=450 4.2.1 Mailbox busy}} }}, permit_mynetworks, reject
message_size_limit = 30000000
smtputf8_enable = yes
"""
MASTER_CF = """
127.0.0.1:{smtp_port} inet n - n - - smtpd
127.0.0.1:{submission_port} inet n - n - - smtpd
    -o smtpd_sasl_auth_enable=yes -o smtpd_tls_security_level=encrypt
    -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
    -o smtpd_client_restrictions=permit_sasl_authenticated,reject
127.0.0.1:{smtps_port} inet n - n - - smtpd
    -o smtpd_sasl_auth_enable=yes -o smtpd_tls_wrappermode=yes
    -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
    -o smtpd_client_restrictions=permit_sasl_authenticated,reject
127.0.0.1:{plain_port} inet n - n - - smtpd -o smtpd_discard_ehlo_keywords=pipelining,chunking,dsn
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""
DOVECOT_CONF = """
base_dir = {folder}/dovecot
state_dir = {folder}/dovecot-state
log_path = {folder}/dovecot.log
protocols =
ssl = no
default_internal_user = dovecot
default_login_user = dovenull
disable_plaintext_auth = no
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
auth_username_format = %Lu
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {sasl_port}
  }}
}}
passdb {{
  driver = passwd-file
  mechanisms = plain login cram-md5
  args = scheme=PLAIN username_format=%u {folder}/users
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {folder}/oauth2.conf
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
"""
OAUTH2_CONF = """
introspection_mode = post
introspection_url = http://127.0.0.1:{token_port}/introspect
username_attribute = username
active_attribute = active
active_value = true
"""


class Introspection:
    """Tells Dovecot which tokens are good (RFC 7662)."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        tokens = self.tokens

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
                username = tokens.get(form.get("token", [""])[0])
                answer = {"active": True, "username": username} if username else {"active": False}
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class Dovecot(Server):
    """Log-ins for Postfix. `mechanisms` are offered to its clients."""

    name = "dovecot"
    as_root = True

    def __init__(self, folder: Path, sasl_port: int, token_port: int, mechanisms: str) -> None:
        self._program = find_program("dovecot")
        self.folder = folder
        self._process = None
        self._facts = {"folder": folder, "sasl_port": sasl_port, "token_port": token_port, "mechanisms": mechanisms}
        self._port = sasl_port

    def prepare(self) -> None:
        (self.folder / "dovecot.conf").write_text(DOVECOT_CONF.format(**self._facts))
        (self.folder / "oauth2.conf").write_text(OAUTH2_CONF.format(**self._facts))
        (self.folder / "users").write_text(f"{USERNAME}:{PASSWORD}\n", "utf-8")
        for name in ("dovecot.conf", "oauth2.conf", "users"):
            (self.folder / name).chmod(0o644)

    def command(self) -> list[str]:
        return [self._program, "-F", "-c", str(self.folder / "dovecot.conf")]

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self._port), timeout=2) as sock:
            return sock.recv(1000).startswith(b"VERSION")


class Postfix(Server):
    """Ports: `smtp_port` (a relay without log-in), `submission_port` (STARTTLS), `smtps_port` (TLS from the start),
    `plain_port` (a relay that offers neither PIPELINING nor CHUNKING).

    `nobody@` is refused for good, `busy@` for now. `accept_token` makes a token good for XOAUTH2.
    """

    name = "postfix"
    as_root = True

    def __init__(self, mechanisms: str = "plain login cram-md5 xoauth2") -> None:
        self._program = find_program("postfix")
        if os.geteuid() != 0:
            raise ServerMissing("Postfix wants to be started by root")
        super().__init__()
        shutil.chown(self.folder, "root", "root")
        self.folder.chmod(0o755)
        self.host = "localhost"
        ports = _free_ports(5)
        self.smtp_port, self.submission_port, self.smtps_port, self.plain_port, sasl_port = ports
        self._tokens = Introspection()
        self._sasl_port = sasl_port
        self._dovecot = Dovecot(self.folder, sasl_port, self._tokens.port, mechanisms)
        self.ca_file = self.folder / "ca.pem"
        self.mailbox = self.folder / "mail" / "inbox"

    def prepare(self) -> None:
        key, certificate = _certificate()
        self.ca_file.write_bytes(certificate)
        (self.folder / "server.pem").write_bytes(key + certificate)
        user = pwd.getpwnam("nobody")
        for name, owner in (("queue", "root"), ("data", "postfix"), ("mail", "nobody")):
            (self.folder / name).mkdir()
            shutil.chown(self.folder / name, owner)
        facts = {
            "folder": self.folder,
            "domain": DOMAIN,
            "uid": user.pw_uid,
            "gid": user.pw_gid,
            "sasl_port": self._sasl_port,
            "daemons": _daemons(),
            "shlib": _folder("/usr/lib/postfix", "no"),
            "smtp_port": self.smtp_port,
            "submission_port": self.submission_port,
            "smtps_port": self.smtps_port,
            "plain_port": self.plain_port,
        }
        (self.folder / "main.cf").write_text(MAIN_CF.format(**facts))
        (self.folder / "master.cf").write_text(MASTER_CF.format(**facts))
        self._dovecot.prepare()
        self.run([self._program, "-c", str(self.folder), "check"])  # makes the folders of the queue

    def command(self) -> list[str]:
        # Not `postfix start-fg`: that leaves its master behind when it is ended.
        return [f"{_daemons()}/master", "-c", str(self.folder), "-s"]

    def start(self) -> None:
        self._dovecot.start()
        super().start()

    def answers(self) -> bool:
        for port in (self.smtp_port, self.submission_port):
            with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
                client.ehlo()
        return True

    def stop(self) -> None:
        super().stop()
        self._dovecot.stop()

    def remove(self) -> None:
        super().remove()
        self._tokens.close()

    def accept_token(self, token: str, username: str = USERNAME) -> None:
        self._tokens.tokens[token] = username

    def refuse_token(self, token: str) -> None:
        self._tokens.tokens.pop(token, None)

    def received(self) -> list[EmailMessage]:
        """What lies in the mailbox now; the header X-Original-To names the recipient."""
        found = []
        for path in sorted(self.mailbox.glob("new/*")):
            message = message_from_bytes(path.read_bytes(), policy=policy.default)
            assert isinstance(message, EmailMessage)
            found.append(message)
        return found

    def wait_for(self, count: int, seconds: float = 20.0) -> list[EmailMessage]:
        """Postfix accepts first and delivers a moment later."""
        self._wait(lambda: len(self.received()) >= count, seconds)
        return self.received()

    def wait_until_delivered(self) -> None:
        """Lets arrive what is still on its way."""
        queues = [self.folder / "queue" / name for name in ("maildrop", "incoming", "active")]
        self._wait(lambda: not any(one.is_file() for queue in queues for one in queue.rglob("*")), 10)

    def empty(self) -> None:
        """Forgets what has arrived, and lets arrive what is still on its way first."""
        self.wait_until_delivered()
        shutil.rmtree(self.mailbox, ignore_errors=True)

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        ends = time.monotonic() + seconds
        while not condition() and time.monotonic() < ends:
            time.sleep(0.05)


def _daemons() -> str:
    return _folder("/usr/lib/postfix/sbin", "/usr/libexec/postfix")


def _certificate() -> tuple[bytes, bytes]:
    """(key, certificate) for localhost, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


def _folder(*names: str) -> str:
    return next((name for name in names if Path(name).is_dir()), names[-1])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
