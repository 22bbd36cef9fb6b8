"""What the domain of the From address tells the world: whether mail from it is believed, and where answers go.

Nothing here stops mail from being accepted, so what is missing is a warning. Read from DNS: MX (RFC 5321 5.1), SPF
(RFC 7208), DKIM (RFC 6376), DMARC (RFC 7489; the nearest record up the tree counts). Needs the extra `[dns]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, OutmailError, TransportUnavailable
from .remedies import remedy_for
from .steps import Check, Seen

if TYPE_CHECKING:
    import dns.resolver

#: RFC 7208 4.6.4: more terms that ask DNS make the whole record worthless.
SPF_LOOKUPS_MAX = 10
#: The names under which Exchange Online publishes the keys of its customers.
MICROSOFT_SELECTORS = ("selector1", "selector2")
#: What must be included for Exchange Online. The government's and China's names are not on a page we could confirm,
#: so any of them is taken.
MICROSOFT_SPF = (
    "spf.protection.outlook.com",
    "spf.protection.office365.us",
    "spf.protection.partner.outlook.cn",
)


@dataclass
class DomainCheck:
    """The checks for one domain. `spf_includes` are names of which the SPF record should include one, `selectors`
    the names of DKIM keys that should exist; both empty when nothing is known of the service. `nameservers` as
    "host" or "host:port"; empty for those of the system.
    """

    domain: str
    spf_includes: Sequence[str] = ()
    selectors: Sequence[str] = ()
    nameservers: Sequence[str] = ()
    timeout_s: float = 5.0
    _resolver: dns.resolver.Resolver | None = field(default=None, init=False)

    def checks(self) -> list[Check]:
        """MX, SPF, DKIM, DMARC, in this order.

        Raises (from the checks): `ConfigurationError` without the extra, or for a domain that does not exist;
        `TransportUnavailable` when DNS does not answer.
        """
        return [
            Check("mx", f"Answers to {self.domain} arrive (MX)", self._mx),
            Check("spf", "The server may send for it (SPF)", self._spf),
            Check("dkim", "Messages are signed (DKIM)", self._dkim),
            Check("dmarc", "What receivers do with forgeries (DMARC)", self._dmarc),
        ]

    # -- the checks --------------------------------------------------------------------------------------------------

    def _mx(self) -> Seen:
        hosts = sorted((one.preference, str(one.exchange).rstrip(".")) for one in self._ask(self.domain, "MX"))
        if not hosts:
            return _warn("no MX record", "mx_missing")
        if hosts[0][1] == "":
            return _warn("the MX record says that this domain takes no mail (RFC 7505)", "mx_null")
        return Seen(", ".join(host for _, host in hosts[:3]))

    def _spf(self) -> Seen:
        records = self._texts(self.domain, "v=spf1")
        if not records:
            return _warn("no SPF record", "spf_missing")
        if len(records) > 1:
            return _warn(f"{len(records)} SPF records", "spf_several")
        terms = records[0].lower().split()[1:]
        if {"all", "+all"} & set(terms):
            return _warn(records[0][:200], "spf_allows_all")
        names, lookups = set(), 0
        for kind, name in self._spf_terms(terms):
            lookups += 1
            names |= {name} if kind in ("include", "redirect") else set()
        if lookups > SPF_LOOKUPS_MAX:
            return _warn(f"more than {SPF_LOOKUPS_MAX} look-ups", "spf_too_many_lookups")
        if self.spf_includes and not names & set(self.spf_includes):
            return _warn(records[0][:200], "spf_without_service")
        return Seen(records[0][:200])

    def _spf_terms(self, terms: Sequence[str], depth: int = 0) -> Iterator[tuple[str, str]]:
        """(kind, name) of every term that asks DNS, those of included records too."""
        for term in terms:
            kind, _, value = term.lstrip("+-~?").replace("=", ":", 1).partition(":")
            name = value.rstrip(".")
            if kind.partition("/")[0] in ("a", "mx", "ptr", "exists", "include", "redirect"):
                yield kind, name
                # Macros (%{i}) depend on the message; their target cannot be read here. The depth ends a circle.
                if kind in ("include", "redirect") and name and "%" not in name and depth < SPF_LOOKUPS_MAX:
                    for record in self._texts(name, "v=spf1")[:1]:
                        yield from self._spf_terms(record.lower().split()[1:], depth + 1)

    def _dkim(self) -> Seen:
        if not self.selectors:
            return Seen("not checked: which key signs is not known here")
        found: list[str] = []
        revoked: list[str] = []
        for selector in self.selectors:
            for text in self._texts(f"{selector}._domainkey.{self.domain}", ""):
                tags = _tags(text)
                if "p" in tags:
                    (found if tags["p"] else revoked).append(selector)
        if found:
            return Seen(f"key published: {', '.join(dict.fromkeys(found))}")
        if revoked:
            return _warn(f"the key {revoked[0]} is withdrawn", "dkim_revoked")
        return _warn(f"no key under {' or '.join(self.selectors)}", "dkim_missing")

    def _dmarc(self) -> Seen:
        labels = self.domain.split(".")
        for start in range(len(labels) - 1):
            domain = ".".join(labels[start:])
            records = self._texts(f"_dmarc.{domain}", "v=dmarc1")
            if len(records) > 1:
                return _warn(f"{len(records)} DMARC records", "dmarc_several")
            if records:
                policy = _tags(records[0]).get("p", "").lower()
                where = "" if domain == self.domain else f" (from {domain})"
                if policy not in ("none", "quarantine", "reject"):
                    return _warn(records[0][:200], "dmarc_unreadable")
                if policy == "none":
                    told = "receivers report forgeries and deliver them"
                    return _warn(f"p=none (from {domain}): {told}" if where else f"p=none: {told}", "dmarc_none")
                return Seen(f"p={policy}{where}")
        return _warn("no DMARC record", "dmarc_missing")

    # -- DNS ---------------------------------------------------------------------------------------------------------

    def _texts(self, name: str, begins: str) -> list[str]:
        """The TXT records of a name that begin so, whatever their case; none when the name does not exist."""
        texts = [b"".join(one.strings).decode("utf-8", "replace") for one in self._ask(name, "TXT")]
        return [text for text in texts if text.strip().lower().startswith(begins)]

    def _ask(self, name: str, kind: str) -> list[Any]:
        resolver = self._ready()
        import dns.exception
        import dns.resolver

        try:
            return list(resolver.resolve(name, kind, search=False, lifetime=self.timeout_s))
        except dns.resolver.NoAnswer:
            return []
        except dns.resolver.NXDOMAIN:
            if name == self.domain:
                raise ConfigurationError(f"the domain {name} does not exist", code="domain_not_found") from None
            return []
        except (dns.exception.DNSException, OSError, ValueError) as exc:
            raise TransportUnavailable(
                f"DNS does not answer for {name}", code="dns_no_answer", detail=type(exc).__name__
            ) from None

    def _ready(self) -> dns.resolver.Resolver:
        if self._resolver is None:
            try:
                import dns.resolver
            except ImportError:
                raise ConfigurationError(
                    "the check of a domain needs `pip install flask-outmail[dns]`", code="extra_missing"
                ) from None
            resolver = dns.resolver.Resolver(configure=not self.nameservers)
            if self.nameservers:
                hosts = [one.rpartition(":") if one.count(":") == 1 else (one, "", "") for one in self.nameservers]
                resolver.nameservers = [
                    dns.nameserver.Do53Nameserver(host or port, int(port) if host and port else 53)
                    for host, _, port in hosts
                ]
            self._resolver = resolver
        return self._resolver


def _tags(text: str) -> dict[str, str]:
    """The `tag=value` list that DKIM and DMARC share."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): "".join(value.split()) for name, mark, value in pairs if mark}


def _warn(seen: str, code: str) -> Seen:
    return Seen(seen, remedy_for(OutmailError(seen, code=code)))
