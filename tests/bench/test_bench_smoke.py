"""The measurements can be run, and what they count with counts rightly. How fast anything is, is not judged here."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import chart, table
from bench.measuring import Result
from bench.processes import SinkProcess, SlowLine

ROOT = Path(__file__).parent.parent.parent
MESSAGE = b"Subject: dots\r\n\r\n..begins with a dot\r\nends\r\n"


@pytest.fixture
def sink() -> Iterator[SinkProcess]:
    with SinkProcess(chunking=True) as process:
        yield process


def talk(port: int, *writes: bytes) -> bytes:
    """What a server answers to all this, up to its end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        for one in writes:
            sock.sendall(one)
        answer = b""
        while piece := sock.recv(65_536):
            answer += piece
    return answer


def codes(answer: bytes) -> list[int]:
    return [int(line[:3]) for line in answer.splitlines() if line[3:4] == b" "]


ENVELOPE = b"MAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\n"


def test_the_command_prints_a_table() -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--only", "building"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    assert "| workload | goal | reached | verdict |" in done.stdout
    assert "| build + serialise, small text + HTML | ≥ 45 × Flask-Mail |" in done.stdout
    assert "building 1/1 Flask-Outmail" in done.stderr


def test_the_sink_counts_pipelined_messages(sink: SinkProcess) -> None:
    group = ENVELOPE + b"DATA\r\n"
    answer = talk(sink.port, b"EHLO x\r\n" + group, MESSAGE + b".\r\n" + group + MESSAGE + b".\r\nQUIT\r\n")

    assert codes(answer) == [220, 250, 250, 250, 354, 250, 250, 250, 354, 250, 221]
    counts = sink.counts()
    assert (counts["messages"], counts["recipients"], counts["content_bytes"]) == (2, 2, 2 * len(MESSAGE))


def test_the_sink_counts_an_empty_message_and_one_larger_than_it_keeps(sink: SinkProcess) -> None:
    large = b"x" * 76 + b"\r\n"
    large *= 30_000
    talk(sink.port, ENVELOPE + b"DATA\r\n", b".\r\n" + ENVELOPE + b"DATA\r\n", large + b".\r\nQUIT\r\n")

    counts = sink.counts()
    assert (counts["messages"], counts["content_bytes"]) == (2, len(large))


def test_the_sink_counts_chunks(sink: SinkProcess) -> None:
    answer = talk(sink.port, ENVELOPE + b"BDAT 4\r\n.\r\n.BDAT 3 LAST\r\nabc" + b"QUIT\r\n")

    assert codes(answer) == [220, 250, 250, 250, 250, 221]
    counts = sink.counts()
    assert (counts["messages"], counts["chunked"], counts["content_bytes"]) == (1, 1, 7)


def test_the_sink_counts_nothing_that_was_not_allowed(sink: SinkProcess) -> None:
    answer = talk(sink.port, b"DATA\r\nMAIL FROM:<a@x.example>\r\nDATA\r\nWHAT\r\nQUIT\r\n")

    assert codes(answer) == [220, 503, 250, 503, 502, 221]
    assert sink.counts()["messages"] == 0


def test_a_slow_line_carries_everything_both_ways(sink: SinkProcess) -> None:
    with SlowLine(sink.port, round_trip_ms=2) as line:
        answer = talk(line.port, b"EHLO x\r\n" + ENVELOPE + b"DATA\r\n" + MESSAGE * 5000 + b".\r\nQUIT\r\n")

    assert codes(answer) == [220, 250, 250, 250, 354, 250, 221]
    assert sink.counts()["content_bytes"] == len(MESSAGE) * 5000


def test_a_ratio_is_the_others_time_divided_by_ours() -> None:
    verdict = table.faster("what", Result("ours", [2.0, 1.0, 9.0]), Result("Flask-Mail", [8.0, 9.0, 8.5]), 4)

    assert (verdict.reached, verdict.met) == ("4.2 ×", True)
    assert table.faster("what", Result("ours", [2.0]), Result("Flask-Mail", [7.9]), 4).word == "**missed**"


def test_who_is_not_there_is_said() -> None:
    missing = Result("Flask-Mail", reason="not there: No module named 'flask_mail'")
    verdict = table.faster("what", Result("ours", [2.0]), missing, 4)

    assert (verdict.word, verdict.reached) == ("not measured", missing.reason)


def test_the_report_takes_the_place_of_the_one_before() -> None:
    page = f"# Speed\n\n{table.BEGIN}\nold\n{table.END}\nend\n"

    assert table.written(page, f"{table.BEGIN}\nnew\n{table.END}") == page.replace("old", "new")
    with pytest.raises(ValueError, match="bench:begin"):
        table.written("# Speed\n", "new")


def test_the_picture_is_xml_with_a_bar_for_each_ratio() -> None:
    verdicts = [table.faster("a < b", Result("ours", [1.0]), Result("Flask-Mail", [8.0]), 4)]
    picture = ElementTree.fromstring(chart.draw(verdicts))  # noqa: S314 - made here

    assert [one.attrib["class"] for one in picture.iter("{http://www.w3.org/2000/svg}rect")] == ["bar"]
