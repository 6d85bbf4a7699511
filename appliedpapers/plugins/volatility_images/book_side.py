"""One side of an order book that changes price by price, and its best levels whenever they are asked for."""

from __future__ import annotations

import math
import operator
from bisect import bisect_left

Levels = list[tuple[float, float]]
"""Price and size, best first."""
SHOWN = 20
"""Levels of the book that a second keeps a side."""
_NEAR, _NEAR_MOST = 150, 600


class BookSide:
    """One side of the book: all of it, and the prices near the touch, which alone are sorted each second.

    Args:
        book: Size by price.
        highest: Whether the best price is the highest.
    """

    def __init__(self, book: dict[float, float], *, highest: bool) -> None:
        self.book, self._highest = book, highest
        self.low, self.high = -math.inf, math.inf
        self.near = set(book)

    def best(self, touch: float) -> tuple[Levels, int]:
        """Return the best levels that are not beyond the touch, and how many are beyond it."""
        sound = self._sound(touch)
        narrowed = self.low > -math.inf or self.high < math.inf
        if len(self.near) > _NEAR_MOST or (narrowed and len(sound) < SHOWN):
            self._look_around(touch)
            sound = self._sound(touch)
        return [(price, self.book[price]) for price in sound[:SHOWN]], len(self.near) - len(sound)

    def _sound(self, touch: float) -> list[float]:
        ordered = sorted(self.near, reverse=self._highest)
        return (
            ordered[bisect_left(ordered, -touch, key=operator.neg) :]
            if self._highest
            else (ordered[bisect_left(ordered, touch) :])
        )

    def _look_around(self, touch: float) -> None:
        """Choose anew how far from the touch a price is near."""
        inside = [price for price in self.book if (price <= touch) is self._highest or price == touch]
        inside.sort(reverse=self._highest)
        self.low, self.high = -math.inf, math.inf
        if len(inside) > _NEAR:
            if self._highest:
                self.low = inside[_NEAR]
            else:
                self.high = inside[_NEAR]
        self.near = {price for price in self.book if self.low <= price <= self.high}
