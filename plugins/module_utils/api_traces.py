# SPDX-License-Identifier: GPL-3.0-or-later
"""Which task a write starts, so that its trace can be found when the answer got lost.

Worker types and ids are those of the fork_worker calls in qemu-server, pve-container, pve-storage and pve-manager.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from .api_tasks import Upid, upid
from .api_wire import Request

# Clocks of the nodes of a cluster, and the whole seconds that a UPID has.
CLOCK_SLACK_S = 5.0

_GUEST = r"/nodes/(?P<node>[^/]+)/(?:qemu|lxc)/(?P<id>\d+)"
_STORAGE = r"/nodes/(?P<node>[^/]+)/storage/(?P<id>[^/]+)"
_NODE = r"/nodes/(?P<node>[^/]+)"
_ANY = ""
# method, path, worker types, where the worker's id comes from: the path (None), a parameter, or it is not looked at.
_TRACES = tuple(
    (method, re.compile(path), frozenset(kinds.split()), source)
    for method, path, kinds, source in (
        ("POST", rf"{_NODE}/qemu", "qmcreate qmrestore", "vmid"),
        ("POST", rf"{_NODE}/lxc", "vzcreate vzrestore", "vmid"),
        ("DELETE", _GUEST, "qmdestroy vzdestroy", None),
        ("POST", rf"{_GUEST}/clone", "qmclone vzclone", None),
        ("POST", rf"{_GUEST}/config", "qmconfig", None),
        ("POST", rf"{_GUEST}/status/start", "qmstart vzstart hastart", None),
        ("POST", rf"{_GUEST}/status/stop", "qmstop vzstop hastop", None),
        ("POST", rf"{_GUEST}/status/shutdown", "qmshutdown vzshutdown hastop", None),
        ("POST", rf"{_GUEST}/status/reboot", "qmreboot vzreboot", None),
        ("POST", rf"{_GUEST}/status/reset", "qmreset", None),
        ("POST", rf"{_GUEST}/status/suspend", "qmsuspend qmpause vzsuspend", None),
        ("POST", rf"{_GUEST}/status/resume", "qmresume vzresume", None),
        ("POST", rf"{_GUEST}/template", "qmtemplate vztemplate", None),
        ("POST", rf"{_GUEST}/migrate", "qmigrate vzmigrate hamigrate", None),
        ("POST", rf"{_GUEST}/move_(?:disk|volume)", "qmmove move_volume", None),
        ("PUT", rf"{_GUEST}/resize", "resize", None),
        ("POST", rf"{_GUEST}/snapshot", "qmsnapshot vzsnapshot", None),
        ("DELETE", rf"{_GUEST}/snapshot/[^/]+", "qmdelsnapshot vzdelsnapshot", None),
        ("POST", rf"{_GUEST}/snapshot/[^/]+/rollback", "qmrollback vzrollback", None),
        ("POST", rf"{_STORAGE}/download-url", "download", "filename"),
        ("POST", rf"{_STORAGE}/upload", "imgcopy", _ANY),
        ("DELETE", rf"{_STORAGE}/content/.+", "imgdel", _ANY),
        ("DELETE", rf"{_STORAGE}/prunebackups", "prunebackups", _ANY),
        ("POST", rf"{_NODE}/vzdump", "vzdump", _ANY),
        ("PUT", rf"{_NODE}/network", "srvreload", _ANY),
        ("POST", rf"{_NODE}/services/(?P<id>[^/]+)/start", "srvstart", None),
        ("POST", rf"{_NODE}/services/(?P<id>[^/]+)/stop", "srvstop", None),
        ("POST", rf"{_NODE}/services/(?P<id>[^/]+)/restart", "srvrestart", None),
        ("POST", rf"{_NODE}/services/(?P<id>[^/]+)/reload", "srvreload", None),
        ("PUT", rf"{_NODE}/disks/wipedisk", "wipedisk", _ANY),
        ("POST", rf"{_NODE}/disks/initgpt", "diskinit", _ANY),
        ("POST", rf"{_NODE}/disks/directory", "dircreate", "name"),
        ("POST", rf"{_NODE}/disks/lvm", "lvmcreate", "name"),
        ("POST", rf"{_NODE}/disks/lvmthin", "lvmthincreate", "name"),
        ("POST", rf"{_NODE}/disks/zfs", "zfscreate", "name"),
        ("DELETE", rf"{_NODE}/disks/directory/(?P<id>[^/]+)", "dirremove", None),
        ("DELETE", rf"{_NODE}/disks/lvm/(?P<id>[^/]+)", "lvmremove", None),
        ("DELETE", rf"{_NODE}/disks/lvmthin/[^/]+", "lvmthinremove", _ANY),
        ("DELETE", rf"{_NODE}/disks/zfs/(?P<id>[^/]+)", "zfsremove", None),
        (
            "POST",
            rf"{_NODE}/(?:startall|stopall|suspendall|migrateall)",
            "startall stopall suspendall migrateall",
            _ANY,
        ),
    )
)


@dataclass(frozen=True)
class Trace:
    """The task to look for: on ``node``, of one of ``kinds``, and with ``id`` unless that is None.

    The task of a clone bears the id of its source, of which there may be many clones at once. ``made`` is the id of the
    new guest, which stands in the log (qemu-server API2/Qemu.pm clone_vm), or "" for all other tasks.
    """

    node: str
    kinds: frozenset[str]
    id: str | None
    made: str = ""

    @property
    def path(self) -> str:
        """Where the node lists its tasks."""
        return f"/nodes/{quote(self.node, safe='')}/tasks"

    def fitting(
        self, tasks: Iterable[Mapping[str, Any]], user: str, since_s: float, known: frozenset[str]
    ) -> list[Upid]:
        """The tasks of a list that ``user`` started after ``since_s`` and that are none of ``known``; newest first."""
        parts = [upid(str(t.get("upid"))) for t in tasks]
        mine = [t for t in parts if t and t.text not in known and self._fits(t, user, since_s - CLOCK_SLACK_S)]
        return sorted(mine, key=lambda t: t.start, reverse=True)

    def told_by(self, log: Iterable[str]) -> bool:
        """Whether the log of a fitting task is that of this one."""
        return not self.made or any(line.endswith(f" with ID {self.made}") for line in log)

    def _fits(self, task: Upid, user: str, since_s: float) -> bool:
        right = task.kind in self.kinds and task.user == user and task.start >= since_s
        # The worker of a disk that goes to another guest is called "100-scsi1>101-scsi0".
        return right and (self.id is None or unquote(task.id).split("-")[0] == self.id or unquote(task.id) == self.id)


def trace(request: Request) -> Trace | None:
    """The task that a write starts, or None for one that is carried out before it is answered."""
    for method, path, kinds, source in _TRACES:
        found = path.fullmatch(request.path) if method == request.method else None
        if found is None:
            continue
        if source is None:
            wanted: str | None = unquote(found["id"])
        else:
            given = request.params.get(source)
            wanted = None if given is None else str(given)
        made = str(request.params.get("newid") or "") if request.path.endswith("/clone") else ""
        return Trace(unquote(found["node"]), kinds, wanted, made)
    return None
