"""Names, connections and certificates: what can go wrong before the first word is spoken."""

from __future__ import annotations

from .catalogue import Entry, entry

NETWORK: tuple[Entry, ...] = (
    entry(
        "address_not_allowed",
        title="This server is in a private network",
        meaning="The test button must not become a way to look round inside, so it connects to public addresses only.",
        steps=(
            "Check the host: the public name of the mail server may be meant.",
            "If the mail server really is inside, add its network to `OUTMAIL_TEST_NETWORKS`, such as `10.0.0.0/8`.",
            "Saving without a test is possible too; `flask outmail test` then proves it on the server.",
        ),
        who="developer",
    ),
    entry(
        "dns_not_found",
        detail=r"\b(microsoft(online|graph)?|office365?|outlook|chinacloudapi)\.[a-z]",
        title="One of Microsoft's servers was not found",
        meaning="The domain name system knows no address for a name of Microsoft's, so the cloud may be another one.",
        steps=(
            "Check the cloud of the authentication object: those of the US government and of China have hosts of their"
            " own.",
            "With a cloud from `OUTMAIL_CLOUDS`, or a host that was typed in, compare its names with Microsoft's"
            " instructions, letter by letter.",
            "On the machine of this application, try `nslookup HOST`; if it finds none of Microsoft's names, ask those"
            " who run the network.",
        ),
        who="you",
    ),
    entry(
        "dns_not_found",
        title="There is no server with this name",
        meaning="The domain name system knows no address for the host that was entered.",
        steps=(
            "Compare the host with the provider's instructions, letter by letter.",
            "If it is a name inside your own network, ask whether the machine of this application uses your"
            " network's name servers.",
            "On that machine, try `nslookup HOST`.",
        ),
        who="you",
    ),
    entry(
        "dns_no_answer",
        title="The name servers do not answer",
        meaning="The machine of this application could not ask for the host's address.",
        steps=(
            "Test again in a minute; this often passes by itself.",
            "On the machine of this application, try `nslookup HOST`, and compare with another name.",
            "If no name is found at all, have the machine's name servers checked.",
        ),
        who="network",
    ),
    entry(
        "port_closed",
        title="Nothing listens at this host and port",
        meaning="The host was reached, and it refused the connection to this port.",
        steps=(
            "Check the port: 587 is usual with STARTTLS, 465 with TLS from the start, 25 between mail servers.",
            "Check the host: the web server of a domain is often not its mail server.",
            "If both are right, ask whether the mail server is running and whether a firewall turns you away.",
        ),
        who="you",
    ),
    entry(
        "no_answer",
        title="The server does not answer",
        meaning="No answer came in time, which is how most firewalls look from inside.",
        steps=(
            "Ask the people who run your network to let the machine of this application reach the host at its port.",
            "Many hosting providers block port 25 outwards; use 587 where the mail server offers it.",
            "If the network is known to be slow, raise `OUTMAIL_CONNECT_TIMEOUT_SECONDS`.",
        ),
        who="network",
    ),
    entry(
        "unreachable",
        title="There is no way to this server from here",
        meaning="The network could not carry a connection from this machine to the host.",
        steps=(
            "Check that the machine of this application has a way to the internet, or to the network of the host.",
            "If the host has an IPv6 address, check that IPv6 works on this machine, or switch it off.",
            "Look for a firewall or a proxy rule between the two.",
        ),
        who="network",
    ),
    entry(
        "connection_lost",
        title="The server hung up",
        meaning="The server closed the connection in the middle of the conversation, before it had a message.",
        steps=(
            "Try again; a single lost connection is normal.",
            "If it happens every time, check that port and TLS fit together: 587 with STARTTLS, 465 with TLS from"
            " the start.",
            "Ask whoever runs the mail server what its log says about this machine's address.",
        ),
        who="mail_admin",
    ),
    entry(
        "connections_busy",
        title="All connections to the mail server are in use",
        meaning="This process has as many open as it may, and none became free in time; nothing was sent.",
        steps=(
            "Nothing needs to be changed if it happens rarely; the next attempt comes by itself.",
            "If it happens often, raise `OUTMAIL_SMTP_CONNECTIONS` to what the server allows, or send by the outbox.",
        ),
        who="developer",
    ),
    entry(
        "answer_lost",
        title="The answer was lost on the way",
        meaning="The message had left when the connection broke, so it may or may not have been accepted.",
        steps=(
            "Look in Sent Items of the sending mailbox, or ask the recipient.",
            "If it did not arrive, send it again; if you cannot tell, be aware that it may arrive twice.",
            "If this happens often, ask the people who run your network about connections that are cut while idle"
            " or while large messages pass.",
        ),
        who="you",
    ),
    entry(
        "no_greeting",
        title="Connected, but the server says nothing",
        meaning="A mail server greets first, and this one waits, as a port does that begins with TLS.",
        steps=(
            "At port 465, choose TLS from the start.",
            "At port 587 or 25, choose STARTTLS; if that is already so, a firewall or a virus scanner between the"
            " two may hold the greeting back.",
            "Check that the port belongs to a mail server.",
        ),
        who="you",
    ),
    entry(
        "not_smtp",
        title="What answers here is not a mail server",
        meaning="The answer does not follow the SMTP protocol, so another service is at this port.",
        steps=(
            "Check host and port with the provider's instructions.",
            "At port 465, choose TLS from the start: before it, such a server sends nothing readable.",
            "If both are right, ask the people who run your network whether something between the two answers in"
            " the server's place.",
        ),
        who="you",
    ),
    entry(
        "starttls_missing",
        title="The server offers no STARTTLS",
        meaning="The connection cannot be secured in the way that was chosen, so nothing was sent in the clear.",
        steps=(
            "Try port 587; many servers offer STARTTLS only there.",
            "If the server uses port 465, choose TLS from the start.",
            "If it is Microsoft 365 or another server that certainly offers STARTTLS, something between the two"
            " removes the offer: ask the people who run your network.",
        ),
        who="you",
    ),
    entry(
        "tls_wrong_kind",
        title="This port speaks the other kind of TLS",
        meaning="TLS was tried from the start, and the server began in the clear.",
        steps=(
            "Use STARTTLS at port 587 (and at 25).",
            "Use TLS from the start only at port 465.",
        ),
        who="you",
    ),
    entry(
        "tls_expired",
        title="The server's certificate has expired",
        meaning="The date until which the server's certificate counts has passed, so it proves nothing any more.",
        steps=(
            "Check the clock of the machine that runs this application.",
            "Ask whoever runs the mail server to renew the certificate.",
            "If it is a large provider, a firewall that inspects TLS may show a certificate of its own: ask the"
            " people who run your network.",
        ),
        who="mail_admin",
    ),
    entry(
        "tls_not_yet_valid",
        title="The server's certificate is not valid yet",
        meaning="Its first day lies ahead of this machine's clock, and nearly always the clock is wrong.",
        steps=(
            "Set the clock of the machine that runs this application, best by NTP.",
            "If the clock is right, ask whoever runs the mail server about the certificate.",
        ),
        who="developer",
    ),
    entry(
        "tls_wrong_name",
        title="The server's certificate is for another name",
        meaning="The server proved to be somebody, but not the host that was entered.",
        steps=(
            "Enter the host by the name on its certificate, not by an address and not by an alias of your own.",
            "If you do not know that name, ask whoever runs the mail server.",
            "If it is a large provider, a firewall may answer in its place: ask the people who run your network.",
        ),
        who="you",
    ),
    entry(
        "tls_untrusted",
        title="The server's certificate comes from nobody this machine trusts",
        meaning="It was signed by the server itself, or by an authority that is not installed here.",
        steps=(
            "If it is your organisation's own authority, save its certificate as a PEM file and name that file in"
            " `OUTMAIL_CA_FILE`.",
            "Ask whoever runs the mail server whether it sends its intermediate certificates too.",
            "If it is a large provider, a firewall inspects TLS here; the file of that firewall's authority belongs"
            " in `OUTMAIL_CA_FILE`.",
        ),
        who="developer",
    ),
    entry(
        "tls_failed",
        title="No secure connection could be agreed",
        meaning="The two sides found no common way to encrypt, or the connection was disturbed while they did.",
        steps=(
            "Check that port and TLS fit together: 587 with STARTTLS, 465 with TLS from the start.",
            "Ask whoever runs the mail server whether it speaks TLS 1.2 or newer; nothing older is used here.",
            "Ask the people who run your network whether a device between the two inspects TLS.",
        ),
        who="mail_admin",
    ),
)
