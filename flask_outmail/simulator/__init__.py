"""A local Microsoft 365 for development and tests: Entra's token endpoint, Graph's mail endpoints, SMTP
submission and a page that shows what was delivered. It imports nothing else of this project, so that it cannot
share a mistake with the code it is there to test.

`with Simulator() as sim:` runs one. Send through `sim.cloud` with `sim.tenant`, `sim.client_id` and
`sim.client_secret`; `sim.wait_for(1)` gives what arrived.
"""

from flask_outmail.simulator.behaviour import Behaviour
from flask_outmail.simulator.command import main
from flask_outmail.simulator.fault import Fault
from flask_outmail.simulator.faults import Faults
from flask_outmail.simulator.mail import Attachment, DeliveredMail
from flask_outmail.simulator.presets import PRESETS
from flask_outmail.simulator.server import Simulator
from flask_outmail.simulator.state import Answer

__all__ = [
    "PRESETS",
    "Answer",
    "Attachment",
    "Behaviour",
    "DeliveredMail",
    "Fault",
    "Faults",
    "Simulator",
    "main",
]
