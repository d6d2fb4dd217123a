"""Divide a limited resource among clients: FairShare limits how much one client takes, FairOrder
decides whose work is done next.

A client is an API key or, on a server without keys, an address (context.py).
"""

from collections import Counter


class FairShare:
    """Divides `capacity` units, so that one client cannot take all of them.

    After taking units, a client may hold at most as many units as were free before. Thus, a single
    client can take half of the units, and each of n busy clients 1/(n+1) of them, so that units
    remain for the next client. A client that holds no unit can take the last one.
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
        """Take units for the client without checking its share."""
        self.used += amount
        self._by_client[client] += amount

    def give_back(self, client: str, amount: int = 1) -> None:
        self.used -= amount
        self._by_client[client] -= amount
        if not self._by_client[client]:
            del self._by_client[client]


class FairOrder:
    """Orders the waiting work of all clients by turns (start-time fair queuing).

    Each piece of work gets a number, and the piece with the lowest number is done first. If one
    client has much waiting work, its pieces have increasing numbers. The first piece of another
    client gets the number of the current piece, so it is done next.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._next: dict[str, float] = {}  # the number of each client's next piece of work

    def number(self, client: str, work: float = 1) -> float:
        """Return the number of the client's next piece of work. `work`: its size, in any unit."""
        number = max(self._now, self._next.get(client, 0))
        self._next[client] = number + work
        return number

    def start(self, number: float, *, last: bool) -> None:
        """Record that work begins. `last`: whether no other work waits."""
        self._now = max(self._now, number)
        # If no work waits, forget the numbers, so that all clients start again with equal numbers.
        if last:
            self._now = max([self._now, *self._next.values()])
            self._next.clear()
