# SPDX-License-Identifier: GPL-3.0-or-later
"""Swap space in compressed memory, through systemd's zram-generator: its file, the states and the steps. Pure.

Facts: zram-generator.conf(5); Documentation/admin-guide/blockdev/zram.rst of Linux.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .disks import SETTLE
from .reconcile import Params, Plan
from .state import State
from .steps import Failure, Run, Step, Write
from .swap import Area, need_room
from .tunables import in_place

DIRECTORY = "/etc/systemd/zram-generator.conf.d"
MAIN_FILES = ("/etc/systemd/zram-generator.conf", "/usr/lib/systemd/zram-generator.conf")
# What the generator calls a setting, by our name for it.
KEYS = {"size_mib": "zram-size", "algorithm": "compression-algorithm", "priority": "swap-priority"}


@dataclass(frozen=True)
class Sight:
    """What a host shows of one device: the size and algorithm that the kernel runs it with (0 and "" for none), its
    swap areas, the text of our file, and the other files that set the same device."""

    size_bytes: int
    algorithms: str
    swaps: Mapping[str, Area]
    text: str | None
    others: Sequence[str]
    memory: Mapping[str, int]
    has_directory: bool = True

    @property
    def algorithm(self) -> str:
        """The chosen one of "lzo [zstd]"."""
        found = re.search(r"\[(\S+)\]", self.algorithms)
        return found[1] if found else ""

    @property
    def known(self) -> list[str]:
        """What the kernel can compress with."""
        return self.algorithms.replace("[", "").replace("]", "").split()


def file_of(device: str) -> str:
    """The file of ours that makes a device. It is read after the main file, and so has the last word."""
    return f"{DIRECTORY}/90-pvelab-{device}.conf"


def wanted(params: Params) -> State | None:
    """The wanted state: what the kernel runs with and what the boot makes."""
    if params["state"] == "absent":
        return None
    named = {key: params[key] for key in KEYS if params[key] is not None}
    both = {f"{when}.{key}": value for when in ("runtime", "persisted") for key, value in named.items()}
    return {"runtime.active": True, **both}


def observed(device: str, seen: Sight) -> State | None:
    """The same of the host; None where there is no swap area, now or at boot."""
    area = seen.swaps.get(f"/dev/{device}")
    kept = dict(re.findall(r"^([a-z-]+) = (\S+)$", seen.text or "", re.MULTILINE))
    # a size of 0 is what keeps the device of another file away
    away = kept.get(KEYS["size_mib"]) == "0" if kept else not seen.others
    if area is None and away:
        return None
    state: State = {"runtime.active": area is not None}
    if seen.size_bytes:
        state |= {"runtime.size_mib": seen.size_bytes >> 20, "runtime.algorithm": seen.algorithm}
    if area is not None:
        state["runtime.priority"] = area.priority
    for key, name in KEYS.items():
        if name in kept:
            state[f"persisted.{key}"] = kept[name] if key == "algorithm" else int(kept[name])
    return state


def refuse(params: Params, seen: Sight) -> None:
    """Raise Failure for what this kernel cannot do."""
    if params["state"] == "absent":
        return
    if (params["size_mib"] or 0) < 1:
        raise Failure("size_mib has to be at least 1.")
    if params["size_mib"] << 20 > 2 * seen.memory["MemTotal"]:
        raise Failure(
            f"{params['size_mib']} MiB are more than twice the host's memory, and no algorithm compresses so well. "
            "Set less."
        )
    algorithm = params["algorithm"]
    if algorithm is not None and seen.known and algorithm not in seen.known:
        raise Failure(f"this kernel cannot compress with {algorithm}. It knows {', '.join(seen.known)}.")


def steps(plan: Plan, params: Params) -> list[Step]:
    """The file first, then the device, which has to be made anew for any change. Raises Failure for want of memory."""
    device, seen = params["device"], params["_seen"]
    start = Run(("systemctl", "start", f"dev-{device}.swap"), label=f"swap to {device}", timeout_s=120.0)
    if plan.action == "delete":
        lasting = text(device, {"zram-size": 0}) if seen.others else None
        return [*_stop(device, seen), *_file(device, seen, lasting)]
    made: list[Step] = []
    if any(key.startswith("persisted.") for key in plan.changes):
        made += _file(device, seen, text(device, {KEYS[key]: plan.after(f"persisted.{key}") for key in KEYS}))
    if any(key.startswith("runtime.") for key in plan.changes):
        made += [*_stop(device, seen), start]
    return made


def _stop(device: str, seen: Sight) -> list[Step]:
    if not seen.size_bytes:
        return []
    need_room(seen.swaps, f"/dev/{device}", seen.memory)
    # udev looks at what was swapped to until a moment ago, and the kernel resets no device that is open. Where the
    # service has tried too early it does not try again, so that comes last.
    return [
        Run(
            ("systemctl", "stop", f"dev-{device}.swap"),
            label=f"take back what is swapped to {device}",
            timeout_s=1800.0,
        ),
        SETTLE,
        Run(("systemctl", "stop", f"systemd-zram-setup@{device}.service"), label=f"give {device} up"),
        in_place(f"/sys/block/{device}/reset", 1, f"free the memory of {device}"),
    ]


def _file(device: str, seen: Sight, content: str | None) -> list[Step]:
    made: list[Step] = []
    if content is not None and not seen.has_directory:
        made.append(Run(("install", "--directory", "--mode=0755", DIRECTORY), label="where the file is to be"))
    label = f"{device} at boot" if content is not None else f"no {device} at boot"
    made.append(Write(file_of(device), content, label=label, backup=False))
    return [*made, Run(("systemctl", "daemon-reload"), label="let systemd make its units")]


def text(device: str, values: Mapping[str, object]) -> str:
    """The file for the generator."""
    lines = [f"{name} = {value}" for name, value in values.items() if value is not None]
    head = "# Swap space in compressed memory. Kept by pvelab.proxmox.zram."
    return "\n".join([head, f"[{device}]", *lines]) + "\n"
