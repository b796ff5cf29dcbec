# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps guests apart: what the options of a configuration ask for against what the kernel enforces. Pure.

Facts of qemu-server and PVE::CGroup: a guest starts in the scope VMID.scope of qemu.slice, with CPUWeight = cpuunits
(1 to 10000, by default 100 under cgroup v2), CPUQuota = cpulimit * 100 %, and through taskset with its affinity. Limits
of memory are not set: QEMU's own size is the limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .hypervisor_guests import config_memory, numbers, ranges
from .propstring import parse

Difference = dict[str, Any]


def cgroup_path(text: str) -> str | None:
    """/proc/PID/cgroup → the path in the unified hierarchy; None where there is none."""
    return next((line[3:] for line in text.splitlines() if line.startswith("0::")), None)


def cpu_limit(text: str | None) -> float | None:
    """cpu.max, "150000 100000" → 1.5 processors; "max 100000" → 0.0, no limit; None: the file is not there."""
    if text is None:
        return None
    quota, _none, period = text.strip().partition(" ")
    return 0.0 if quota == "max" else round(int(quota) / int(period or "100000"), 4)


def memory_limit(text: str | None) -> int | None:
    """memory.max → bytes; 0: no limit; None: the file is not there."""
    if text is None:
        return None
    return 0 if text.strip() == "max" else int(text)


def bound_nodes(numa_maps: str) -> str:
    """/proc/PID/numa_maps → the nodes that memory is bound to, as a list of the kernel's."""
    policies = (line.split()[1] for line in numa_maps.splitlines() if len(line.split()) > 1)
    found: set[int] = set()
    for policy in policies:
        name, _none, nodes = policy.partition(":")
        if name.startswith("bind"):
            found |= numbers(nodes)
    return ranges(found)


def differences(config: Mapping[str, str], real: Mapping[str, Any], online: str) -> list[Difference]:
    """Where the host does not hold what the configuration says: [{option, wanted, actual, why}].

    ``real``: as isolation_reads.look gives it; ``online``: the processors that are on, "0-7".
    """
    found = [*_cgroup(config, real), *_affinity(config, real, online), *_memory(config, real)]
    return [d for d in found if d["wanted"] != d["actual"]]


def _cgroup(config: Mapping[str, str], real: Mapping[str, Any]) -> list[Difference]:
    """Weight and limit hold only in a cgroup of the guest's own; a root cgroup has neither file."""
    group = real["cgroup"]
    weight = min(max(int(config.get("cpuunits", "100")), 1), 10000)
    limit = round(float(config.get("cpulimit", "0")), 4)
    if group["cpu_weight"] is None:
        asked = {"cpuunits": weight if "cpuunits" in config else None, "cpulimit": limit or None}
        found = [_differs(option, wanted, None, _why_not(group)) for option, wanted in asked.items()]
    else:
        found = [
            _differs("cpuunits", weight, group["cpu_weight"], f"the cgroup {group['path']} has another cpu.weight"),
            _differs("cpulimit", limit, group["cpu_limit"], f"the cgroup {group['path']} has another cpu.max"),
        ]
    why = f"the cgroup {group['path']} has a memory.max, QEMU may be killed at it"
    return [*found, _differs("memory_max", 0, group["memory_max_bytes"] or 0, why)]


def _why_not(group: Mapping[str, Any]) -> str:
    if group["own"]:
        return f"the cgroup {group['path']} has no cpu.weight, the controller is not on there"
    return f"the guest has no cgroup of its own, it shares {group['path'] or 'one of version 1'} with others"


def _affinity(config: Mapping[str, str], real: Mapping[str, Any], online: str) -> list[Difference]:
    """The list of a thread names processors that are not there, too, where the kernel could take more in."""
    present = numbers(online)
    asked = numbers(config["affinity"]) if config.get("affinity") else present
    wanted = ranges(asked & present) if asked & present else ranges(asked)
    found = []
    for thread in real["vcpus"]:
        actual = ranges(numbers(thread["affinity"]) & present)
        why = f"vCPU {thread['vcpu']} (thread {thread['tid']}) may run elsewhere"
        found.append(_differs("affinity", wanted, actual, why))
    if not real["vcpus"]:
        actual = ranges(numbers(real["affinity"]) & present)
        found.append(_differs("affinity", wanted, actual, f"the process {real['pid']} may run elsewhere"))
    allowed = real["cgroup"]["cpuset"]
    if allowed and asked & present and not asked & present <= numbers(allowed):
        found.append(_differs("affinity", wanted, allowed, "the cpuset of the cgroup leaves processors out"))
    return found


def _memory(config: Mapping[str, str], real: Mapping[str, Any]) -> list[Difference]:
    found = []
    if config.get("hugepages"):
        why = "memory of the guest is not in huge pages"
        found.append(_differs("hugepages", config_memory(config), real["hugetlb_bytes"], why))
    if config.get("allow-ksm") == "0":
        found.append(_differs("allow_ksm", 0, real["ksm_pages"], "pages of the guest are merged with others'"))
    nodes = host_nodes(config)
    if nodes:
        found.append(_differs("numa_nodes", nodes, real["numa_nodes"], "memory is bound to other nodes of the host"))
    return found


def host_nodes(config: Mapping[str, str]) -> str:
    """The nodes of the host that numa0 … numa7 bind memory to, as a list of the kernel's."""
    entries = [parse(config[key]) for key in (f"numa{n}" for n in range(8)) if config.get(key)]
    bound = (e.get("hostnodes", "") for e in entries if e.get("policy") == "bind")
    return ranges({node for text in bound for node in numbers(text)})


def _differs(option: str, wanted: Any, actual: Any, why: str) -> Difference:
    return {"option": option, "wanted": wanted, "actual": actual, "why": why}
