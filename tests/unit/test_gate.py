"""Where the test button may knock."""

from __future__ import annotations

import ipaddress

import pytest

from flask_outmail.diagnosis.gate import Gate
from flask_outmail.errors import ConfigurationError

ANY = "0.0.0.0"  # noqa: S104 -- nothing is bound to it
ALL = [ipaddress.ip_network(one) for one in ("0.0.0.0/0", "::/0")]


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "52.98.1.1"])
def test_public_addresses_may_be_tested(address: str) -> None:
    assert Gate().choose("mail.example.com", 25, [address]) == address


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.1", "100.64.0.1", ANY, "::1", "fc00::1", "fe80::1%eth0",
        "169.254.169.254", "::ffff:10.0.0.1", "2002:0a00:0001::1", "224.0.0.1", "fd00:ec2::254", "168.63.129.16",
        "junk", "255.255.255.255", "::ffff:169.254.169.254", "64:ff9b::a00:1", "64:ff9b::7f00:1", "::127.0.0.1",
    ],
)  # fmt: skip
def test_private_addresses_may_not_in_whatever_dress(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Gate().choose("mail.example.com", 25, [address])
    assert caught.value.code == "address_not_allowed"
    assert address not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "fd00:ec2::254", "168.63.129.16", ANY, "64:ff9b::a9fe:a9fe"]
)
def test_link_local_and_metadata_addresses_may_never(address: str) -> None:
    assert not Gate(ALL).allows(address)


def test_a_network_that_is_allowed_may_be_reached() -> None:
    gate = Gate([ipaddress.ip_network("10.0.0.0/8")])
    assert gate.choose("relay", 25, ["192.168.1.1", "10.2.3.4"]) == "10.2.3.4"
    assert gate.pins == {"relay": "10.2.3.4"}


def test_a_trusted_host_is_looked_up_as_always_at_its_own_port_and_no_other() -> None:
    gate = Gate(trusted={("relay", 587)})
    assert gate.choose("Relay", 587, ["10.2.3.4"]) == ""
    with pytest.raises(ConfigurationError):
        gate.choose("relay", 6379, ["10.2.3.4"])
