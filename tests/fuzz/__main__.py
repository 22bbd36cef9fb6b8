"""`make fuzz`: the properties of any input (`tests/unit/test_*_properties.py`), put to inputs that atheris grows.

What reaches a new branch of ours is kept in `.fuzz/` and grown further, so that a run goes on where the last one ended.
A failure prints its example and ends the run; `python -m tests.fuzz TARGET FILE` repeats it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

KEPT = Path(__file__).parents[2] / ".fuzz"
MAX_INPUT_BYTES = 4096

#: Where growing begins: sound inputs. The first byte of each chooses the property, and where the input is cut.
SEEDS = {
    "headers": ['0Größe 表題 =?utf-8?q?x?= a@x.example; name="a"\r\n text/plain utf-8 ' * 8],
    "replies": [
        "0250-mail.example\r\n250-PIPELINING\r\n250-SIZE 35882577\r\n250-AUTH XOAUTH2 LOGIN\r\n250 SMTPUTF8\r\n",
        "1535-5.7.3 Authentication unsuccessful\r\n535 5.7.3 [x.example]\r\n",
        "2PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2U+",
    ],
    "graph": [
        '0{"error": {"code": "ErrorAccessDenied", "message": "no", "innerError": {"code": "x", "date": "y"}}}',
        '1{"error": "invalid_client", "error_description": "AADSTS7000215: no\\r\\n", "error_codes": [7000215]}',
        "2e30.eyJyb2xlcyI6IFsiTWFpbC5TZW5kIl19.x",
    ],
}


def headers(data: bytes) -> None:
    from ..unit import test_mime_properties as mime

    given = atheris.FuzzedDataProvider(data[1:])
    text = [given.ConsumeUnicodeNoSurrogates(given.ConsumeIntInRange(0, 300)) for _field in range(5)]
    if data[0] % 2:
        subject, name, body, filename, charset = text
        _ask(mime.test_whatever_is_written_is_sent_by_the_rules_or_refused_as_ours)(
            subject, name, body, filename, charset, given.ConsumeBytes(300)
        )
    else:
        _ask(mime.test_printing_an_unchecked_message_makes_no_header_of_a_line_break)(*text[:3])


def replies(data: bytes) -> None:
    from ..unit import test_answers_properties as answers

    kind, pieces = data[0] % 3, 1 + data[0] // 3 % 5
    if kind == 0:
        _ask(answers.test_any_bytes_are_a_reply_or_an_error_of_the_line)(data[1:], pieces)
    elif kind == 1:
        _ask(answers.test_any_ehlo_answer_is_a_list_of_features_or_an_error_of_the_line)([], data[1:])
    else:
        _ask(answers.test_any_challenge_of_cram_md5_is_answered_or_refused)(data[1:])


def graph(data: bytes) -> None:
    from ..unit import test_answers_properties as answers

    said, text = data[1:], data[1:].decode("utf-8", "replace")
    if data[0] % 3 == 0:
        _ask(answers.test_any_body_of_graph_is_an_object_or_as_good_as_none)(said)
        _ask(answers.test_any_error_of_graph_has_a_code_and_a_sentence_that_are_text)(_read(said).get("error"))
    elif data[0] % 3 == 1:
        _ask(answers.test_any_answer_of_entra_is_an_object_or_said_not_to_be_entras)(text)
        _ask(answers.test_any_refusal_of_entra_becomes_an_error_with_a_remedy)(_read(said))
    else:
        _ask(answers.test_any_token_is_read_or_left_unread)(text)


TARGETS = {one.__name__: one for one in (headers, replies, graph)}


def _ask(property_: Callable[..., None]) -> Callable[..., None]:
    """The test without the examples that hypothesis would draw for it."""
    inner: Callable[..., None] = property_.hypothesis.inner_test  # type: ignore[attr-defined]
    return inner


def _read(said: bytes) -> dict[str, object]:
    try:
        read = json.loads(said)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def fuzz(target: str, *arguments: str) -> None:
    """Never returns: libFuzzer ends the process."""
    with atheris.instrument_imports(include=["flask_outmail"], enable_loader_override=False):
        from ..unit import test_answers_properties, test_mime_properties  # noqa: F401 -- so that ours are instrumented

    atheris.Setup([target, *arguments], lambda data: TARGETS[target](data) if data else None)
    atheris.Fuzz()


def every(seconds: str) -> int:
    """Each target for so long, in a process of its own."""
    for target, seeds in SEEDS.items():
        kept = KEPT / target
        kept.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (kept / f"seed-{number}").write_text(seed, encoding="utf-8")
        limits = [f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}", "-len_control=0", "-timeout=60"]
        arguments = [str(kept), f"-artifact_prefix={KEPT}/{target}-", *limits, "-print_final_stats=1"]
        print(f"== {target}", flush=True)
        if code := subprocess.run([sys.executable, "-m", "tests.fuzz", target, *arguments], check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    if sys.argv[1] in TARGETS:
        fuzz(*sys.argv[1:])
    else:
        sys.exit(every(sys.argv[1]))
