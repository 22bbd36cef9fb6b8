"""The retry policy is pure data: error, attempt, clock and dice in, decision out."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flask_outmail.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DeliveryUnknown,
    InvalidMessage,
    MessageRejected,
    OutmailError,
    RecipientsRefused,
    Refusal,
    SecretUnreadable,
    SenderRefused,
    Throttled,
    TransportUnavailable,
)
from flask_outmail.outbox import retry, verdicts
from flask_outmail.outbox.lanes import LaneState
from flask_outmail.outbox.retry import Decision, Policy, Try
from flask_outmail.outbox.roster import Watch
from flask_outmail.outbox.states import FAILED, FINAL, QUEUED, REFUSED, STATES, UNKNOWN, WAITING
from flask_outmail.outbox.verdicts import Verdict

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
POLICY = Policy(first_s=30, cap_s=3600, max_age_s=86400, max_attempts=5)
BUSY = MessageRejected("come again", code="451 4.7.1", retryable=True)


def decide(
    error: OutmailError, attempt: int = 1, *, policy: Policy = POLICY, age_s: float = 0, **tried: object
) -> Decision:
    of = Try(attempt, NOW - timedelta(seconds=age_s), **tried)  # type: ignore[arg-type]
    return retry.decide(error, of, policy, now=NOW, spread=1.0)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DeliveryUnknown("no answer"), UNKNOWN),
        (MessageRejected("too large"), REFUSED),
        (RecipientsRefused("no", recipients={"a@x.example": Refusal(550, "no")}), REFUSED),
        (SenderRefused("no", sender="a@x.example"), REFUSED),
        (InvalidMessage("half a character"), FAILED),
        (BUSY, WAITING),
        (TransportUnavailable("nobody there"), WAITING),
        (Throttled("slowly"), WAITING),
        (AuthenticationFailed("wrong"), QUEUED),
        (ConfigurationError("no host"), QUEUED),
    ],
)
def test_what_follows_from_each_kind_of_error(error: OutmailError, state: str) -> None:
    assert decide(error).state == state


def test_a_from_that_the_setup_gives_and_the_server_denies_waits_for_a_person() -> None:
    assert decide(SenderRefused("no", sender="a@x.example"), sender_is_setups=True).state == QUEUED


def test_what_is_unknown_is_repeated_only_where_that_was_chosen() -> None:
    assert decide(DeliveryUnknown("no answer"), policy=Policy(at_least_once=True)).state == WAITING


def test_waits_double_up_to_the_cap_and_are_spread() -> None:
    waits = [retry.delay_s(POLICY, attempt, spread=1.0) for attempt in (1, 2, 3, 4, 50, 5000)]
    assert waits == [30, 60, 120, 240, 3600, 3600]
    assert retry.delay_s(POLICY, 3, spread=0.0) == 60
    assert 60 < retry.delay_s(POLICY, 3, spread=0.5) < 120


def test_what_the_server_asks_for_is_honoured_beyond_the_cap() -> None:
    decision = decide(Throttled("slowly", retry_after_s=7200))
    assert decision.due_at == NOW + timedelta(seconds=7200)


@pytest.mark.parametrize("hint_s", [9999999999.0, 251606665579.5, 251606751919.0, float("inf"), float("nan")])
def test_an_absurd_wait_neither_ends_the_message_nor_stops_its_connection_for_ever(hint_s: float) -> None:
    policy = Policy()
    decision = retry.decide(Throttled("slowly", retry_after_s=hint_s), Try(1, NOW), policy, now=NOW, spread=0.0)
    assert decision.state == WAITING
    assert decision.due_at is not None and decision.due_at <= NOW + timedelta(days=1)
    assert retry.pause_s(Throttled("slowly", retry_after_s=hint_s), 0, policy, spread=0.0) <= 86400


def test_a_message_is_given_up_after_so_many_attempts_or_so_long() -> None:
    assert decide(BUSY, 4).state == WAITING
    assert decide(BUSY, 5).state == FAILED
    assert decide(BUSY, age_s=86400).state == FAILED
    assert decide(AuthenticationFailed("wrong"), age_s=86401).state == FAILED
    assert decide(TransportUnavailable("nobody"), 500).state == WAITING, (
        "a broken connection is not the message's fault"
    )


def test_a_message_that_could_only_leave_too_late_has_failed() -> None:
    assert decide(BUSY, not_after_at=NOW + timedelta(seconds=10)).state == FAILED
    assert decide(BUSY, not_after_at=NOW + timedelta(seconds=60)).state == WAITING


def test_the_last_moment_allowed_is_still_allowed() -> None:
    assert decide(BUSY, not_after_at=NOW + timedelta(seconds=30)).state == WAITING
    assert decide(BUSY, age_s=86400 - 30).state == WAITING
    assert decide(BUSY, age_s=86400 - 29).state == FAILED


def test_giving_up_says_why() -> None:
    assert decide(BUSY, 5).gave_up == "gave up after 5 attempts"
    assert decide(BUSY, 2, age_s=86400).gave_up == "gave up after 2 attempts"
    late = decide(BUSY, not_after_at=NOW + timedelta(seconds=10)).gave_up
    assert late == "it would have left after the moment it may not leave after"
    assert decide(BUSY).gave_up == ""


def test_a_message_that_cannot_be_read_says_nothing_of_its_connection() -> None:
    assert not retry.is_connections_fault(SecretUnreadable("another key"))
    assert retry.is_connections_fault(ConfigurationError("no host"))


def test_a_short_wait_that_a_server_asks_for_is_taken_as_it_is_said() -> None:
    assert retry.retry_after_s(Throttled("slowly", retry_after_s=0.5)) == 0.5
    assert retry.retry_after_s(Throttled("slowly", retry_after_s=-3)) == 0
    assert retry.retry_after_s(Throttled("slowly")) == 0
    assert retry.retry_after_s(InvalidMessage("it has no such thing")) == 0


def test_a_pause_without_a_word_of_how_long_is_the_first_wait_and_a_hint_lengthens_any() -> None:
    assert retry.pause_s(Throttled("slowly"), 1, POLICY, spread=1.0) == 30
    assert retry.pause_s(Throttled("slowly"), 4, POLICY, spread=0.0) == 15
    gone = TransportUnavailable("nobody there", retry_after_s=500)
    assert retry.pause_s(gone, 3, POLICY, spread=1.0) == 500
    assert retry.pause_s(AuthenticationFailed("wrong"), 6, POLICY, spread=1.0) == 960


def test_a_connection_pauses_after_faults_in_a_row_and_at_once_when_only_a_person_can_help() -> None:
    gone = TransportUnavailable("nobody there")
    pauses = [retry.pause_s(gone, count, POLICY, spread=1.0) for count in (1, 2, 3, 4, 5)]
    assert pauses == [0, 0, 30, 60, 120]
    assert retry.pause_s(AuthenticationFailed("wrong"), 1, POLICY, spread=0.0) == retry.MEND_PAUSE_S
    assert retry.pause_s(Throttled("slowly", retry_after_s=12), 0, POLICY, spread=0.0) == 12


def test_recipients_of_whom_some_are_busy_and_some_do_not_exist_are_told_apart() -> None:
    error = RecipientsRefused(
        "none", recipients={"full@x.example": Refusal(452, "full"), "gone@x.example": Refusal(550, "gone")}
    )
    verdict = verdicts.of_error(
        error, Try(1, NOW), POLICY, now=NOW, spread=1.0, elapsed_s=0.1, delivery_id=1, number=1, connection="primary"
    )
    assert (verdict.state, verdict.again) == (REFUSED, ("full@x.example",))
    assert verdict.due_at == NOW + timedelta(seconds=30)


def test_a_verdict_survives_its_way_through_a_file() -> None:
    verdict = Verdict(
        1, 2, WAITING, FAILED, refused={"a@x.example": (451, "later")}, due_at=NOW, again=("a@x.example",)
    )
    assert Verdict.from_dict(verdict.to_dict()) == verdict


def test_every_state_has_a_sentence() -> None:
    assert all(sentence.endswith(".") for sentence in STATES.values())
    assert set(STATES) >= FINAL


def test_a_pause_written_before_the_clock_was_set_back_does_not_last_an_hour_longer() -> None:
    paused = LaneState(paused_at=NOW, paused_until=NOW + timedelta(seconds=30))
    assert paused.is_paused(NOW + timedelta(seconds=29))
    assert not paused.is_paused(NOW + timedelta(seconds=30))
    assert not paused.is_paused(NOW - timedelta(hours=1))


def test_a_worker_is_dead_when_its_heart_stands_still_while_we_watch_whatever_the_clocks_say() -> None:
    watch = Watch(lease_s=10)
    assert watch.dead({"a": 1, "b": 1}, clock=0) == {}
    assert watch.dead({"a": 2, "b": 1}, clock=9) == {}
    assert watch.dead({"a": 3, "b": 1}, clock=10) == {"b": 1}
    assert watch.dead({"a": 3}, clock=19) == {}
    assert watch.dead({"a": 3}, clock=20) == {"a": 3}
