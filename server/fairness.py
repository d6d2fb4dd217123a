"""Divide a limited resource among clients: FairShare limits how much one client takes, FairOrder
decides whose work is done next.

A client is an API key, or an address where requests need no key (context.py).
"""

from collections import Counter


class FairShare:
    """Divides `capacity` units, so that one client cannot take all of them.

    A client may take units only if it would then hold at most as many units as were free before. So
    a single client can take half of the units, and each of n busy clients 1/(n+1) of them; some
    units remain for the next client. A client that holds no unit can take the last unit.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._by_client: Counter[str] = Counter()

    def take(self, client: str, amount: int = 1) -> bool:
        """Take `amount` units for the client. Returns False if the client may not have them."""
        held = self._by_client[client]
        allowed = held + amount <= self.capacity - self.used
        if allowed:
            self.add(client, amount)
        elif not held:
            del self._by_client[client]
        return allowed

    def add(self, client: str, amount: int = 1) -> None:
        """Take units for the client, also if `take` would refuse them."""
        self.used += amount
        self._by_client[client] += amount

    def give_back(self, client: str, amount: int = 1) -> None:
        self.used -= amount
        self._by_client[client] -= amount
        if not self._by_client[client]:
            del self._by_client[client]


class FairOrder:
    """Orders the waiting work of all clients by turns (start-time fair queuing).

    Each piece of work gets a number, and the piece with the lowest number is done first. A client
    that waits with much work gets increasing numbers, and the first work of another client gets the
    number of the work that is being done now.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._next: dict[str, float] = {}  # the number of each client's next piece of work

    def number(self, client: str, work: float = 1) -> float:
        """The number of the client's next piece of work. `work`: its size, in any unit."""
        number = max(self._now, self._next.get(client, 0))
        self._next[client] = number + work
        return number

    def start(self, number: float, *, last: bool) -> None:
        """Record that work begins. `last`: whether no other work waits."""
        self._now = max(self._now, number)
        # If no work waits, all clients continue with the same number.
        if last:
            self._now = max([self._now, *self._next.values()])
            self._next.clear()
