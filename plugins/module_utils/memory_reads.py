# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells of its memory, through the seam that is handed in."""

from __future__ import annotations

from typing import Any

from .core import memory
from .core.reconcile import Params
from .core.state import State
from .core.steps import Failure, Missing
from .core.tunables import assignments


def survey_policy(host: Any, params: Params) -> dict[str, Any]:
    """The memory that there is and the files for the boot; warns of another file that has the last word there. Raises
    Failure for what this kernel does not heed."""
    memory.policy_refuse(params, host.read(f"{memory.LRU_DIRECTORY}/enabled"))
    ours = memory.SYSCTL_FILE.rpartition("/")[2]
    for name in [n for n in host.names("/etc/sysctl.d") if n > ours and n.endswith(".conf")]:
        path = f"/etc/sysctl.d/{name}"
        for key in sorted(k.replace("/", ".") for k in assignments(host.read(path))):
            if key.startswith("vm.") and params.get(key.removeprefix("vm.")) is not None and params["persist"]:
                host.warnings.append(f"{path} sets {key}, too, and has the last word at boot. Remove the line there.")
    return {
        "_meminfo": memory.meminfo(host.read("/proc/meminfo")),
        "_text": host.read(memory.SYSCTL_FILE),
        "_boot": host.read(memory.LRU_FILE),
    }


def look_policy(host: Any, _params: Params) -> State:
    """The observed policy."""
    runtime = {name: host.read(f"/proc/sys/vm/{name}") or "0" for name in memory.VM}
    ttl = host.read(memory.LRU_PATH)
    runtime |= {} if ttl is None else {memory.LRU: ttl}
    return memory.policy_observed(runtime, host.read(memory.SYSCTL_FILE), host.read(memory.LRU_FILE))


def survey_arc(host: Any, _params: Params) -> dict[str, Any]:
    """The memory that there is, the file for the boot, and whether the root file system is ZFS'."""
    mounts = (line.split() for line in (host.read("/proc/mounts") or "").splitlines())
    return {
        "_meminfo": memory.meminfo(host.read("/proc/meminfo")),
        "_text": host.read(memory.ARC_FILE),
        "_root_on_zfs": any(words[1:3] == ["/", "zfs"] for words in mounts),
    }


def look_arc(host: Any, _params: Params) -> State:
    """The observed limits. Raises Missing where ZFS is not loaded."""
    runtime = {parameter: host.read(f"{memory.ARC}/{parameter}") for parameter in memory.ARC_KEYS.values()}
    if None in runtime.values():
        raise Missing("the module zfs is not loaded. Install zfsutils-linux and load it, or make a pool first.")
    return memory.arc_observed(runtime, host.read(memory.ARC_FILE))


def survey_huge(host: Any, _params: Params) -> dict[str, Any]:
    """The memory that there is and the file for the boot."""
    return {"_meminfo": memory.meminfo(host.read("/proc/meminfo")), "_text": host.read(memory.HUGE_FILE)}


def look_huge(host: Any, params: Params) -> State:
    """The observed pages. Raises Failure where the kernel, the processor or the NUMA node does not have such pages."""
    path = memory.huge_path(params["size"], params["numa_node"])
    total, free = (host.read(f"{path}/{name}_hugepages") for name in ("nr", "free"))
    if total is None or free is None:
        raise Failure(f"this host has no huge pages of {params['size']} there: there is no {path}.")
    return memory.huge_observed(total, free, path, host.read(memory.HUGE_FILE))
