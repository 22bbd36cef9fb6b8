"""Where a test that somebody starts on a page may connect to.

A test button knocks on whatever door is typed into the form, from inside the network. So a host that is typed is
looked up once, its addresses are judged, and the test speaks to the address that was judged and to no other
(otherwise a second look-up could give another one). A host and port that configuration names are trusted: whoever wrote
it had the right to. What carries mail already is not: whoever runs the name server of that host can point it inside.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ..errors import ConfigurationError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Where clouds keep the credentials of a machine (AWS over IPv6, and what others use within the private ranges).
_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("168.63.129.16")})

#: Networks whose addresses end with an IPv4 address that is meant: NAT64 (RFC 6052 2.1), and the old "compatible" form.
_HOLDS_IPV4 = tuple(ipaddress.ip_network(one) for one in ("64:ff9b::/96", "::/96"))


@dataclass
class Gate:
    """Judges addresses. `networks` may be reached although they are private; `trusted` are the hosts, each with its
    port, that anybody may test: the other ports of a machine are not what it was named for.

    `pins` are the addresses chosen so far, by host.
    """

    networks: Sequence[Network] = ()
    trusted: Collection[tuple[str, int]] = ()
    pins: dict[str, str] = field(default_factory=dict)

    def choose(self, host: str, port: int, addresses: Sequence[str]) -> str:
        """The first of a host's addresses that may be connected to; remembered in `pins`.

        Raises:
            ConfigurationError: none may. The message names no address: what a name means inside is not for all.
        """
        if (host.lower(), port) in self.trusted:
            self.pins[host.lower()] = ""
            return ""
        for one in addresses:
            if self.allows(one):
                self.pins[host.lower()] = one
                return one
        raise ConfigurationError(
            f"{host} is inside a private network, where a test may not connect", code="address_not_allowed"
        )

    def allows(self, text: str) -> bool:
        try:
            address = _plain(ipaddress.ip_address(text.partition("%")[0]))
        except ValueError:
            return False
        if address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA:
            return False  # never, whatever is allowed
        return address.is_global or any(address in network for network in self.networks)


def _plain(address: Address) -> Address:
    """What an IPv6 address that only wraps an IPv4 address really means."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if wrapped is None and any(address in network for network in _HOLDS_IPV4) and int(address) > 1:
            wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return wrapped or address
    return address
