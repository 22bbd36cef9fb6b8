"""Transports by themselves, without an application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from flask_outmail import services
from flask_outmail.settings import Settings
from flask_outmail.setup_values import setup_from_mapping
from flask_outmail.simulator import Simulator
from flask_outmail.transports.graph import GraphTransport

from ..conftest import graph_setup, world

MakeTransport = Callable[..., GraphTransport]


@pytest.fixture
def make_transport(simulator: Simulator) -> Iterator[MakeTransport]:
    """`make(setup changes, graph=…)`: a transport that waits briefly between its steps."""
    made: list[GraphTransport] = []

    def make(graph: dict[str, Any] | None = None, **changes: Any) -> GraphTransport:
        environment = services.Environment.of(Settings.from_config(world(simulator)))
        values = setup_from_mapping(graph_setup(simulator, **changes), "test")
        transport = services.Microsoft365Graph().transport(values, environment)
        assert isinstance(transport, GraphTransport)
        fast: dict[str, Any] = {"retry_wait_s": 0.002, "settle_s": 0.3, **(graph or {})}
        made.append(GraphTransport(replace(transport.settings, **fast)))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture
def transport(make_transport: MakeTransport) -> GraphTransport:
    return make_transport()
