"""Tests of koe5_integrations.backends.remote.retrying."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from koe5_integrations.backends.remote.retrying import Again, Passing, Patience, seconds_to_wait

URL = "http://127.0.0.1:9/embed"
PATIENCE = Patience(attempts=6, first_wait=1, longest_wait=4, deadline=1000)


def waits(patience: Patience = PATIENCE, after: float | None = None) -> list[float]:
    """Return the waits between attempts that all fail, until none is made any more."""
    again = Again(URL, patience)
    found = []
    while (wait := again(Passing("down", after=after))) is not False:
        found.append(wait)
    assert again.failures == len(found) + 1
    return found


def test_waits_are_random_below_a_bound_that_doubles() -> None:
    """Each wait lies anywhere between 0 and twice the last one's bound, which has an end."""
    many = [waits() for _ in range(300)]
    assert {len(each) for each in many} == {PATIENCE.attempts - 1}
    for step, bound in enumerate([1, 2, 4, 4, 4]):
        at_step = [each[step] for each in many]
        assert 0 <= min(at_step) < 0.2 * bound
        assert 0.8 * bound < max(at_step) <= bound


def test_what_the_server_asks_for_is_waited_besides() -> None:
    """Clients that are told the same time to wait don't all come back at once."""
    asked = waits(after=10)
    assert all(10 <= wait <= 14 for wait in asked)
    assert len(set(asked)) == len(asked)


def test_no_attempt_begins_after_the_deadline() -> None:
    """A wait that would end too late is not begun."""
    assert waits(Patience(deadline=5), after=6) == []
    assert len(waits(Patience(attempts=3, deadline=5))) == 2


def test_each_kind_of_failure_has_its_own_limit() -> None:
    """What may be one text's fault is given up sooner, whatever else went wrong before."""
    again = Again(URL, Patience(attempts=8, unusable=3, broken=2))
    kinds = ["attempts", "unusable", "broken", "unusable", "attempts", "broken"]
    assert [again(Passing("down", kind)) is False for kind in kinds] == [False] * 5 + [True]


def test_other_errors_are_not_tried_again() -> None:
    """Only what may pass is tried again."""
    again = Again(URL, PATIENCE)
    assert again(ValueError("a bug")) is False
    assert again.failures == 0


def test_a_request_that_keeps_failing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """The first failures are information; from the third on somebody is told what takes long."""
    with caplog.at_level(logging.INFO, "koe5_integrations"):
        waits()
    assert [record.levelname for record in caplog.records] == ["INFO"] * 2 + ["WARNING"] * 3
    assert caplog.messages[0].startswith(f"{URL}: down; trying again in ")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0", 0), ("7", 7), ("1.5", 1.5), ("-3", 0), ("", None), ("soon", None), ("1 h", None)],
)
def test_retry_after_is_read_as_seconds(value: str, expected: float | None) -> None:
    """Seconds are taken as such, what has passed as none, and nonsense as nothing."""
    assert seconds_to_wait(value) == expected


def test_retry_after_is_read_as_a_date() -> None:
    """A date is the time until then, and none if it has passed."""
    now = datetime.now(UTC)
    later = seconds_to_wait(format_datetime(now + timedelta(seconds=90), usegmt=True))
    assert later is not None
    assert 60 < later <= 90
    assert seconds_to_wait(format_datetime(now - timedelta(days=1), usegmt=True)) == 0
