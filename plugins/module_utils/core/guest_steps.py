# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that make, change, start, stop and remove a virtual machine. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .guest_codec import parse_config
from .guest_edit import UNKNOWN, Edit, edit, is_cloud_init
from .guest_want import as_seen, since
from .reconcile import Change, Params, Plan, plan
from .state import State, is_cleared
from .steps import Call, Failure

Entries = Sequence[Mapping[str, Any]]
"""The answer of …/pending: [{key, value, pending, delete}]."""

_NOT_CONFIG = ("pool", "node", "status", "pending")
# What a clone does not take over from its source (qemu-server API2/Qemu.pm clone_vm), or takes over changed.
_NOT_CLONED = re.compile(
    r"unused\d+|digest|template|lock|parent|name|node|pool|vmid|status|qmpstatus|pending|smbios\.uuid|vmgenid|net\d+\.mac"
)


@dataclass(frozen=True)
class Source:
    """The guest that a clone is made of: its API path, what people call it, and its configuration as state."""

    path: str
    called: str
    node: str
    state: State
    template: bool = False


@dataclass(frozen=True)
class Seen:
    """A configuration as it was read, and the entries of …/pending that it was made of."""

    config: Mapping[str, Any]
    entries: Entries = ()

    @cached_property
    def state(self) -> State:
        """The same as a flat state."""
        return parse_config(self.config)


@dataclass(frozen=True)
class Situation:
    """What was found before anything is planned. ``path`` is the API path of the guest, there or yet to be made.

    ``version`` is that of Proxmox VE where it was asked for, else empty. ``leftover``: a "creation" or a "clone" was
    cut off and left a placeholder here, and ``debris``: volumes that nothing mentions. ``listed`` is how the
    cluster says that it runs, up to 10 s old. ``want`` is what the task wants of the configuration. ``handed`` is the
    configuration that was read on the way, for the first reading to take from here (None: there is no guest).
    ``nodes`` are the cluster's, where there is no guest yet.
    """

    vmid: int
    node: str
    name: str
    path: str
    exists: bool
    source: Source | None = None
    version: tuple[int, ...] = ()
    leftover: str = ""
    debris: tuple[str, ...] = ()
    listed: str = ""
    want: State = field(default_factory=dict, compare=False)
    handed: list[Seen | None] = field(default_factory=list, compare=False)
    nodes: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.vmid} ({self.name})" if self.name else str(self.vmid)


@dataclass
class _Work:
    """Calls in their order; ``digest`` goes with the first that changes the configuration and guards all of them."""

    at: Situation
    params: Params
    digest: str | None = None
    calls: list[Call] = field(default_factory=list)

    def add(self, method: str, below: str, label: str, sent: Mapping[str, Any] | None = None, **more: Any) -> None:
        self.calls.append(Call(method, f"{self.at.path}{below}", sent or {}, label=label, **more))

    def guarded(self) -> dict[str, Any]:
        """The digest, once: later calls see a configuration that this very run has changed."""
        once, self.digest = self.digest, None
        return {"digest": once} if once else {}


def vm_steps(planned: Plan, params: Params) -> Sequence[Call]:
    """The steps of a plan. Raises Failure for what must not or cannot be done; nothing has been done then."""
    at: Situation = params["_guest"]
    have = planned.have
    if have is not None:
        _refuse_strangers(at, have, params)
    if planned.action == "delete":
        return _removal(at, have or {}, params)
    _refuse_newer(at, planned.changes)
    if have is not None and have.get("leftover"):
        return [*_clearing(at, have), *_creation(at, planned.want or {}, params)]
    if have is None:
        return _creation(at, planned.want or {}, params)
    return _update(at, planned, have, params)


def _refuse_strangers(at: Situation, have: State, params: Params) -> None:
    name, found = params.get("name"), have.get("name", "")
    if name and found and name != found and not params.get("rename"):
        if not at.exists and not params.get("vmid"):
            raise Failure(f"id {at.vmid} is already used by another guest, {found}. Nothing was changed in that one.")
        raise Failure(
            f"id {at.vmid} is taken by another guest, {found}. Nothing was changed. Use another vmid, "
            f"leave vmid out to take a free one, or set rename: true if {found} is to be called {name}."
        )
    if params.get("node") and have.get("node") != params["node"]:
        raise Failure(
            f"guest {at} is on node {have.get('node')} and not on {params['node']}. "
            "Migrate it there first, or leave node out."
        )


def _refuse_newer(at: Situation, changes: Mapping[str, Change]) -> None:
    running = ".".join(str(n) for n in at.version)
    for key, change in sorted(changes.items()):
        needed = since(key)
        if needed and at.version and not is_cleared(change.after) and at.version < _version(needed):
            raise Failure(
                f"{key} needs Proxmox VE {needed}, and node {at.node} runs {running}. Upgrade it or leave {key} out."
            )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split("."))


def _creation(at: Situation, want: State, params: Params) -> list[Call]:
    work = _Work(at, params)
    later = _from_nothing(work, want) if at.source is None else _cloned(work, at.source, want)
    if not later:
        _power(work, "stopped", str(want.get("status") or "stopped"))
    return work.calls


def _from_nothing(work: _Work, want: State) -> bool:
    # Proxmox VE makes a UUID only where it is told nothing of SMBIOS, so that has to wait until there is one.
    made = edit([k for k, v in want.items() if not is_cleared(v)], want, {"smbios.uuid": UNKNOWN})
    at, params = work.at, work.params
    sent = {"vmid": at.vmid, "pool": want.get("pool") or None, **made.set, **_transfer(params)}
    label = f"create guest {at}"
    work.calls.append(Call("POST", at.path.rpartition("/")[0], sent, label=label))
    _resizes(work, made)
    return made.later


def _transfer(params: Params) -> dict[str, Any]:
    return {"bwlimit": params.get("bwlimit"), "import-working-storage": params.get("import_working_storage")}


def _cloned(work: _Work, source: Source, want: State) -> bool:
    at, clone = work.at, work.params["clone"]
    copied = clone.get("storage") or clone.get("format")
    full = clone.get("full") if clone.get("full") is not None else (True if copied else None)
    sent = {
        "newid": at.vmid,
        "name": want.get("name"),
        "pool": want.get("pool") or None,
        "full": None if full is None else int(full),
        **{k: clone.get(k) for k in ("snapname", "storage", "format")},
        "target": at.node if at.node != source.node else None,
        "bwlimit": work.params.get("bwlimit"),
    }
    label = f"clone guest {source.called} to {at}"
    work.calls.append(Call("POST", f"{source.path}/clone", sent, label=label))
    there = as_seen(want, foreseen_clone(source.state, clone))
    differs = plan({k: v for k, v in want.items() if k not in (*_NOT_CONFIG, "name")}, there).changes
    made = edit(differs, want, there)
    _configure(work, made)
    return made.later


def foreseen_clone(source: State, clone: Mapping[str, Any]) -> State:
    """The state that a clone of ``source`` will have, as far as it is known before it is there."""
    state = {k: v for k, v in source.items() if not _NOT_CLONED.fullmatch(k)} | {"smbios.uuid": UNKNOWN}
    for key in [k for k in state if k.endswith(".volume")]:
        place = key.removesuffix(".volume")
        if state.get(f"{place}.media") == "cdrom" or not state.get(f"{place}.storage"):
            continue
        state[key] = UNKNOWN
        state[f"{place}.storage"] = clone.get("storage") or state[f"{place}.storage"]
        if clone.get("format") and f"{place}.format" in state:
            state[f"{place}.format"] = clone["format"]
    return state


def _update(at: Situation, planned: Plan, have: State, params: Params) -> list[Call]:
    want = planned.want or {}
    work = _Work(at, params, digest=have.get("digest"))
    now, then = str(have.get("status")), str(want.get("status") or have.get("status"))
    if have.get("template") and then != "stopped":
        raise Failure(f"guest {at} is a template, which cannot be started. Clone it with the option clone.")
    if then == "stopped":
        _power(work, now, then)
        now = then
    made = edit([k for k in planned.changes if k not in _NOT_CONFIG], want, have)
    _configure(work, made)
    if "pool" in planned.changes:
        work.calls.append(_pool(at, planned.changes["pool"]))
    if now != "stopped" and is_cloud_init(planned.changes) and (have.get("cloud_init.slot") or made.allocates):
        work.add("PUT", "/cloudinit", f"write the drive of cloud-init of guest {at} anew")
    if "pending" in planned.changes:
        _power(work, now, "stopped")
        now = "stopped"
    if not made.later:
        _power(work, now, then)
    return work.calls


def _configure(work: _Work, made: Edit) -> None:
    """Everything that changes the configuration: in one request what fits into one."""
    at = work.at
    if made.set or made.delete:
        sent = {**made.set, "delete": ",".join(sorted(made.delete)) or None, **work.guarded()}
        if made.allocates:
            sent |= {"import-working-storage": work.params.get("import_working_storage")}
        # Making volumes takes long, and only POST is a task that can be waited for and found again.
        work.add("POST" if made.allocates else "PUT", "/config", f"change guest {at}", sent)
    for slot, volume in sorted(made.frees.items()):
        lost = f"volume {volume} ({slot} of guest {at})"
        work.add("PUT", "/config", f"remove {lost}", {"delete": slot, **work.guarded()}, destroys=lost)
    for move in made.moves:
        sent = {**move, "bwlimit": work.params.get("bwlimit"), **work.guarded()}
        work.add("POST", "/move_disk", f"move {move['disk']} of guest {at} to {move['storage']}", sent)
    _resizes(work, made)


def _resizes(work: _Work, made: Edit) -> None:
    for slot, size in made.resizes:
        sent = {"disk": slot, "size": size, **work.guarded()}
        work.add("PUT", "/resize", f"grow {slot} of guest {work.at} to {size}", sent)


def _pool(at: Situation, change: Change) -> Call:
    if is_cleared(change.after):
        sent = {"poolid": change.before, "vms": at.vmid, "delete": 1}
        return Call("PUT", "/pools", sent, label=f"take guest {at} out of pool {change.before}")
    sent = {"poolid": change.after, "vms": at.vmid, "allow-move": None if is_cleared(change.before) else 1}
    return Call("PUT", "/pools", sent, label=f"put guest {at} into pool {change.after}")


def _power(work: _Work, now: str, then: str) -> None:
    at, wait_s, force = work.at, work.params["shutdown_timeout_s"], bool(work.params["force_stop"])
    if now == then:
        return
    if now == "stopped":
        work.add("POST", "/status/start", f"start guest {at}")
        if then == "paused":
            work.add("POST", "/status/suspend", f"pause guest {at}")
    elif then == "stopped" and now == "paused" and force:
        work.add("POST", "/status/stop", f"cut the power of guest {at}, which is paused")
    elif then == "stopped":
        if now == "paused":
            work.add("POST", "/status/resume", f"let guest {at} go on, so that it can shut down")
        sent = {"timeout": wait_s, "forceStop": 1 if force else None}
        work.add("POST", "/status/shutdown", f"shut down guest {at}", sent, timeout_s=wait_s + 60)
    elif then == "paused":
        work.add("POST", "/status/suspend", f"pause guest {at}")
    else:
        work.add("POST", "/status/resume", f"let guest {at} go on")


def _removal(at: Situation, have: State, params: Params) -> list[Call]:
    work = _Work(at, params)
    if have.get("leftover"):
        return _clearing(at, have)
    if have.get("protection"):
        raise Failure(f"guest {at} is protected. Set protection: false with state: present first, then remove it.")
    if have.get("status") != "stopped":
        if not params["force_stop"]:
            raise Failure(
                f"guest {at} is {have.get('status')}. Stop it first with status: stopped, "
                "or set force_stop: true to cut its power."
            )
        work.add("POST", "/status/stop", f"cut the power of guest {at}")
    everything = params["destroy_unreferenced_disks"]
    sent = {"purge": int(params["purge"]) or None, "destroy-unreferenced-disks": 1 if everything else None}
    lost = _losses(have)
    if everything:
        lost.append(f"every other volume of id {at.vmid} on any storage")
    named = f"guest {at} with {', '.join(lost)}" if lost else None
    work.add("DELETE", "", f"remove guest {at}", sent, destroys=named)
    return work.calls


def _losses(have: State) -> list[str]:
    """What goes with a guest: its volumes with their sizes, and its snapshots. The drive of cloud-init is no loss."""
    lost = []
    for key in sorted(k for k in have if k.endswith(".volume") and k != "cloud_init.volume"):
        place = key.removesuffix(".volume")
        if have.get(f"{place}.media") != "cdrom" and have.get(f"{place}.storage"):
            lost.append(f"{place} {have[key]} ({have.get(f'{place}.size', 'size unknown')})")
    lost += [f"{k} {v}" for k, v in sorted(have.items()) if re.fullmatch(r"unused\d+", k)]
    lost += [f"snapshot {name}" for name in have.get("snapshots") or ()]
    return lost


def _clearing(at: Situation, have: State) -> list[Call]:
    """Remove what a creation left that was cut off. It never ran, so it holds nothing but what is made again."""
    label = f"remove what the {have['leftover']} of guest {at.vmid} left, which was cut off (root@pam alone may)"
    gone = Call("DELETE", at.path, {"skiplock": 1}, label=label)
    return [gone, *(_free(at.node, volume) for volume in at.debris)]


def _free(node: str, volume: str) -> Call:
    storage = volume.partition(":")[0]
    path = f"/nodes/{node}/storage/{storage}/content/{volume.replace('/', '%2F').replace(':', '%3A')}"
    return Call("DELETE", path, label=f"remove volume {volume}, which belongs to no guest")
