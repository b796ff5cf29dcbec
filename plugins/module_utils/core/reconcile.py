# SPDX-License-Identifier: GPL-3.0-or-later
"""The one engine: read → plan → steps → guard → (check mode: stop) → do → read back → plan again.

A state is a flat dict in canonical form. Keys of structured options are dotted ("net0.bridge", "scsi0.size"), so that
comparing is plain ``==`` key by key. In a wanted state ``None`` means "not managed" and ``""``, ``[]`` or ``{}`` means
"clear it"; in an observed state a missing key and a cleared one are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from . import complaints
from .state import State, is_cleared, matches, public, render_diff
from .steps import MASK, Failure, Missing, Step

Params = Mapping[str, Any]
# Each time somebody else is faster, somebody gets something done; so many at once are rare.
_ATTEMPTS = 10


class Target(Protocol):
    """What the engine needs of a seam. Reading is between the module's ``read`` and the seam it declares."""

    warnings: list[str]

    def do(self, step: Any) -> Any:
        """Carry out one step; raises Failure."""


@dataclass(frozen=True)
class Change:
    """One key: ``before`` and ``after`` in canonical form; ``None`` where there was or will be nothing."""

    before: Any
    after: Any


@dataclass(frozen=True)
class Plan:
    """What separates the wanted state from the observed one. ``action``: create, update, delete or none."""

    want: State | None
    have: State | None
    action: str
    changes: dict[str, Change] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """True when nothing has to be done."""
        return self.action == "none"

    def after(self, key: str, default: Any = None) -> Any:
        """The value that ``key`` is to have: the wanted one if it is managed, else the observed one."""
        wanted = (self.want or {}).get(key)
        return wanted if wanted is not None else (self.have or {}).get(key, default)


@dataclass(frozen=True)
class Resource:
    """A module as a declaration. See CONTRIBUTING for a walk through one.

    ``want(params)`` is pure: the desired State, or None for absent. ``read(target, params)`` only reads: the observed
    State, or None if absent. ``steps(plan, params)`` is pure. ``name(params)`` is how people call the object.
    ``resolve(target, params)`` only reads and returns extra parameters that the others need (an id for a name, say).
    Where something that the task refers to is not there, ``resolve`` and ``read`` raise ``Missing``; in check mode
    ``want`` is then called without what ``resolve`` would have added, and the object counts as absent unless the
    exception says what is there.

    ``immutable`` maps key patterns to the remedy that the refusal names. ``secret`` are patterns of state keys and
    request parameters that are masked. ``write_only`` are patterns of keys whose value cannot be read back: they
    differ only when the observed state has nothing there. ``unseen`` are patterns of keys of which the node shows
    nothing at all: where they differ, having sent them is all the proof there is. ``passes`` is how many rounds of
    steps may be needed because what a step leaves to do is known only after it. ``constraints`` are keyword arguments
    of AnsibleModule.
    """

    noun: str
    options: Mapping[str, Any]
    want: Callable[[Params], State | None]
    read: Callable[[Any, Params], State | None]
    steps: Callable[[Plan, Params], Sequence[Step]]
    name: Callable[[Params], str]
    resolve: Callable[[Any, Params], Mapping[str, Any]] | None = None
    immutable: Mapping[str, str] = field(default_factory=dict)
    secret: frozenset[str] = frozenset()
    write_only: frozenset[str] = frozenset()
    unseen: frozenset[str] = frozenset()
    passes: int = 1
    constraints: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verb:
    """A thing to do that leaves no state to compare (roll back, reset). No steps means nothing to do."""

    noun: str
    verb: str
    options: Mapping[str, Any]
    read: Callable[[Any, Params], State | None]
    steps: Callable[[State | None, Params], Sequence[Step]]
    name: Callable[[Params], str]
    resolve: Callable[[Any, Params], Mapping[str, Any]] | None = None
    secret: frozenset[str] = frozenset()
    constraints: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Query:
    """A module that only looks. ``read(target, params)`` gives the result's own keys."""

    noun: str
    options: Mapping[str, Any]
    read: Callable[[Any, Params], Mapping[str, Any]]
    constraints: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Many:
    """A module that works on many objects at once. ``work(target, params, check)`` gives the result's own keys.

    ``entries`` names the option that lists the objects where each has options of its own, so that what is wrong in one
    of them can be told by its name.
    """

    noun: str
    options: Mapping[str, Any]
    work: Callable[[Any, Params, bool], Mapping[str, Any]]
    entries: str = ""
    constraints: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """The result of a run in the collection's fixed form: ``changed, action, object, steps, diff``."""

    changed: bool
    action: str
    object: dict[str, Any] | None
    steps: list[dict[str, Any]] = field(default_factory=list)
    diff: dict[str, Any] = field(default_factory=dict)

    def result(self) -> dict[str, Any]:
        """The arguments of ``exit_json``."""
        return {
            "changed": self.changed,
            "action": self.action,
            "object": self.object,
            "steps": self.steps,
            "diff": self.diff,
        }


def plan(want: State | None, have: State | None, write_only: Iterable[str] = ()) -> Plan:
    """Compare a wanted with an observed state. Pure; see the module's docstring for the canonical form."""
    if want is None:
        gone = {} if have is None else {k: Change(v, None) for k, v in have.items() if not is_cleared(v)}
        return Plan(want, have, "none" if have is None else "delete", gone)
    observed = have or {}
    hidden = tuple(write_only)
    changes = {
        key: Change(observed.get(key), value)
        for key, value in want.items()
        if value is not None and not _same(key, value, observed.get(key), hidden)
    }
    if have is None:
        return Plan(want, have, "create", changes)
    return Plan(want, have, "update" if changes else "none", changes)


def reconcile(resource: Resource, target: Target, params: Params, *, check: bool = False) -> Outcome:
    """Bring one object to its wanted state, or in check mode say how.

    When somebody else was faster, so that the object has changed since it was read (digest) or its id is taken, it is
    looked up, read and planned again. Write-only keys are sent although they cannot be compared where the task has
    ``update_password: always``.

    Raises Failure: from the seam; when an immutable key differs; when a step destroys data without
    ``allow_data_loss``; when after all passes the object still differs ("did not converge").
    """
    done: list[dict[str, Any]] = []
    for attempt in range(_ATTEMPTS):
        try:
            outcome = _reconcile(resource, target, params, check)
        except Failure as failure:
            done += failure.done
            lost = complaints.is_stale_digest(failure.msg) or complaints.is_taken(failure.msg)
            if check or not lost or attempt == _ATTEMPTS - 1:
                failure.done = done
                raise
            target.warnings.append(f"somebody else was faster ({failure.msg.rstrip('.')}), so this run looked again.")
        else:
            break
    outcome.steps = [*done, *outcome.steps]
    outcome.changed = outcome.changed or bool(done)
    return outcome


def _reconcile(resource: Resource, target: Target, params: Params, check: bool) -> Outcome:
    try:
        params = _resolved(resource, target, params)
        run = _Run(resource, target, params)
        with _Doing(f"read {run.called}"):
            want = resource.want(params)
            first = have = resource.read(target, params)
    except Missing as missing:
        if not check:
            raise
        return _foreseen(resource, target, params, missing)
    planned = plan(want, have, () if params.get("update_password") == "always" else resource.write_only)
    action, touched = planned.action, dict(planned.changes)
    for _round in range(resource.passes):
        if planned.empty:
            break
        steps = run.guarded(planned)
        if check:
            shown = [s.describe(resource.secret) for s in steps]
            return run.outcome(action, touched, have, shown, after=want)
        run.carry_out(steps, planned)
        with _Doing(f"read back {run.called}", run.done):
            have = resource.read(target, params)
        planned = plan(_visible(want, resource.unseen), have, resource.write_only)
        for key, change in planned.changes.items():
            touched.setdefault(key, Change((first or {}).get(key), change.after))
    if not planned.empty:
        raise run.not_converged(planned)
    return run.outcome(action, touched, have, run.done, after=have)


def perform(verb: Verb, target: Target, params: Params, *, check: bool = False) -> Outcome:
    """Do a verb, or in check mode say what it would do. Raises Failure as ``reconcile`` does."""
    try:
        params = _resolved(verb, target, params)
        called = f"{verb.noun} {verb.name(params)}"
        with _Doing(f"read {called}"):
            before = verb.read(target, params)
    except Missing as missing:
        if not check:
            raise
        _warn_missing(target, missing)
        return Outcome(True, verb.verb.replace(" ", "_"), None)
    doing = f"{verb.verb} {called}"
    with _Doing(doing):
        steps = list(verb.steps(before, params))
        _guard(steps, params)
    done: list[dict[str, Any]] = []
    after = before
    if not check:
        _execute(steps, target, verb.secret, doing, done)
        with _Doing(f"read back {called}", done):
            after = verb.read(target, params)
    shown = [s.describe(verb.secret) for s in steps]
    keys = sorted(k for k in {**(before or {}), **(after or {})} if (before or {}).get(k) != (after or {}).get(k))
    diff = render_diff(
        called, {k: (before or {}).get(k) for k in keys}, {k: (after or {}).get(k) for k in keys}, verb.secret
    )
    action = verb.verb.replace(" ", "_") if steps else "none"
    return Outcome(bool(steps), action, public(after, verb.secret), shown, diff)


class _Run:
    """One reconciliation: what it has done so far and how it is told."""

    def __init__(self, resource: Resource, target: Target, params: Params) -> None:
        self.resource = resource
        self.target = target
        self.params = params
        self.called = f"{resource.noun} {resource.name(params)}"
        self.done: list[dict[str, Any]] = []

    def guarded(self, planned: Plan) -> list[Step]:
        """The steps of a plan, after every reason to refuse them."""
        with _Doing(f"{planned.action} {self.called}", self.done):
            if planned.action == "update":
                self._refuse_immutable(planned)
            steps = list(self.resource.steps(planned, self.params))
            _guard(steps, self.params)
            if not steps:
                raise self.not_converged(planned)
            return steps

    def carry_out(self, steps: Sequence[Step], planned: Plan) -> None:
        """Do the steps in order; a Failure carries those that were done."""
        _execute(steps, self.target, self.resource.secret, f"{planned.action} {self.called}", self.done)

    def not_converged(self, planned: Plan) -> Failure:
        """The Failure that shows what still differs after everything was done."""
        rest = ", ".join(
            f"{key} is {self._shown(key, c.before)} and should be {self._shown(key, c.after)}"
            for key, c in sorted(planned.changes.items())
        )
        failure = Failure(f"it did not converge: {rest or 'it is still there'}.")
        failure.doing = f"{planned.action} {self.called}"
        failure.done = self.done
        failure.diff = self._changes_diff(planned.changes)
        return failure

    def outcome(
        self,
        action: str,
        touched: Mapping[str, Change],
        have: State | None,
        steps: list[dict[str, Any]],
        after: State | None,
    ) -> Outcome:
        """The Outcome of a run that ends in ``after`` (in check mode: would end in it)."""
        changed = action != "none"
        end = {k: (after or {}).get(k, c.after) if after is not None else None for k, c in touched.items()}
        diff = self._changes_diff({k: Change(c.before, end[k]) for k, c in touched.items()}) if changed else {}
        return Outcome(changed, action, public(have, self.resource.secret), steps, diff)

    def _changes_diff(self, changes: Mapping[str, Change]) -> dict[str, Any]:
        before = {k: c.before for k, c in changes.items()}
        after = {k: c.after for k, c in changes.items()}
        return render_diff(self.called, before, after, self.resource.secret)

    def _refuse_immutable(self, planned: Plan) -> None:
        for key, change in sorted(planned.changes.items()):
            remedy = next((r for p, r in self.resource.immutable.items() if fnmatchcase(key, p)), None)
            if remedy is not None:
                is_, should = self._shown(key, change.before), self._shown(key, change.after)
                raise Failure(f"{key} is {is_} and cannot be changed to {should}. {remedy}")

    def _shown(self, key: str, value: Any) -> str:
        if is_cleared(value):
            return "not set"
        return MASK if matches(key, self.resource.secret) else repr(value)


class _Doing:
    """Tells every Failure inside it what was being done and what had been done before."""

    def __init__(self, doing: str, done: list[dict[str, Any]] | None = None) -> None:
        self.doing = doing
        self.done = done if done is not None else []

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, Failure):
            error.doing = error.doing or self.doing
            error.done = error.done or self.done


def _same(key: str, wanted: Any, observed: Any, write_only: tuple[str, ...]) -> bool:
    if is_cleared(wanted) or is_cleared(observed):
        return is_cleared(wanted) and is_cleared(observed)
    if matches(key, write_only):
        return True
    return bool(wanted == observed)


def _visible(want: State | None, unseen: frozenset[str]) -> State | None:
    return None if want is None else {k: v for k, v in want.items() if not matches(k, unseen)}


def _resolved(declared: Resource | Verb, target: Target, params: Params) -> Params:
    if declared.resolve is None:
        return params
    with _Doing(f"look up {declared.noun} {declared.name(params)}"):
        return {**params, **declared.resolve(target, params)}


def _foreseen(resource: Resource, target: Target, params: Params, missing: Missing) -> Outcome:
    """What check mode can say of an object that needs something which an earlier task of the play may create."""
    _warn_missing(target, missing)
    run = _Run(resource, target, params)
    want = resource.want(params)
    planned = plan(want, missing.have, resource.write_only)
    return run.outcome(planned.action, planned.changes, missing.have, [], after=want)


def _warn_missing(target: Target, missing: Missing) -> None:
    doing = f"Unable to {missing.doing} yet: " if missing.doing else ""
    target.warnings.append(f"{doing}{missing.msg} A real run fails here unless an earlier task sees to it.")


def _guard(steps: Sequence[Step], params: Params) -> None:
    lost = [s.destroys for s in steps if s.destroys]
    if lost and not params.get("allow_data_loss"):
        raise Failure(f"this would destroy {'; '.join(lost)}. Set allow_data_loss: true if that is what you want.")


def _execute(
    steps: Sequence[Step], target: Target, secret: Iterable[str], doing: str, done: list[dict[str, Any]]
) -> None:
    for step in steps:
        with _Doing(doing, done):
            target.do(step)
        done.append(step.describe(secret))
