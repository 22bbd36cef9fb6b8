"""The simulator over HTTP and JSON, below /api/, for tests that run in another process."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, abort, jsonify, request

from flask_outmail.simulator.fault import Fault
from flask_outmail.simulator.mail import DeliveredMail

if TYPE_CHECKING:
    from flask_outmail.simulator.server import Simulator


def blueprint(sim: Simulator) -> Blueprint:
    api = Blueprint("api", __name__, url_prefix="/api")

    @api.errorhandler(ValueError)
    def refuse(error: ValueError) -> tuple[Response, int]:
        return jsonify(error=str(error)), 400

    @api.get("/delivered")
    def delivered() -> Response:
        """Oldest first; with ?recipient= only that person's, with ?raw=1 the bytes (base64) as well."""
        recipient = request.args.get("recipient", "").lower()
        found = [item for item in sim.delivered if recipient in ("", item.recipient)]
        return jsonify([_mail_json(item, raw="raw" in request.args) for item in found])

    @api.delete("/delivered")
    def forget() -> Response:
        sim.state.forget_mail()
        return Response(status=204)

    @api.get("/answers")
    def answers() -> Response:
        return jsonify(
            [
                {
                    "method": item.method,
                    "path": item.path,
                    "status": item.status,
                    "code": item.code,
                    "at": item.at.isoformat(),
                    "request_id": item.request_id,
                }
                for item in sim.answers
            ]
        )

    @api.get("/faults")
    def faults() -> Response:
        return jsonify([fault.to_json() for fault in sim.faults.active()])

    @api.post("/faults")
    def add_fault() -> tuple[Response, int]:
        """The fields of a `Fault`, or {"preset": name} with any fields to change."""
        values = _json_object()
        preset = values.pop("preset", None)
        if preset is None:
            fault = sim.faults.add(Fault.from_json(values))
        else:
            # Read once with the preset's own endpoint, so that names and kinds are checked before they are
            # used.
            Fault.from_json({"endpoint": "token", **values})
            fault = sim.faults.preset(str(preset), **values)
        return jsonify(fault.to_json()), 201

    @api.delete("/faults")
    def clear_faults() -> Response:
        sim.faults.clear()
        return Response(status=204)

    @api.get("/behaviour")
    def behaviour() -> Response:
        return jsonify({name: value for name, value, _, _ in sim.behaviour.describe()})

    @api.post("/behaviour")
    def change_behaviour() -> Response:
        sim.behaviour.update(_json_object())
        return behaviour()

    @api.get("/identities")
    def identities() -> Response:
        return jsonify(
            tenant=sim.tenant,
            client_id=sim.client_id,
            client_secret=sim.client_secret,
            secret_id=sim.secret_id,
            mailbox=sim.mailbox,
            smtp_password=sim.smtp_password,
            smtps_port=sim.smtps_port,
            ca_file=str(sim.ca_file),
            cloud=sim.cloud,
        )

    @api.post("/certificates")
    def upload_certificate() -> Response:
        """{"pem": …} and perhaps {"client_id": …}: a certificate's public part, registered with the application."""
        values = _json_object()
        sim.upload_certificate(str(values.get("pem", "")), str(values.get("client_id", "")))
        return Response(status=204)

    @api.post("/clear")
    def clear() -> Response:
        """Mail, answers, faults and behaviour."""
        sim.clear()
        return Response(status=204)

    @api.post("/deliver-pending")
    def deliver_pending() -> Response:
        return jsonify(count=sim.deliver_pending())

    @api.post("/expire-tokens")
    def expire_tokens() -> Response:
        sim.expire_tokens()
        return Response(status=204)

    @api.post("/drop-smtp-connections")
    def drop_smtp_connections() -> Response:
        return jsonify(count=sim.drop_smtp_connections())

    return api


def _json_object() -> dict[str, Any]:
    values = request.get_json(silent=True)
    if not isinstance(values, dict):
        abort(400, "A JSON object is expected.")
    return values


def _mail_json(item: DeliveredMail, *, raw: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": item.id,
        "recipient": item.recipient,
        "mail_from": item.mail_from,
        "envelope_from": item.envelope_from,
        "via": item.via,
        "received_at": item.received_at.isoformat(),
        "message_id": item.message_id,
        "client": item.client,
        "had_bcc_header": item.had_bcc_header,
        "subject": item.subject,
        "text": item.text,
        "html": item.html,
        "attachments": [
            {
                "filename": part.filename,
                "content_type": part.content_type,
                "size_bytes": len(part.content),
                "content_id": part.content_id,
                "inline": part.inline,
            }
            for part in item.attachments
        ],
    }
    if raw:
        values["raw"] = base64.b64encode(item.raw).decode()
    return values
