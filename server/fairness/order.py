"""Decide whose waiting work is done next."""


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
