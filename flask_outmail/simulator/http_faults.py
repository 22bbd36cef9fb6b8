"""How a `Fault` shows on an HTTP answer."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response

from flask_outmail.simulator.fault import Fault
from flask_outmail.simulator.state import State
from flask_outmail.simulator.webserver import DropConnection


def apply_fault(
    state: State, fault: Fault, refuse: Callable[[Fault], Response], obey: Callable[[], Response]
) -> Response:
    """The answer that the fault wants; `obey` does the request's work, `refuse` writes an error the
    endpoint's way.

    A request that is to be obeyed and is itself refused keeps its own refusal.

    Raises:
        DropConnection: the fault wants no answer.
    """
    if not state.wait(fault.delay_s):
        # The simulator was cleared meanwhile: what one test left behind must not reach into the next.
        raise DropConnection
    ordinary = obey() if fault.happens or not fault.answers else None
    if ordinary is not None and ordinary.status_code >= 400:
        return ordinary
    if fault.drop:
        raise DropConnection
    if ordinary is not None and not fault.answers:
        response = ordinary
    elif fault.body is not None:
        response = Response(fault.body, status=fault.status or 200, content_type=fault.content_type)
    else:
        response = refuse(fault)
    for name, value in fault.all_headers().items():
        response.headers[name] = value
    return response
