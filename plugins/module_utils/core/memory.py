# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's memory policy, ZFS' cache and huge pages: states, refusals and steps. Pure.

Facts: Documentation/admin-guide/sysctl/vm.rst, mm/overcommit-accounting.rst, admin-guide/mm/multigen_lru.rst and
admin-guide/mm/hugetlbpage.rst of Linux; module/os/linux/zfs/arc_os.c and module/zfs/arc.c of OpenZFS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .reconcile import Params, Plan
from .state import State
from .steps import Failure, Run, Step, Write
from .tunables import assignments, boot_values, in_place, shown, with_assignments, with_boot_values

SYSCTL_FILE = "/etc/sysctl.d/90-pvelab-memory.conf"
SYSCTL_HEAD = "How memory is managed. Kept by pvelab.proxmox.memory_policy."
VM = (
    "swappiness", "overcommit_ratio", "overcommit_memory", "min_free_kbytes", "panic_on_oom",
    "oom_kill_allocating_task",
)  # fmt: skip
"""What can be set below /proc/sys/vm, the ratio before the mode that heeds it."""

LRU = "lru_gen_min_ttl_ms"
LRU_DIRECTORY = "/sys/kernel/mm/lru_gen"
LRU_PATH = f"{LRU_DIRECTORY}/min_ttl_ms"
LRU_FILE = "/etc/tmpfiles.d/pvelab-memory.conf"
LRU_HEAD = "How memory is managed. Kept by pvelab.proxmox.memory_policy."

ARC = "/sys/module/zfs/parameters"
ARC_FILE = "/etc/modprobe.d/zfs.conf"
ARC_KEYS = {"min_mib": "zfs_arc_min", "max_mib": "zfs_arc_max"}

HUGE_FILE = "/etc/tmpfiles.d/pvelab-hugepages.conf"
HUGE_HEAD = "Huge pages at boot. Kept by pvelab.proxmox.hugepages."
HUGE_KIB = {"2M": 2048, "1G": 1048576}


def meminfo(text: str | None) -> dict[str, int]:
    """{"MemTotal": bytes} of /proc/meminfo."""
    words = (line.split() for line in (text or "").splitlines())
    return {w[0].rstrip(":"): int(w[1]) * (1024 if w[-1] == "kB" else 1) for w in words if len(w) > 1}


# ------------------------------------------------------------------------------------------------ vm.*


def policy_wanted(params: Params) -> State:
    """runtime.NAME and, if the task persists, persisted.NAME of what the task gives."""
    named = {name: int(params[name]) for name in (*VM, LRU) if params[name] is not None}
    state: State = {f"runtime.{name}": v for name, v in named.items()}
    return state | ({f"persisted.{name}": v for name, v in named.items()} if params["persist"] else {})


def policy_observed(runtime: Mapping[str, str], text: str | None, boot: str | None) -> State:
    """The same of the host, from the texts of the kernel and of both files."""
    state: State = {f"runtime.{name}": int(v) for name, v in runtime.items()}
    kept = {k.replace("/", "."): v for k, v in assignments(text).items()}
    state |= {f"persisted.{n}": int(kept[f"vm.{n}"]) for n in VM if kept.get(f"vm.{n}", "").isdecimal()}
    ttl = boot_values(boot).get(LRU_PATH, "")
    return state | ({f"persisted.{LRU}": int(ttl)} if ttl.isdecimal() else {})


def policy_refuse(params: Params, lru: str | None) -> None:
    """Raise Failure for what this kernel does not heed; ``lru`` is the text of lru_gen/enabled, such as "0x0007"."""
    ttl = params[LRU]
    if ttl is None:
        return
    if not 0 <= ttl < 1 << 32:
        raise Failure(f"{LRU} is {ttl}. It takes a number of milliseconds, or 0 for none.")
    if lru is None:
        raise Failure(f"this kernel has no {LRU_DIRECTORY}. It takes one built with LRU_GEN; leave {LRU} away.")
    if ttl and not int(lru, 16) & 1:
        raise Failure(f"lru_gen is off, so the kernel would not heed {LRU}. Write y to {LRU_DIRECTORY}/enabled first.")


def policy_steps(plan: Plan, params: Params) -> list[Step]:
    """The kernel first, then the file. Raises Failure for what would leave the host without memory."""
    memory, touched = params["_meminfo"], set(plan.changes)
    if (params["min_free_kbytes"] or 0) * 1024 > memory["MemTotal"] // 4:
        raise Failure("min_free_kbytes would keep more than a quarter of all memory from use. Set less.")
    strict = plan.after("runtime.overcommit_memory") == 2
    if strict and {"runtime.overcommit_memory", "runtime.overcommit_ratio"} & touched:
        ratio = plan.after("runtime.overcommit_ratio", 50)
        limit = memory["MemTotal"] * ratio // 100 + memory.get("SwapTotal", 0)
        if memory.get("Committed_AS", 0) > limit:
            raise Failure(
                f"overcommit_memory: 2 with overcommit_ratio {ratio} allows {limit >> 20} MiB and "
                f"{memory['Committed_AS'] >> 20} MiB are promised already, so nothing could start any more. "
                "Set a higher overcommit_ratio."
            )
    steps: list[Step] = [
        in_place(f"/proc/sys/vm/{name}", plan.after(f"runtime.{name}"), f"vm.{name}")
        for name in VM
        if f"runtime.{name}" in plan.changes
    ]
    if f"runtime.{LRU}" in plan.changes:
        steps.append(in_place(LRU_PATH, plan.after(f"runtime.{LRU}"), "lru_gen: min_ttl_ms"))
    changes = {f"vm.{n}": shown(plan.after(f"persisted.{n}")) for n in VM if f"persisted.{n}" in plan.changes}
    if changes:
        text = with_assignments(params["_text"], changes, SYSCTL_HEAD, " = ")
        steps.append(Write(SYSCTL_FILE, text, label="memory policy at boot", backup=False))
    if f"persisted.{LRU}" in plan.changes:
        text = with_boot_values(params["_boot"], {LRU_PATH: shown(plan.after(f"persisted.{LRU}"))}, LRU_HEAD)
        steps.append(Write(LRU_FILE, text, label="lru_gen at boot", backup=False))
    return steps


# ------------------------------------------------------------------------------------------------ ZFS' cache


def arc_wanted(params: Params) -> State:
    """Limits in bytes, as the module's parameters have them; 0 is ZFS' own choice."""
    named = {name: params[name] << 20 for name in ARC_KEYS if params[name] is not None}
    state: State = {f"runtime.{name.removesuffix('_mib')}_bytes": v for name, v in named.items()}
    return state | (
        {f"persisted.{name.removesuffix('_mib')}_bytes": v for name, v in named.items()} if params["persist"] else {}
    )


def arc_observed(runtime: Mapping[str, str], text: str | None) -> State:
    """The same of the host, from the parameters' texts and modprobe.d."""
    state: State = {}
    for name, parameter in ARC_KEYS.items():
        key = f"{name.removesuffix('_mib')}_bytes"
        state[f"runtime.{key}"] = int(runtime[parameter])
        found = re.findall(rf"^\s*options\s+zfs\s.*?\b{parameter}=(\d+)", text or "", re.MULTILINE)
        if found:
            state[f"persisted.{key}"] = int(found[-1])
    return state


def arc_refuse(params: Params) -> None:
    """Raise Failure for limits that ZFS does not take."""
    low, high, total = params["min_mib"], params["max_mib"], params["_meminfo"]["MemTotal"] >> 20
    if high and (high < 64 or high >= total):
        raise Failure(f"max_mib is {high}. ZFS takes 64 or more, and less than the host's memory of {total} MiB.")
    if low and high and low >= high:
        raise Failure(f"min_mib ({low}) has to be less than max_mib ({high}).")


def arc_steps(plan: Plan, params: Params) -> list[Step]:
    """Growing limits from above, shrinking ones from below: ZFS refuses a minimum over its maximum at any moment."""
    arc_refuse(params)
    have = plan.have or {}
    grows = plan.after("runtime.max_bytes") >= have["runtime.max_bytes"]
    order = ("max_mib", "min_mib") if grows else ("min_mib", "max_mib")
    steps: list[Step] = []
    changes: dict[str, int] = {}
    for name in order:
        key, parameter = f"{name.removesuffix('_mib')}_bytes", ARC_KEYS[name]
        if f"runtime.{key}" in plan.changes:
            steps.append(in_place(f"{ARC}/{parameter}", plan.after(f"runtime.{key}"), f"ZFS' cache: {name}"))
        if f"persisted.{key}" in plan.changes:
            changes[parameter] = plan.after(f"persisted.{key}")
    if changes:
        text = module_options(params["_text"], "zfs", changes)
        steps.append(Write(ARC_FILE, text, label="limits of ZFS' cache at boot"))
        if params["_root_on_zfs"]:
            # There the module is loaded before the root file system, and with it this file, is.
            argv = ("update-initramfs", "-u", "-k", "all")
            steps.append(Run(argv, label="take the limits into the initramfs", timeout_s=900))
    return steps


def module_options(text: str | None, module: str, values: Mapping[str, int]) -> str:
    """The text of a modprobe.d file with parameters of a module set where they are, or in a line of their own."""
    left = dict(values)

    def changed(line: str) -> str:
        if not re.match(rf"^\s*options\s+{module}\s", line):
            return line
        for name in [n for n in values if re.search(rf"\b{n}=", line)]:
            left.pop(name, None)
            line = re.sub(rf"\b{name}=\S*", f"{name}={values[name]}", line)
        return line

    lines = [changed(line) for line in (text or "").splitlines()]
    return "\n".join([*lines, *(f"options {module} {name}={value}" for name, value in left.items())]) + "\n"


# ------------------------------------------------------------------------------------------------ huge pages


def huge_path(size: str, numa_node: int | None) -> str:
    """The directory of the kernel for pages of a size, of one NUMA node or of all."""
    base = "/sys/kernel/mm" if numa_node is None else f"/sys/devices/system/node/node{numa_node}"
    return f"{base}/hugepages/hugepages-{HUGE_KIB[size]}kB"


def huge_wanted(params: Params) -> State:
    """The number of pages now and, if the task persists, at boot, where none need no line."""
    boot = (params["count"] or "") if params["persist"] else None
    return {"runtime.count": params["count"], "persisted.count": boot}


def huge_observed(total: str, free: str, path: str, text: str | None) -> State:
    """How many there are, how many of them are free, and how many the boot makes."""
    state: State = {"runtime.count": int(total), "runtime.free": int(free)}
    boot = boot_values(text).get(f"{path}/nr_hugepages", "")
    return state | ({"persisted.count": int(boot)} if boot.isdecimal() else {})


def huge_steps(plan: Plan, params: Params) -> Sequence[Step]:
    """Raises Failure where guests use more pages than are to be left, or memory is short."""
    have, path = plan.have or {}, huge_path(params["size"], params["numa_node"])
    steps: list[Step] = []
    if "runtime.count" in plan.changes:
        count, used = params["count"], have["runtime.count"] - have["runtime.free"]
        if count < used:
            raise Failure(f"{used} of these pages are in use. Stop the guests that use them, or leave at least {used}.")
        more = (count - have["runtime.count"]) * HUGE_KIB[params["size"]] * 1024
        available = params["_meminfo"].get("MemAvailable", 0)
        if more > available:
            raise Failure(
                f"this takes {more >> 20} MiB more, and only {available >> 20} MiB are available. Take fewer."
            )
        steps.append(in_place(f"{path}/nr_hugepages", count, f"{count} pages of {params['size']}"))
    if "persisted.count" in plan.changes:
        values = {f"{path}/nr_hugepages": str(params["count"]) if params["count"] else None}
        text = with_boot_values(params["_text"], values, HUGE_HEAD)
        steps.append(Write(HUGE_FILE, text, label="huge pages at boot", backup=False))
    return steps
