# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids for new guests: no two of one run get the same one, in the order in which they ask. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Set

from .steps import Failure


class Ids:
    """Hands out ids. ``spoken_for`` are those that guests of the run have by name or are to get."""

    def __init__(self, spoken_for: Iterable[int]) -> None:
        self._spoken_for = set(spoken_for)
        self._given: dict[str, int] = {}

    def of(self, name: str) -> int | None:
        """The id that this guest has been given, or None."""
        return self._given.get(name)

    def claim(self, name: str, vmid: int) -> bool:
        """Whether this guest may have an id that belongs to nobody else: the first one that asks may."""
        if vmid in self._spoken_for or any(n != name and given == vmid for n, given in self._given.items()):
            return False
        self._given[name] = vmid
        return True

    def take(self, name: str, low: int, high: int, taken: Set[int]) -> int:
        """The lowest free id from ``low`` to ``high``, and the same one again until others have it.

        ``taken`` are ids that others have now. Raises Failure when there is none left.
        """
        mine = self._given.get(name)
        if mine is not None and mine not in taken:
            return mine
        busy = taken | self._spoken_for | set(self._given.values())
        free = next((i for i in range(low, high + 1) if i not in busy), None)
        if free is None:
            raise Failure(f"every id from {low} to {high} is taken. Widen the range or remove guests.")
        self._given[name] = free
        return free
