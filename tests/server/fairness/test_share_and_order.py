"""How the server divides a limit among clients, and in which order it does the work of several
clients.
"""

from hypothesis import given
from hypothesis import strategies as st

from server.fairness.order import FairOrder
from server.fairness.share import FairShare


def taken(share: FairShare, client: str) -> int:
    """Take units of the limit for one client until none is left for it. Returns the number of
    units.
    """
    count = 0
    while share.take(client):
        count += 1
    return count


def test_one_client_leaves_units_for_the_next() -> None:
    share = FairShare(32)
    assert [taken(share, client) for client in "abcde"] == [16, 8, 4, 2, 1]
    assert share.used == 31
    assert share.take("f")
    assert not share.take("g")


def test_a_single_unit_can_be_taken() -> None:
    share = FairShare(1)
    assert [taken(share, client) for client in "ab"] == [1, 0]
    share.give_back("a")
    assert share.take("b")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.booleans())))
def test_units_are_counted_and_never_exceed_the_capacity(
    events: list[tuple[str, int, bool]],
) -> None:
    share, held = FairShare(20), {"a": 0, "b": 0, "c": 0}
    for client, amount, gives_back in events:
        if gives_back:
            share.give_back(client, held[client])
            held[client] = 0
        elif share.take(client, amount):
            held[client] += amount
        assert share.used == sum(held.values()) <= 20
        assert dict(share._by_client) == {c: n for c, n in held.items() if n}


def order(waiting: list[tuple[str, float]]) -> str:
    """Return the order in which the server does the work of several waiting clients."""
    fair = FairOrder()
    numbers = [(fair.number(client, work), index) for index, (client, work) in enumerate(waiting)]
    return "".join(waiting[index][0] for _, index in sorted(numbers))


def test_clients_take_turns() -> None:
    assert order([("a", 1)] * 5 + [("b", 1)] * 2 + [("c", 1)]) == "abcabaaa"


def test_a_client_with_large_work_gets_fewer_turns() -> None:
    assert order([("a", 3)] * 3 + [("b", 1)] * 6) == "abbbabbba"


def test_new_work_comes_before_the_rest_of_another_clients_work() -> None:
    fair = FairOrder()
    numbers = [fair.number("a") for _ in range(200)]
    fair.start(numbers[70], last=False)
    assert numbers[70] <= fair.number("b") < numbers[71]


def test_a_client_pays_nothing_for_work_that_is_done() -> None:
    fair = FairOrder()
    for number in [fair.number("a") for _ in range(9)]:
        fair.start(number, last=number == 8)
    assert fair.number("a") == fair.number("b")
