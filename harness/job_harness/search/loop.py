"""The loop of every search: what comes next is played, and what it came to is taken in the order of its asking.

How the next one is chosen is an iterator; what is played, and by whom, is a `Player`. With a player
who does one thing at a time (`Here`) the iterator is asked only after what was played before has
been taken, so it may learn from that. Knows neither runs nor queues, nor what is looked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Asked = TypeVar("Asked", contravariant=True)
Answer = TypeVar("Answer", covariant=True)


class Player(Protocol[Asked, Answer]):
    """Plays what it is given: here, in several processes, on a cluster."""

    def free(self) -> int:
        """Return how much more can be given now; 0 for ever once what it came to ends the search."""

    def give(self, number: int, item: Asked, /) -> None:
        """Begin with the item of this number."""

    def taken(self) -> Iterable[tuple[int, Answer]] | None:
        """Wait a moment, and return what is done, by its number; None where nothing was in hand."""


class Here(Generic[Item, Result]):
    """Plays one item after the other in this process."""

    def __init__(self, play: Callable[[Item], Result]) -> None:
        self._play = play
        self._in_hand: list[tuple[int, Item]] = []

    def free(self) -> int:
        """Return 1: the next is asked for once this one is taken."""
        return 1

    def give(self, number: int, item: Item, /) -> None:
        """Keep it until it is waited for."""
        self._in_hand.append((number, item))

    def taken(self) -> list[tuple[int, Result]] | None:
        """Play it."""
        given, self._in_hand = self._in_hand, []
        return [(number, self._play(item)) for number, item in given] or None


def play_in_order(
    todo: Iterator[Item], player: Player[Item, Result], *, goes_on: Callable[[], bool] = lambda: True
) -> Iterator[Result]:
    """Play what is to do until nothing is left or `goes_on` returns False; yield the results in the order of asking."""
    order: deque[int] = deque()
    arrived: dict[int, Result] = {}
    numbers = count()
    going = True
    while True:
        for _ in range(player.free() if going else 0):
            if not goes_on() or (item := next(todo, None)) is None:
                going = False
                break
            order.append(number := next(numbers))
            player.give(number, item)
        taken = player.taken()
        if taken is None:
            return
        arrived.update(taken)
        while order and order[0] in arrived:
            yield arrived.pop(order.popleft())
