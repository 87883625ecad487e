"""How many rows to claim at once, and how many in hand are plenty."""

from __future__ import annotations

from notifications.engine.claim_size import FIRST, MOST, ClaimSize

FLIGHT = 100  # attempts that may be in flight


def grown() -> ClaimSize:
    size = ClaimSize(FLIGHT, 0.0)
    for _ in range(10):
        size.claimed(refused=False)
    return size


def test_the_first_claim_is_small_and_the_next_ones_grow() -> None:
    size = ClaimSize(FLIGHT, 0.0)
    sizes = [size.most]
    for _ in range(3):
        size.claimed(refused=False)
        sizes.append(size.most)
    assert sizes == [FIRST, 80, 200, 200]


def test_a_claim_is_at_most_what_ends_within_a_second() -> None:
    size = grown()
    size.ended(300, 1.0)
    assert size.most == 300
    size.ended(50_000, 2.0)
    assert size.most == MOST * FLIGHT
    size.ended(1, 3.0)
    assert size.most == 2 * FLIGHT, "enough to fill all slots twice, however slow"


def test_rows_refused_halve_the_next_claim() -> None:
    size = grown()
    size.ended(50_000, 1.0)
    size.claimed(refused=True)
    assert size.most == MOST * FLIGHT // 2
    for _ in range(20):
        size.claimed(refused=True)
    assert size.most == FIRST


def test_waiting_for_work_does_not_slow_the_pace() -> None:
    size = grown()
    size.begin(3600.0)
    size.ended(500, 3601.0)
    assert (size.most, size.since) == (500, 3601.0)


def test_plenty_lasts_while_the_database_answers() -> None:
    size = grown()
    size.ended(8000, 1.0)
    assert not size.plenty(800)
    assert size.plenty(801)
