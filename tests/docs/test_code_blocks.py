"""What the documentation shows is what works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flask_outmail import services
from flask_outmail.simulator import Simulator

from ..conftest import MakeApp, graph_setup, make_message
from ..contract.test_fields import signer

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if "_build" not in page.parts and blocks(page)], ids=str)
def test_every_python_block_is_python(page: Path) -> None:
    for block in blocks(page):
        compile(block, str(page), "exec")


def test_the_mail_service_of_the_guide_sends(make_app: MakeApp) -> None:
    [block] = blocks(ROOT / "docs/how-to/write-a-mail-service.md")
    try:
        exec(compile(block, "guide", "exec"), {})  # noqa: S102 -- the documentation's own code
        _, mail = make_app({"service": "postbox", "host": "relay", "from_address": "shop@x.example"})
        assert mail.send(make_message()).transport == "postbox"
    finally:
        services._registry.pop("postbox", None)


def test_the_readmes_mail_is_accepted(make_app: MakeApp, simulator: Simulator) -> None:
    [block] = [block for block in blocks(ROOT / "README.md") if block.startswith("mail.send(subject=")]
    _, mail = make_app(graph_setup(simulator))
    names: dict[str, Any] = {"mail": mail}
    exec(compile(block, "README", "exec"), names)  # noqa: S102 -- the documentation's own code
    assert simulator.delivered[0].recipient == "ann@example.com"


def test_the_guide_to_messages_sends_each_of_them(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.csv").write_text("a;b\n")
    (tmp_path / "logo.png").write_bytes(b"\x89PNG")
    _, mail = make_app(graph_setup(simulator))
    names: dict[str, Any] = {"mail": mail}
    for block in blocks(ROOT / "docs/how-to/write-a-message.md"):
        exec(compile(block, "guide", "exec"), names)  # noqa: S102 -- the documentation's own code
    ann = [one for one in simulator.delivered if one.recipient == "ann@example.com"]
    assert [one.subject for one in ann] == [
        "Ihre Bestellung – 17 € ✓", "Your invoice", "Welcome", "Fitting", "News", "Re: Order 17"
    ]  # fmt: skip
    names["send_signed"]("Grüße", *signer())
    assert simulator.delivered[-1].parsed.get_content_type() == "multipart/signed"
    assert names["newsletter"].envelope_from == "bounces@shop.example"


def test_the_fixtures_of_the_guide_exist(outmail_config: dict[str, Any], simulator: Simulator) -> None:
    from flask import Flask

    from flask_outmail import Mail

    app = Flask("users")
    app.config.update(outmail_config, TESTING=True)
    mail = Mail(app)
    with app.app_context():
        mail.send(subject="Hi", recipients=["ann@example.com"], body="Thank you")
    [received] = simulator.wait_for(1)
    assert (received.recipient, "Thank you" in received.text) == ("ann@example.com", True)


def test_the_guides_check_of_a_signature_takes_ours_and_no_other() -> None:
    from datetime import datetime, timezone

    from flask_outmail.outbox.webhook import signature

    [block] = [one for one in blocks(ROOT / "docs/how-to/watch-it.md") if "def is_genuine" in one]
    names: dict[str, Any] = {}
    exec(compile(block, "guide", "exec"), names)  # noqa: S102 -- the documentation's own code
    is_genuine = names["is_genuine"]
    at = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
    header, now = signature("s3cret", b'{"id": "7"}', at), at.timestamp()
    assert is_genuine("s3cret", header, b'{"id": "7"}', now=now + 60)
    assert not is_genuine("s3cret", header, b'{"id": "8"}', now=now)
    assert not is_genuine("other", header, b'{"id": "7"}', now=now)
    assert not is_genuine("s3cret", header, b'{"id": "7"}', now=now + 3600), "an old one sent again"
    for wrong in ("", "t=x,v1=y", "v1=y", header.partition(",")[0]):
        assert not is_genuine("s3cret", wrong, b'{"id": "7"}', now=now)


def test_the_guides_list_of_a_notices_fields_is_whole() -> None:
    from datetime import datetime, timezone

    from flask_outmail.diagnosis.remedies import remedy_for
    from flask_outmail.errors import OutmailError
    from flask_outmail.outbox.notices import Notice

    at = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
    notice = Notice.test(remedy_for(OutmailError("", code="alert_test")), application="shop", at=at)
    page = (ROOT / "docs/how-to/watch-it.md").read_text()
    assert [name for name in notice.to_dict() if f"`{name}`" not in page and name != "version"] == []


def test_the_guide_to_proving_shows_each_step(
    make_app: MakeApp, simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = blocks(ROOT / "docs/how-to/prove-a-setup.md")
    _, mail = make_app(graph_setup(simulator))
    names: dict[str, Any] = {"mail": mail}
    exec(compile(block, "guide", "exec"), names)  # noqa: S102 -- the documentation's own code
    assert "may send as other mailboxes too" in capsys.readouterr().out
    assert names["said"]
