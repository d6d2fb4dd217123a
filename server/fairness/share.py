"""Divide a limited resource among clients, so that one client cannot take all of it."""

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
