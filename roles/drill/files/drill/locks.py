# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock in a guest's configuration: who may hold it, what a job that died has left, and how it is taken away.

Proxmox VE lets nobody but root@pam itself, and no token of it, change a lock through the API. So it is done with qm on
the host, or where there is none, in the configuration file.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from shlex import quote

from . import shell
from .node import Node
from .plan import Plan
from .shell import Trouble

PROC = Path("/proc")
CONF = "/etc/pve/qemu-server/{vmid}.conf"
# What works on a guest for a longer time, by the program's name. A worker of Proxmox VE calls itself "task UPID:…".
WORKERS = ("vzdump", "qmrestore", "qemu-img", "vma")


def conf(plan: Plan, vmid: int) -> Path:
    """The guest's configuration file."""
    return Path(plan.places.get("conf", CONF).format(vmid=vmid))


def marker(plan: Plan, vmid: int) -> Path:
    """The file by which a lock is known to be the drill's own; it holds the lock's name."""
    return plan.home / f"locked-{vmid}"


def how(plan: Plan, vmid: int, lock: str) -> str:
    """Shell that locks a guest. Raises Trouble where this host has no way to do so."""
    kept = f"echo {quote(lock)} > {quote(str(marker(plan, vmid)))}"
    if shutil.which("qm"):
        return f"{kept}\nqm set {vmid} --lock {quote(lock)}"
    if not conf(plan, vmid).exists():
        raise Trouble(
            f"there is no qm on this host and no {conf(plan, vmid)}, so guest {vmid} cannot be locked;"
            " say where configurations are: conf in drill_places"
        )
    return f"{kept}\nsed -i {quote(f'1i lock: {lock}')} {quote(str(conf(plan, vmid)))}"


def of(node: Node, vmid: int) -> str:
    """What the guest is locked for, nothing where it is not."""
    return str(node.get(f"/nodes/{{node}}/qemu/{vmid}/config").get("lock", ""))


def release(plan: Plan, node: Node, vmid: int) -> str:
    """Unlock a guest that this drill has locked, once it is proved that nothing holds it; what was found, in words.
    Raises Trouble where something may hold it, or it stays locked."""
    mine = marker(plan, vmid)
    if not mine.exists():
        return f"guest {vmid} is not locked by this drill"
    lock = mine.read_text(encoding="ascii").strip()
    if not lock or of(node, vmid) != lock:
        mine.unlink()
        return f"guest {vmid} is not locked ({lock}) any more"
    if busy := holders(node, vmid):
        raise Trouble(f"guest {vmid} stays locked: {', '.join(busy)} may hold it; wait until that has ended")
    left = half_made(node, vmid)
    clear(plan, vmid, lock)
    if now := of(node, vmid):
        raise Trouble(f"guest {vmid} is still locked ({now}); unlock it by hand: qm unlock {vmid}")
    mine.unlink()
    return f"no task and no process held it; volumes that nothing refers to: {', '.join(left) or 'none'}"


def clear(plan: Plan, vmid: int, lock: str) -> None:
    """Take the lock out of the configuration, whoever holds it."""
    if shutil.which("qm"):
        shell.run(["qm", "unlock", str(vmid)])
        return
    path = conf(plan, vmid)
    main, bracket, rest = path.read_text(encoding="utf-8").partition("\n[")
    lines = [line for line in main.split("\n") if line != f"lock: {lock}"]
    shell.write(path, "\n".join(lines) + bracket + rest, 0o640)


def holders(node: Node, vmid: int) -> list[str]:
    """Tasks and processes that are at work on a guest, or may be: a backup of several guests names none."""
    found = []
    for row in node.get("/nodes/{node}/tasks", source="active"):
        whose = str(row.get("id") or "")
        ended = row.get("endtime") or row.get("status") not in (None, "", "RUNNING")
        if not ended and (whose == str(vmid) or (not whose and row.get("type") == "vzdump")):
            found.append(f"task {row['upid']}")
    return found + _processes(vmid)


def _processes(vmid: int) -> list[str]:
    found = []
    for path in PROC.glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode("utf-8", "replace").rstrip("\0").split("\0")
        except OSError:
            continue  # it has ended meanwhile
        text = " ".join(words)
        works = any(Path(word).name in WORKERS for word in words[:3]) or text.startswith("task UPID:")
        if works and re.search(rf"(?<!\d){vmid}(?!\d)", text):
            found.append(f"process {path.parent.name} ({text[:80]})")
    return sorted(found)


def volumes(node: Node, vmid: int) -> list[str]:
    """All volumes that carry the guest's number, on every storage that is there."""
    found = []
    for row in node.get("/nodes/{node}/storage", content="images"):
        if row.get("active", 1):
            path = f"/nodes/{{node}}/storage/{row['storage']}/content"
            found += [str(entry["volid"]) for entry in node.get(path, content="images", vmid=vmid)]
    return sorted(set(found))


def half_made(node: Node, vmid: int) -> list[str]:
    """Those of them to which neither the guest's configuration refers nor one of its snapshots."""
    guest = f"/nodes/{{node}}/qemu/{vmid}"
    configs = [node.get(f"{guest}/config")]
    names = [str(row["name"]) for row in node.get(f"{guest}/snapshot")]
    configs += [node.get(f"{guest}/config", snapshot=name) for name in names if name != "current"]
    known = {str(value).partition(",")[0] for config in configs for value in config.values()}
    return [volume for volume in volumes(node, vmid) if volume not in known]
