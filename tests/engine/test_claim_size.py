"""How many rows to claim at once, and how many in hand are plenty."""

from __future__ import annotations

from notifications.engine.claim_size import FIRST, MOST, MOST_UNHEARD, Strides

FLIGHT = 100  # attempts that may be in flight


def grown() -> Strides:
    strides = Strides(FLIGHT, 0.0)
    for _ in range(10):
        strides.claimed(refused=False)
    return strides


def test_the_first_claim_is_small_and_the_next_ones_grow() -> None:
    strides = Strides(FLIGHT, 0.0)
    sizes = [strides.most]
    for _ in range(3):
        strides.claimed(refused=False)
        sizes.append(strides.most)
    assert sizes == [FIRST, 80, 200, 200]


def test_a_claim_is_at_most_what_ends_within_a_second() -> None:
    strides = grown()
    strides.ended(300, 1.0)
    assert strides.most == 300
    strides.ended(50_000, 2.0)
    assert strides.most == MOST * FLIGHT
    strides.ended(1, 3.0)
    assert strides.most == 2 * FLIGHT, "enough to fill all slots twice, however slow"


def test_rows_refused_halve_the_next_claim() -> None:
    strides = grown()
    strides.ended(50_000, 1.0)
    strides.claimed(refused=True)
    assert strides.most == MOST * FLIGHT // 2
    for _ in range(20):
        strides.claimed(refused=True)
    assert strides.most == FIRST


def test_waiting_for_work_does_not_slow_the_pace() -> None:
    strides = grown()
    strides.begin(3600.0)
    strides.ended(500, 3601.0)
    assert (strides.most, strides.since) == (500, 3601.0)


def test_plenty_lasts_while_the_database_answers() -> None:
    strides = grown()
    strides.ended(8000, 1.0)
    assert not strides.plenty(ready=800, unheard=0)
    assert strides.plenty(ready=801, unheard=0)


def test_what_waits_for_silent_endpoints_is_bounded_and_does_not_count() -> None:
    strides = grown()
    assert not strides.plenty(ready=0, unheard=MOST_UNHEARD * FLIGHT)
    assert strides.plenty(ready=0, unheard=MOST_UNHEARD * FLIGHT + 1)
