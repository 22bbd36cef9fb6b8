"""The pages for people: mailboxes and their mail, the values to paste, and the form that makes things go wrong."""

from __future__ import annotations

import base64
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.wrappers import Response as BaseResponse

from flask_outmail.simulator import describe, mail, web_api, web_guard
from flask_outmail.simulator.fault import ENDPOINTS, Fault
from flask_outmail.simulator.mail import DeliveredMail
from flask_outmail.simulator.presets import PRESETS, Preset

if TYPE_CHECKING:
    from flask_outmail.simulator.server import Simulator

PAGE_LIMIT = 200
SOURCE_LIMIT_BYTES = 200_000
# Shown inside a mail's HTML as data: URIs; anything else can be downloaded.
IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml")
_CID = re.compile(r"cid:([^\"'\s>)]+)", re.IGNORECASE)


def make_web_app(sim: Simulator) -> Flask:
    """The pages and the JSON interface as one WSGI application."""
    app = Flask("flask_outmail.simulator", static_folder="static", template_folder="templates")
    web_guard.install(app)
    app.register_blueprint(_pages(sim))
    app.register_blueprint(web_api.blueprint(sim))
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(label=_label, entry=_entry)

    @app.context_processor
    def common() -> dict[str, Any]:
        return {"fault_count": len(sim.faults.active()), "mail_count": len(sim.delivered)}

    @app.errorhandler(HTTPException)
    def explain(error: HTTPException) -> tuple[str, int]:
        return render_template("error.html", error=error), error.code or 500

    return app


def _pages(sim: Simulator) -> Blueprint:
    pages = Blueprint("pages", __name__)

    @pages.get("/")
    def overview() -> str:
        """Newest first; ?mailbox= shows one person's only."""
        delivered = sim.delivered[::-1]
        chosen = request.args.get("mailbox", "").lower()
        counts = Counter(item.recipient for item in delivered)
        own = {mailbox.address for mailbox in sim.state.mailboxes() if mailbox.reachable}
        shown = [item for item in delivered if chosen in ("", item.recipient)]
        return render_template(
            "overview.html",
            boxes=sorted((address, counts[address]) for address in own | set(counts)),
            chosen=chosen,
            total=len(shown),
            mails=shown[:PAGE_LIMIT],
        )

    @pages.get("/mail/<int:number>")
    def show(number: int) -> str:
        item = _find(sim, number)
        source = item.raw[:SOURCE_LIMIT_BYTES].decode("utf-8", "replace")
        return render_template(
            "mail.html",
            mail=item,
            headers=[(name, mail.readable(value)) for name, value in item.parsed.items()],
            shown_headers={
                name: mail.readable(item.parsed[name]) for name in ("From", "To", "Cc") if item.parsed[name]
            },
            source=source,
            cut=len(item.raw) > SOURCE_LIMIT_BYTES,
        )

    @pages.get("/mail/<int:number>/html")
    def html(number: int) -> Response:
        """The mail's HTML as a document of its own, for the frame: the page's strict policy would strip its styles."""
        item = _find(sim, number)
        content = f'<!doctype html><base target="_blank">{_with_images(item)}'
        response = make_response(content)
        response.headers["Content-Security-Policy"] = web_guard.MAIL_POLICY
        return response

    @pages.get("/mail/<int:number>/attachments/<int:position>")
    def attachment(number: int, position: int) -> Response:
        attachments = _find(sim, number).attachments
        if not 0 <= position < len(attachments):
            abort(404)
        return _download(attachments[position].content, attachments[position].filename)

    @pages.get("/mail/<int:number>/source")
    def source(number: int) -> Response:
        return _download(_find(sim, number).raw, f"mail-{number}.eml")

    @pages.get("/values")
    def values() -> str:
        return render_template(
            "values.html", groups=describe.values(sim), configuration=describe.configuration(sim), sim=sim
        )

    @pages.post("/values/certificate")
    def upload_certificate() -> BaseResponse:
        """What "Upload certificate" does in Entra."""
        upload = request.files.get("certificate")
        try:
            sim.upload_certificate(upload.read(100_000) if upload else b"", request.form.get("client_id", ""))
        except ValueError as error:
            abort(400, f"This is no certificate that can be uploaded: {error}")
        return redirect(url_for(".values") + "#certificates", 303)

    @pages.get("/answers")
    def answers() -> str:
        return render_template("answers.html", answers=sim.answers[::-1][:PAGE_LIMIT], total=len(sim.answers))

    @pages.get("/misbehave")
    def misbehave() -> str:
        return _misbehave_page()

    @pages.post("/misbehave")
    def add_fault() -> BaseResponse | tuple[str, int]:
        form = request.form
        try:
            fields: dict[str, Any] = {"times": _times(form.get("times", "1"))}
            for name in ("mailbox", "recipient"):
                if form.get(name, "").strip():
                    fields[name] = form[name].strip()
            if form.get("preset"):
                sim.faults.preset(form["preset"], **fields)
            else:
                sim.faults.add(_own_fault(fields))
        except ValueError as error:
            return _misbehave_page(problem=str(error)), 400
        return redirect(url_for(".misbehave"), 303)

    @pages.post("/behave")
    def clear_faults() -> BaseResponse:
        sim.faults.clear()
        return redirect(url_for(".misbehave"), 303)

    @pages.post("/behaviour")
    def behaviour() -> BaseResponse | tuple[str, int]:
        try:
            sim.behaviour.update(request.form.to_dict())
        except ValueError as error:
            return _misbehave_page(problem=str(error)), 400
        return redirect(url_for(".misbehave") + "#standing", 303)

    @pages.post("/behaviour/reset")
    def reset_behaviour() -> BaseResponse:
        sim.behaviour.reset()
        return redirect(url_for(".misbehave") + "#standing", 303)

    @pages.post("/empty")
    def empty() -> BaseResponse:
        sim.state.forget_mail()
        return redirect(url_for(".overview"), 303)

    def _misbehave_page(problem: str = "") -> str:
        groups: dict[str, list[Preset]] = {}
        for preset in PRESETS.values():
            groups.setdefault(preset.group, []).append(preset)
        return render_template(
            "misbehave.html",
            groups=groups,
            active=sim.faults.active(),
            behaviour=sim.behaviour.describe(),
            endpoints=ENDPOINTS,
            problem=problem,
        )

    return pages


def _find(sim: Simulator, number: int) -> DeliveredMail:
    for item in sim.delivered:
        if item.id == number:
            return item
    raise NotFound("This mail is not there (any more).")


def _with_images(item: DeliveredMail) -> str:
    images = {
        part.content_id: f"data:{part.content_type};base64,{base64.b64encode(part.content).decode()}"
        for part in item.attachments
        if part.content_id and part.content_type in IMAGE_TYPES
    }
    return _CID.sub(lambda match: images.get(match[1], match[0]), item.html)


def _download(content: bytes, filename: str) -> Response:
    # Never shown in the page's own origin: a mail must not be able to bring a page along.
    response = Response(content, content_type="application/octet-stream")
    clean = re.sub(r"[\x00-\x1f\x7f/\\]", "_", filename) or "attachment"
    response.headers.set("Content-Disposition", "attachment", filename=clean)
    return response


def _label(name: str) -> str:
    """The name of a behaviour for people; its unit in brackets."""
    for unit in ("_s", "_bytes"):
        if name.endswith(unit):
            return f"{name.removesuffix(unit).replace('_', ' ')} ({unit[1:]})"
    return name.replace("_", " ")


def _entry(value: object) -> str:
    """A behaviour's value as a form field shows it."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _times(text: str) -> int | None:
    if text.strip() == "":
        return None
    if not text.strip().isdecimal():
        raise ValueError("How often is a number, or empty for ever")
    return int(text)


def _own_fault(fields: dict[str, Any]) -> Fault:
    form = request.form
    status = form.get("status", "").strip()
    if not status.isdecimal():
        raise ValueError("Choose a preset, or give a status")
    return Fault.from_json(
        {
            **fields,
            "endpoint": form.get("endpoint", ""),
            "status": int(status),
            "code": form.get("code", "").strip(),
            "message": form.get("message", "").strip(),
            "retry_after": form.get("retry_after", "").strip() or None,
            "happens": "happens" in form,
        }
    )
