# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup of a guest and a copy made of it: how they are made, known again, and taken away.

Both carry the run's name: the backup in its notes, the copy in its description. What does not carry it is not touched.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import locks, shell
from .node import Node
from .plan import Plan
from .shell import Trouble

BACKUP, RESTORE = "backup.json", "restore.json"
STOP_S = 60.0
# All that is in the configuration of a guest whose restore was cut off: it has not come as far as the description.
EMPTY = {"digest", "lock", "memory"}


def mark(plan: Plan) -> str:
    """By what a backup and a copy are known to be this run's."""
    return f"pvelab drill {plan.run}"


def known(plan: Plan, name: str) -> dict[str, Any]:
    """What is written down of the backup or of the copy, nothing where none was begun. Times are monotonic."""
    try:
        found: dict[str, Any] = json.loads((plan.home / name).read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _note(plan: Plan, name: str, **more: Any) -> dict[str, Any]:
    found = {**known(plan, name), **more}
    shell.write(plan.home / name, json.dumps(found))
    return found


def guests(node: Node) -> set[int]:
    """The numbers of all guests, of whatever kind, on all nodes."""
    return {int(row["vmid"]) for row in node.get("/cluster/resources", type="vm")}


def archives(plan: Plan, node: Node, storage: str, vmid: int, *, mine: bool = False) -> list[dict[str, Any]]:
    """The backups of a guest on a storage, or only those of this run."""
    rows = node.get(f"/nodes/{{node}}/storage/{storage}/content", content="backup", vmid=vmid)
    return [row for row in rows if not mine or mark(plan) in str(row.get("notes", ""))]


# make -------------------------------------------------------------------------------------------------------------


def back_up(plan: Plan, node: Node, vmid: int, storage: str, compress: str) -> None:
    """Back a guest up while it runs. Older backups stay, whatever the storage's retention says."""
    _note(plan, BACKUP, vmid=vmid, storage=storage, began=time.monotonic())
    body = {"vmid": vmid, "storage": storage, "mode": "snapshot", "compress": compress, "remove": 0}
    body["notes-template"] = mark(plan)
    node.do("POST", "/nodes/{node}/vzdump", body, within_s=plan.limits.recover_s)
    ended = time.monotonic()
    made = archives(plan, node, storage, vmid, mine=True)
    if len(made) != 1:
        raise Trouble(f"there are {len(made)} backups of guest {vmid} on {storage} with the note {mark(plan)}, not one")
    _note(plan, BACKUP, ended=ended, volid=str(made[0]["volid"]), size=int(made[0].get("size") or 0))


def restore(plan: Plan, node: Node, vmid: int, target: str) -> None:
    """Make a copy of that backup, cut off from every network, and start it."""
    volid = known(plan, BACKUP).get("volid")
    if not volid:
        raise Trouble(f"run {plan.run} has made no backup that could be restored")
    if vmid in guests(node):
        raise Trouble(f"there is a guest {vmid} by now; nothing is restored over it")
    _note(plan, RESTORE, vmid=vmid, began=time.monotonic())
    body = {"vmid": vmid, "archive": volid, "unique": 1, "name": f"drill-copy-{vmid}", "description": mark(plan)}
    body |= {"onboot": 0, "protection": 0, **({"storage": target} if target else {})}
    node.do("POST", "/nodes/{node}/qemu", body, within_s=plan.limits.recover_s)
    guest = f"/nodes/{{node}}/qemu/{vmid}"
    if change := cut_off(node.get(f"{guest}/config")):
        node.do("PUT", f"{guest}/config", change, within_s=plan.limits.recover_s)
    _note(plan, RESTORE, restored=time.monotonic())
    node.do("POST", f"{guest}/status/start", {}, within_s=plan.limits.recover_s)
    _note(plan, RESTORE, started=time.monotonic())


def cut_off(config: Mapping[str, Any]) -> dict[str, str]:
    """What has to change in a copy's configuration before it may start beside the guest that it is a copy of."""
    found = {}
    for key, value in config.items():
        if key.startswith("net") and key[3:].isdigit():
            parts = [part for part in str(value).split(",") if not part.startswith("link_down=")]
            found[key] = ",".join([*parts, "link_down=1"])
    return found


# and take away ----------------------------------------------------------------------------------------------------


def discard(plan: Plan, node: Node) -> str:
    """Take away the copy and the backup of this run, whatever has become of them; what was done, in words. Nothing
    else is touched. Raises Trouble where something is left."""
    backup, copy = known(plan, BACKUP), known(plan, RESTORE)
    done = []
    if backup:
        done += _end_tasks(plan, node, {("vzdump", backup["vmid"]), ("qmrestore", copy.get("vmid"))})
        if "ended" not in backup and locks.of(node, backup["vmid"]) == "backup":
            locks.clear(plan, backup["vmid"], "backup")
            done.append(f"guest {backup['vmid']} unlocked")
    if copy:
        done += _discard_copy(plan, node, int(copy["vmid"]))
        (plan.home / RESTORE).unlink()
    if backup:
        for row in archives(plan, node, backup["storage"], backup["vmid"], mine=True):
            done.append(_free(plan, node, str(row["volid"])))
        (plan.home / BACKUP).unlink()
    return ", ".join(done) or "nothing was there"


def _end_tasks(plan: Plan, node: Node, mine: set[tuple[str, Any]]) -> list[str]:
    """Have tasks of this run that still go on end, and wait for that."""
    me = Path(str(plan.api["token_file"])).read_text(encoding="utf-8").partition("=")[0].strip()
    wanted = {(kind, str(vmid)) for kind, vmid in mine}
    ends = time.monotonic() + STOP_S
    ended: list[str] = []
    while True:
        rows = [
            str(row["upid"])
            for row in node.get("/nodes/{node}/tasks", source="active")
            if (row.get("type"), str(row.get("id"))) in wanted
            and row.get("status") in (None, "", "RUNNING")
            and f"{row.get('user')}!{row.get('tokenid')}" == me
        ]
        for upid in [upid for upid in rows if f"{upid} ended" not in ended]:
            node.ask("DELETE", f"/nodes/{{node}}/tasks/{upid}")
            ended.append(f"{upid} ended")
        if not rows:
            return ended
        if time.monotonic() > ends:
            raise Trouble(f"{', '.join(rows)} was told to end, and still runs after {STOP_S:g} s")
        time.sleep(0.3)


def _discard_copy(plan: Plan, node: Node, vmid: int) -> list[str]:
    done = []
    guest = f"/nodes/{{node}}/qemu/{vmid}"
    if vmid in guests(node):
        config = node.get(f"{guest}/config")
        if mark(plan) not in str(config.get("description", "")) and not set(config) <= EMPTY:
            return [f"guest {vmid} is none of this drill's by now, and is left alone"]
        if lock := str(config.get("lock", "")):
            locks.clear(plan, vmid, lock)
        if node.get(f"{guest}/status/current").get("status") == "running":
            node.do("POST", f"{guest}/status/stop", {}, within_s=plan.limits.recover_s)
        node.do("DELETE", f"{guest}?purge=1", {}, within_s=plan.limits.recover_s)
        done.append(f"guest {vmid} destroyed")
    # None carried that number when the drill began.
    return done + [_free(plan, node, volume) for volume in locks.volumes(node, vmid)]


def _free(plan: Plan, node: Node, volid: str) -> str:
    path = f"/nodes/{{node}}/storage/{volid.partition(':')[0]}/content/{quote(volid, safe='')}"
    node.do("DELETE", path, {}, within_s=plan.limits.recover_s)
    return f"{volid} removed"
