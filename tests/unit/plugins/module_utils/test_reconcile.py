# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine, against a target that is a dict: no module, no API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import (
    Plan,
    Resource,
    State,
    Verb,
    perform,
    plan,
    reconcile,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.state import flatten, unflatten
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import MASK, Call, Failure, Missing


class World:
    """A target with one object in it. ``ignores`` are keys that it accepts and does not keep."""

    def __init__(self, have: State | None, *, ignores: tuple[str, ...] = (), breaks_at: str | None = None) -> None:
        self.have = have
        self.ignores = ignores
        self.breaks_at = breaks_at
        self.warnings: list[str] = []
        self.calls: list[Call] = []

    def do(self, step: Call) -> None:
        if step.label == self.breaks_at:
            raise Failure("the disk is full.", status=500)
        self.calls.append(step)
        if step.method == "DELETE":
            self.have = None
            return
        kept = {k: v for k, v in step.params.items() if k not in self.ignores}
        self.have = {**(self.have or {}), **kept}


def steps_for(planned: Plan, _params: Mapping[str, Any]) -> list[Call]:
    if planned.action == "delete":
        return [Call("DELETE", "/thing", label="remove", destroys="thing's disk (1 GiB)")]
    return [Call("PUT", "/thing", {k: c.after}, label=k) for k, c in planned.changes.items()]


def resource(want: State | None, **extra: Any) -> Resource:
    return Resource(
        noun="thing",
        options={},
        want=lambda params: want,
        read=lambda target, params: None if target.have is None else dict(target.have),
        steps=steps_for,
        name=lambda params: "box",
        **extra,
    )


def test_a_second_run_has_nothing_to_do() -> None:
    world = World(None)
    first = reconcile(resource({"a": 1, "b": ["x"]}), world, {})
    assert (first.changed, first.action, first.object) == (True, "create", {"a": 1, "b": ["x"]})
    second = reconcile(resource({"a": 1, "b": ["x"]}), world, {})
    assert (second.changed, second.action, second.steps, second.diff) == (False, "none", [], {})
    assert len(world.calls) == 2


def test_check_mode_foresees_what_the_run_then_does() -> None:
    world = World({"a": 1, "b": 2, "c": 3})
    foreseen = reconcile(resource({"a": 9, "b": "", "d": None}), world, {}, check=True)
    assert world.calls == []
    real = reconcile(resource({"a": 9, "b": "", "d": None}), world, {})
    assert real.steps == foreseen.steps
    assert real.diff == foreseen.diff
    assert real.diff["before"] == {"a": 1, "b": 2} and real.diff["after"] == {"a": 9}


def test_a_value_that_does_not_stick_fails_and_shows_the_rest() -> None:
    with pytest.raises(Failure) as caught:
        reconcile(resource({"a": 9, "b": 2}), World({"a": 1}, ignores=("a",)), {})
    result = caught.value.result()
    assert result["msg"] == "Unable to update thing box: it did not converge: a is 1 and should be 9."
    assert [s["label"] for s in result["done"]] == ["a", "b"]
    assert result["diff"]["after"] == {"a": 9}


def test_a_plan_without_steps_is_a_failure_and_not_a_success() -> None:
    idle = Resource("thing", {}, lambda p: {"a": 2}, lambda t, p: {"a": 1}, lambda pl, p: [], lambda p: "box")
    with pytest.raises(Failure, match="did not converge"):
        reconcile(idle, World({"a": 1}), {}, check=True)


def test_what_a_step_leaves_to_do_is_done_in_the_next_round() -> None:
    class Pending(World):
        def do(self, step: Call) -> None:
            super().do(step)
            if step.label != "pending" and self.have is not None:
                self.have["pending"] = ["memory"]

    want: State = {"memory": 512, "pending": []}
    outcome = reconcile(resource(want, passes=2), Pending({"memory": 256}), {})
    assert [s["label"] for s in outcome.steps] == ["memory", "pending"]
    with pytest.raises(Failure, match="did not converge: pending is \\['memory'\\] and should be not set"):
        reconcile(resource(want), Pending({"memory": 256}), {})


@pytest.mark.parametrize("check", [True, False])
def test_data_is_destroyed_only_when_allowed(check: bool) -> None:
    world = World({"a": 1})
    with pytest.raises(Failure) as caught:
        reconcile(resource(None), world, {"allow_data_loss": False}, check=check)
    assert caught.value.result()["msg"] == (
        "Unable to delete thing box: this would destroy thing's disk (1 GiB). "
        "Set allow_data_loss: true if that is what you want."
    )
    assert world.calls == []
    outcome = reconcile(resource(None), world, {"allow_data_loss": True})
    assert (outcome.action, outcome.object, world.have) == ("delete", None, None)
    assert not reconcile(resource(None), world, {}).changed


def test_an_immutable_key_is_refused_with_its_remedy() -> None:
    fixed = resource({"net0.path": "/b"}, immutable={"net*.path": "Remove it and add it again."})
    with pytest.raises(Failure) as caught:
        reconcile(fixed, World({"net0.path": "/a"}), {})
    assert caught.value.result()["msg"] == (
        "Unable to update thing box: net0.path is '/a' and cannot be changed to '/b'. Remove it and add it again."
    )
    assert reconcile(fixed, World(None), {}).changed


def test_secrets_are_masked_everywhere_and_write_only_keys_do_not_drift() -> None:
    declared = resource({"password": "hunter2"}, secret=frozenset({"password"}), write_only=frozenset({"password"}))
    world = World(None)
    outcome = reconcile(declared, world, {})
    assert "hunter2" not in repr(outcome.result())
    assert outcome.diff["after"] == {"password": MASK}
    assert world.calls[0].params["password"] == "hunter2"
    assert not reconcile(declared, World({"password": "**"}), {}).changed


def test_passwords_are_sent_again_only_when_that_is_asked_for() -> None:
    declared = resource({"password": "hunter2"}, write_only=frozenset({"password"}))
    assert not reconcile(declared, World({"password": "**"}), {"update_password": "on_create"}).changed
    outcome = reconcile(declared, World({"password": "**"}), {"update_password": "always"})
    assert outcome.changed and [s["label"] for s in outcome.steps] == ["password"]


class Race(World):
    """Somebody else is faster, once: what is there changes under the first write that reaches ``at``."""

    def __init__(self, have: State | None, at: str, complaint: str, then: State) -> None:
        super().__init__(have)
        self.at, self.complaint, self.then = at, complaint, then

    def do(self, step: Call) -> None:
        if step.label == self.at and self.complaint:
            complaint, self.complaint, self.have = self.complaint, "", dict(self.then)
            raise Failure(complaint, status=500)
        super().do(step)


@pytest.mark.parametrize(
    ("have", "complaint"),
    [({"a": 1, "b": 1}, "checksum mismatch (file change by other user?)"), (None, "VM 100 already exists on node 'x'")],
)
def test_who_is_slower_looks_again_and_goes_on(have: State | None, complaint: str) -> None:
    world = Race(have, "b", complaint, {"a": 7, "b": 9, "c": 3})
    outcome = reconcile(resource({"a": 2, "b": 9}), world, {})
    assert (world.have, outcome.changed) == ({"a": 2, "b": 9, "c": 3}, True)
    assert [s["label"] for s in outcome.steps] == ["a", "a"]
    assert [complaint in w for w in world.warnings] == [True]


def test_who_is_always_slower_fails() -> None:
    class Unlucky(World):
        def do(self, step: Call) -> None:
            raise Failure("detected modified configuration - file changed by other user?", status=500)

    with pytest.raises(Failure, match="detected modified configuration"):
        reconcile(resource({"a": 2}), unlucky := Unlucky({"a": 1}), {})
    assert len(unlucky.warnings) == 9


def test_what_the_node_never_shows_is_sent_once_and_the_rest_is_still_checked() -> None:
    declared = resource({"replace": True, "size": 2}, unseen=frozenset({"replace"}))
    world = World({"size": 1}, ignores=("replace",))
    outcome = reconcile(declared, world, {})
    assert outcome.changed and [c.label for c in world.calls] == ["replace", "size"]
    assert outcome.diff["after"] == {"replace": True, "size": 2}
    with pytest.raises(Failure, match="did not converge: size is 1 and should be 2"):
        reconcile(declared, World({"size": 1}, ignores=("replace", "size")), {})


def test_a_failure_names_what_was_being_done_and_what_was_done() -> None:
    with pytest.raises(Failure) as caught:
        reconcile(resource({"a": 1, "b": 2}), World(None, breaks_at="b"), {})
    result = caught.value.result()
    assert result["msg"] == "Unable to create thing box: the disk is full."
    assert (result["status"], [s["label"] for s in result["done"]]) == (500, ["a"])


def missing(_target: Any, _params: Any) -> dict[str, Any]:
    raise Missing("there is no guest called 'tmpl'.")


def test_check_mode_warns_of_what_an_earlier_task_may_create() -> None:
    world = World(None)
    declared = resource({"a": 1}, resolve=missing)
    foreseen = reconcile(declared, world, {}, check=True)
    assert (foreseen.changed, foreseen.action, foreseen.diff["after"]) == (True, "create", {"a": 1})
    assert world.warnings == [
        "Unable to look up thing box yet: there is no guest called 'tmpl'. "
        "A real run fails here unless an earlier task sees to it."
    ]
    with pytest.raises(Missing, match="no guest called"):
        reconcile(declared, world, {})


def verb(steps: list[Call], **extra: Any) -> Verb:
    return Verb(
        "thing", "roll back", {}, lambda t, p: dict(t.have or {}), lambda have, p: steps, lambda p: "box", **extra
    )


def test_a_verb_is_done_once_and_tells_what_changed() -> None:
    steps = [Call("POST", "/thing", {"a": 0}, label="back", destroys="everything since noon")]
    world = World({"a": 5})
    with pytest.raises(Failure) as caught:
        perform(verb(steps), world, {})
    assert caught.value.result()["msg"].startswith(
        "Unable to roll back thing box: this would destroy everything since noon."
    )
    foreseen = perform(verb(steps), world, {"allow_data_loss": True}, check=True)
    assert (foreseen.changed, world.have) == (True, {"a": 5})
    outcome = perform(verb(steps), world, {"allow_data_loss": True})
    assert (outcome.action, outcome.diff["before"], outcome.diff["after"]) == ("roll_back", {"a": 5}, {"a": 0})
    assert not perform(verb([]), world, {}).changed
    assert perform(verb(steps, resolve=missing), world, {}, check=True).changed


def test_absent_of_something_absent_is_nothing() -> None:
    assert plan(None, None).empty
    assert plan({"a": ""}, {"b": 1}).empty
    assert plan({"a": 0}, {}).changes["a"].before is None
    assert plan({"a": 1}, {"a": 2}).after("b", "x") == "x"


SCALARS = st.one_of(st.integers(), st.text(max_size=5), st.booleans(), st.lists(st.integers(), max_size=2))
NAMES = st.text("abz_9", min_size=1, max_size=3).filter(lambda name: name[0].isalpha())


@given(
    st.recursive(
        st.dictionaries(NAMES, SCALARS, min_size=1, max_size=4),
        lambda t: st.dictionaries(NAMES, t, max_size=3),
        max_leaves=6,
    )
)
def test_flattening_is_undone(tree: dict[str, Any]) -> None:
    flat = flatten(tree)
    assert all(not isinstance(v, dict) or v == {} for v in flat.values())
    assert unflatten(flat) == tree


def test_a_plain_value_beside_dotted_keys_is_kept() -> None:
    assert unflatten({"cpu": "host", "cpu.flags": "+aes"}) == {"cpu": {"value": "host", "flags": "+aes"}}
    assert unflatten({"cpu.flags": "+aes", "cpu": "host"}) == {"cpu": {"value": "host", "flags": "+aes"}}


@given(st.dictionaries(NAMES, SCALARS), st.dictionaries(NAMES, SCALARS))
def test_a_plan_carried_out_leaves_nothing_to_plan(want: State, have: State) -> None:
    planned = plan(want, have)
    carried_out = {**have, **{k: c.after for k, c in planned.changes.items()}}
    assert plan(want, carried_out).empty
