"""For the tests of applications: a pytest plugin with three fixtures. Installed with the package; nothing to import.

`outbox` fills with every message the application sends while a test runs, suppressed ones too.
`simulator` is a running local Microsoft 365 and SMTP server, empty at the start of each test.
`outmail_config` is configuration that points an application at it, over Graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .simulator import Simulator
    from .testing_outbox import Outbox

# So that a failed question of the contract suite shows its values.
pytest.register_assert_rewrite("flask_outmail.testing_contract")


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    """What the application sent, as a list with questions: `outbox.one(subject="Welcome", to="ann@example.com")`."""
    # Imported late: pytest loads this file in every project of an environment that has the package.
    from .testing_outbox import recording

    with recording() as messages:
        yield messages


@pytest.fixture(scope="session")
def _running_simulator() -> Iterator[Simulator]:
    from .simulator import Simulator

    with Simulator() as running:
        yield running


@pytest.fixture
def simulator(_running_simulator: Simulator) -> Iterator[Simulator]:
    """A local Microsoft 365: `simulator.delivered` holds every copy that was really delivered."""
    from .transports import graph_lane

    _running_simulator.clear()
    # A pause that the last test's server asked for is not this one's.
    graph_lane.forget_pauses()
    yield _running_simulator
    _running_simulator.clear()


@pytest.fixture
def outmail_config(simulator: Simulator) -> dict[str, Any]:
    """`app.config.update(outmail_config)`: the application then sends over Graph into the simulator."""
    return {
        "OUTMAIL_CLOUDS": {"simulator": simulator.cloud},
        "OUTMAIL_CA_FILE": str(simulator.ca_file),
        "OUTMAIL_SETUP": {
            "service": "microsoft365_graph",
            "tenant": simulator.tenant,
            "client_id": simulator.client_id,
            "client_secret": simulator.client_secret,
            "cloud": "simulator",
            "username": simulator.mailbox,
            "from_address": simulator.mailbox,
        },
        # Tests set TESTING, which suppresses sending; here it is wanted, and goes no further than this machine.
        "MAIL_SUPPRESS_SEND": False,
    }
