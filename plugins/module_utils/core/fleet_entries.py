# SPDX-License-Identifier: GPL-3.0-or-later
"""The entries of a list of guests: put together with their defaults, checked against each other, brought into order.

Pure. Everything here can be known before anything is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .options import listed
from .steps import Failure

LAST = 1 << 30
"""The place in the order of starting of a guest that names none: after all that do (PVE/API2/Nodes.pm startall)."""


@dataclass(frozen=True)
class Entry:
    """One guest of the list. ``called`` is unique; ``params`` are the options of the module vm, complete.

    ``depends`` and ``source`` are what other entries are called: those that have to run before it is started, and the
    one that it is cloned from. ``order`` is its place in the order of starting.
    """

    called: str
    params: Mapping[str, Any]
    depends: frozenset[str] = frozenset()
    source: str | None = None
    order: int = LAST

    @property
    def absent(self) -> bool:
        """True for a guest that is to go."""
        return bool(self.params["state"] == "absent")


@dataclass
class _Names:
    """What an entry may be meant by: its name, or its id."""

    known: dict[str, str] = field(default_factory=dict)

    def add(self, key: Any, called: str) -> None:
        if key in (None, ""):
            return
        if str(key) in self.known:
            raise Failure(f"guests: '{key}' is given twice. Each guest has one entry.")
        self.known[str(key)] = called


def entries(params: Mapping[str, Any], options: Mapping[str, Any]) -> list[Entry]:
    """The entries of a task over its defaults. ``options`` is the argument specification of one guest.

    Raises Failure for a guest that is given twice, for a dependency that is no entry, is to be absent or leads back.
    """
    whole = [_whole(given, params.get("defaults") or {}, options) for given in params["guests"]]
    names = _Names()
    for one in whole:
        called = str(one.get("name") or one.get("vmid"))
        for key in (one.get("name"), one.get("vmid")):
            names.add(key, called)
    made = [_entry(one, names.known) for one in whole]
    by_name = {e.called: e for e in made}
    for entry in made:
        _refuse_absent(entry, by_name)
    _refuse_cycles(by_name)
    return made


def _whole(given: Mapping[str, Any], defaults: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: spec.get("default") for key, spec in options.items()}
    for layer in (defaults, given):
        own |= {k: _merged(own.get(k), v) for k, v in layer.items() if v is not None and k in options}
    return {**own, "depends_on": given.get("depends_on")}


def _merged(below: Any, above: Any) -> Any:
    """Parts of an option one by one, slots one by one; everything else is replaced."""
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **{k: _merged(below.get(k), v) for k, v in above.items() if v is not None}}
    if _slots(below) and _slots(above):
        first = {entry["slot"]: entry for entry in below}
        over = {entry["slot"]: _merged(first.get(entry["slot"]), entry) for entry in above}
        # A slot that is given twice is for the guest to complain about.
        return [*({**first, **over}.values())] if len(over) == len(above) else above
    return above


def _slots(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) and "slot" in v for v in value)


def _entry(whole: Mapping[str, Any], known: Mapping[str, str]) -> Entry:
    params = {k: v for k, v in whole.items() if k != "depends_on"}
    depends = whole.get("depends_on") or ()
    called = str(params.get("name") or params.get("vmid"))
    unknown = [d for d in depends if d not in known]
    if unknown:
        raise Failure(f"guest {called} depends on '{unknown[0]}', which is no entry of guests. Add it or leave it out.")
    source = str((params.get("clone") or {}).get("source") or "")
    order = (params.get("startup") or {}).get("order")
    return Entry(
        called=called,
        params=params,
        depends=frozenset(known[d] for d in depends),
        source=known.get(source) if params["state"] == "present" else None,
        order=LAST if order is None else int(order),
    )


def _refuse_absent(entry: Entry, by_name: Mapping[str, Entry]) -> None:
    if entry.absent:
        return
    gone = sorted(d for d in needs(entry) if by_name[d].absent)
    if gone:
        raise Failure(f"guest {entry.called} needs {gone[0]}, which is to be absent. Keep it, or let both go.")


def needs(entry: Entry) -> frozenset[str]:
    """The entries without which this one cannot be finished."""
    return entry.depends | ({entry.source} if entry.source else frozenset())


def _refuse_cycles(by_name: Mapping[str, Entry]) -> None:
    """Follow each entry to what it needs. Raises Failure with the way round."""
    finished: set[str] = set()
    for start in by_name:
        trail: list[str] = []
        todo: list[tuple[str, bool]] = [(start, False)]
        while todo:
            name, leaving = todo.pop()
            if leaving:
                finished.add(trail.pop())
                continue
            if name in finished:
                continue
            if name in trail:
                way = " → ".join([*trail[trail.index(name) :], name])
                raise Failure(f"guests depend on each other in a circle: {way}. Leave one of these dependencies out.")
            trail.append(name)
            todo += [(name, True), *((need, False) for need in sorted(needs(by_name[name])))]


def arranged(made: Iterable[Entry], ups: Collection[str], downs: Collection[str]) -> list[Entry]:
    """The entries with the orders that count: of those that start, ``ups``, and of those that stop or go, ``downs``.

    An order is not before that of what an entry needs, directly or not, and that goes the same way. Else one could wait
    for another one that needs it.
    """
    whole = list(made)
    by_name = {e.called: e for e in whole}
    orders = dict.fromkeys(by_name, LAST)
    for some in (ups, downs):
        least: dict[str, int] = {}
        for entry in _sorted(whole, by_name):
            own = entry.order if entry.called in some else -1
            least[entry.called] = max(own, *(least[n] for n in needs(entry) & by_name.keys()), -1)
        orders |= {name: least[name] for name in some}
    return [replace(e, order=orders[e.called]) for e in whole]


def begin_order(made: Sequence[Entry], downs: Collection[str]) -> list[Entry]:
    """The order in which work begins: what goes down first, dependents before what they depend on; then the rest.

    What is needed begins first, then the lower order of starting. So whoever waits for another one waits for one that
    has begun, however few may work at once.
    """
    by_name = {e.called: e for e in made}
    falling = _sorted([e for e in made if e.called in downs], by_name)
    return [*reversed(falling), *_sorted([e for e in made if e.called not in downs], by_name)]


def _sorted(some: Sequence[Entry], by_name: Mapping[str, Entry]) -> list[Entry]:
    mine = {e.called: e for e in some}
    urgency = {e.called: e.order for e in some}
    for entry in sorted(some, key=lambda e: e.order):
        todo = [entry.called]
        while todo:
            for need in needs(by_name[todo.pop()]) & mine.keys():
                if urgency[need] > entry.order:
                    urgency[need] = entry.order
                    todo.append(need)
    left = {e.called: set(needs(e) & mine.keys()) for e in some}
    place = {e.called: i for i, e in enumerate(some)}
    done: list[Entry] = []
    ready = [n for n, open_ in left.items() if not open_]
    waiting: dict[str, list[str]] = {}
    for name, open_ in left.items():
        for need in open_:
            waiting.setdefault(need, []).append(name)
    while ready:
        ready.sort(key=lambda n: (urgency[n], place[n]), reverse=True)
        name = ready.pop()
        done.append(mine[name])
        for other in waiting.get(name, ()):
            left[other].discard(name)
            if not left[other]:
                ready.append(other)
    return done


def named(names: Iterable[str], most: int = 5) -> str:
    """ "a, b and 7 more" """
    whole = list(names)
    return listed(whole) if len(whole) <= most else f"{', '.join(whole[:most])} and {len(whole) - most} more"
