# SPDX-License-Identifier: GPL-3.0-or-later
"""What a creation or a clone leaves that was cut off, and how it is told from a guest that somebody needs.

Proxmox VE writes a placeholder with ``lock: create`` (nothing else in it) or ``lock: clone`` before it makes the first
volume, and the real configuration or the end of the lock after the last. Such a guest cannot be started, so what is in
it was made by that one task. It is removed only if all of this holds:

* the lock is one of these two, and no task is running that could hold it (a running one is waited for);
* the node's task list has the very task, and says that it was killed or went down with its node: for a creation by its
  id, for a clone by its log, which names the id of the clone. A task that fails otherwise removes its placeholder
  itself, so one that is there afterwards is that of somebody who was given the same id since. A lock that somebody set
  by hand has no such task and is left alone;
* a placeholder of a creation names no volume.

Of volumes that no configuration mentions, those are removed that belong to the id, are on a storage which the task
itself names, and were made after that task began. Older ones are somebody's, and are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .core.guest_codec import parse_config
from .core.guest_want import wanted
from .core.reconcile import Params
from .core.state import is_cleared
from .core.steps import Failure
from .reads import GuestRef, node_names

_TASKS = {"create": "qmcreate", "clone": "qmclone"}
_CALLED = {"create": "creation", "clone": "clone"}
# How many logs of clones are read to find the one that made a guest.
_LOGS = 20


@dataclass(frozen=True)
class Debris:
    """``what`` was cut off ("creation" or "clone"), and ``volumes`` that it left and nothing mentions."""

    what: str
    volumes: tuple[str, ...]


def waited(api: Any, ref: GuestRef, config: Mapping[str, Any] | None) -> bool:
    """True when the guest was still being made and that has come to its end now, so that all has to be read again."""
    lock = str((config or {}).get("lock", ""))
    running = _task(api, ref, lock, source="active") if lock in _TASKS else None
    if running is None:
        return False
    try:
        api.wait(str(running["upid"]))
    except Failure as failure:
        # Whether it failed or not, what it left is what counts.
        api.warnings.append(f"guest {ref.vmid} was still being made by another task, which ended: {failure.msg}")
    return True


def look(api: Any, params: Params, ref: GuestRef, config: Mapping[str, Any] | None) -> Debris | None:
    """The debris that a guest is, or None for a real guest and for a lock whose task cannot be found."""
    lock = str((config or {}).get("lock", ""))
    if config is None or lock not in _TASKS:
        return None
    task = _task(api, ref, lock, source="archive")
    if task is None or not _killed(task) or _task(api, ref, lock, source="active"):
        return None
    if lock == "create" and any(k.endswith(".volume") for k in parse_config(config)):
        return None
    what = _CALLED[lock]
    then = "It is made again from the start." if params["state"] == "present" else "What it left is removed."
    api.warnings.append(f"the {what} of guest {ref.vmid} was cut off ({task.get('status') or 'no end'}). {then}")
    return Debris(what, tuple(_volumes(api, params, ref, config, task)))


def adoptable(api: Any, params: Params) -> tuple[GuestRef | None, Mapping[str, Any] | None, Debris | None]:
    """A nameless placeholder whose creation died, for a guest without an id of its own to take the place of.

    Where many guests are looked for at once, ``_claim_vmid`` says who gets it.
    """
    claim = params.get("_claim_vmid") or (lambda vmid: True)
    for node in [params["node"]] if params.get("node") else node_names(api):
        for entry in api.get(f"/nodes/{quote(node, safe='')}/qemu"):
            ref = GuestRef(int(entry["vmid"]), node, "")
            if entry.get("lock") not in _TASKS or entry.get("name") not in (None, "", f"VM {ref.vmid}"):
                continue
            # It may have gone since the list was made.
            config = api.find(f"{ref.path}/config") or {}
            if config.get("lock") == ("clone" if params.get("clone") else "create") and "name" not in config:
                found = look(api, params, ref, config)
                if found and claim(ref.vmid):
                    return ref, config, found
    return None, None, None


def _killed(task: Mapping[str, Any]) -> bool:
    """A worker that dies cannot say how it ended (pve-common Tools.pm upid_read_status)."""
    return str(task.get("status") or "unexpected status") == "unexpected status"


def _task(api: Any, ref: GuestRef, lock: str, source: str) -> Mapping[str, Any] | None:
    """The newest task, running or ended, that made this guest."""
    kind = _TASKS[lock]
    narrowed = {"vmid": ref.vmid} if lock == "create" else {}
    tasks = api.get(f"/nodes/{quote(ref.node, safe='')}/tasks", source=source, typefilter=kind, **narrowed)
    mine = [t for t in tasks if t.get("type") == kind and (source != "active" or not t.get("endtime"))]
    newest = sorted(mine, key=lambda t: int(t["starttime"]), reverse=True)[:_LOGS]
    return next((t for t in newest if lock == "create" or _cloned_to(api, t, ref.vmid)), None)


def _source(api: Any, ref: GuestRef, task: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a clone was made of, as long as it is there; a volume goes to the storage that it came from unless told."""
    if task["type"] != _TASKS["clone"]:
        return {}
    path = f"/nodes/{quote(ref.node, safe='')}/qemu/{quote(str(task.get('id') or ''), safe='')}/config"
    return api.find(path) or {}


def _cloned_to(api: Any, task: Mapping[str, Any], vmid: int) -> bool:
    """The task of a clone bears the id of the source; its log begins with both (API2/Qemu.pm clone_vm)."""
    path = f"/nodes/{quote(str(task['node']), safe='')}/tasks/{quote(str(task['upid']), safe='')}/log"
    return any(str(line.get("t", "")).endswith(f" with ID {vmid}") for line in api.get(path, start=0, limit=20))


def _volumes(
    api: Any, params: Params, ref: GuestRef, config: Mapping[str, Any], task: Mapping[str, Any]
) -> Iterator[str]:
    began = int(task["starttime"])
    want = wanted(params) if params["state"] == "present" else {}
    storages = {str((params.get("clone") or {}).get("storage") or "")}
    for known in (want, parse_config(config), parse_config(_source(api, ref, task))):
        storages |= {str(v) for k, v in known.items() if k.endswith(".storage")}
    mentioned = " ".join(str(v) for v in config.values())
    for storage in sorted(s for s in storages if not is_cleared(s)):
        path = f"/nodes/{quote(ref.node, safe='')}/storage/{quote(storage, safe='')}/content"
        for volume in api.get(path, vmid=ref.vmid):
            made = int(volume.get("ctime") or 0)
            if volume.get("vmid") == ref.vmid and made >= began and volume["volid"] not in mentioned:
                yield str(volume["volid"])
