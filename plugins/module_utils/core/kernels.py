# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's kernels, the one that boots next, and what boot loaders hand to it: states, refusals and steps. Pure.

Facts: grub-mkconfig of GRUB 2.12 (/etc/default/grub.d), kernel-parameters.rst of Linux, proxmox-boot-tool(8): its list
of partitions is /etc/kernel/proxmox-boot-uuids, a pinned kernel is named in /etc/kernel/proxmox-boot-pin, and for one
boot in /etc/kernel/next-boot-pin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .reconcile import Params, Plan
from .state import State
from .steps import Failure, Run, Step, Write

PINS = ("/etc/kernel/next-boot-pin", "/etc/kernel/proxmox-boot-pin")
PROXMOX = re.compile(r"(?:proxmox|pve)-kernel-(?P<release>\d.*?)(?:-signed)?$")
DEBIAN = re.compile(r"linux-image-(?P<release>\d.*?)(?:-unsigned)?$")

GRUB_FILE = "/etc/default/grub.d/zz-pvelab-kernel.cfg"
GRUB_HEAD = "# Arguments of the kernel. Kept by pvelab.proxmox.kernel_arguments."
CMDLINE_FILE = "/etc/kernel/cmdline"
# There while the boot loader does not have yet what the files say.
PENDING = "/etc/kernel/pvelab-arguments-pending"
_GRUB_LINE = re.compile(r'^GRUB_CMDLINE_LINUX="\$GRUB_CMDLINE_LINUX (?P<words>[^"]*)"$', re.MULTILINE)
_ARGUMENT = re.compile(r"[A-Za-z][\w.,-]*(=[^\s\"'`$\\]+)?")


def order(release: str) -> list[tuple[int, int, str]]:
    """A key that sorts releases as boot loaders do: numbers by their value, the rest as text."""
    return [(1, int(p), "") if p.isdigit() else (0, 0, p) for p in re.findall(r"\d+|[^\d]+", release)]


def installed(images: Sequence[str], packages: Sequence[str]) -> list[dict[str, Any]]:
    """The kernels in /boot, the newest first, with the package each belongs to ("" where it is nobody's)."""
    owners = {}
    for package in packages:
        if found := PROXMOX.match(package) or DEBIAN.match(package):
            owners[found["release"]] = package
    releases = [name.removeprefix("vmlinuz-") for name in images if re.match(r"vmlinuz-\d", name)]
    return [
        {"release": r, "package": owners.get(r, ""), "proxmox": bool(PROXMOX.match(owners.get(r, "")))}
        for r in sorted(releases, key=order, reverse=True)
    ]


def next_boot(kernels: Sequence[Mapping[str, Any]], pins: Sequence[str]) -> str:
    """The release that should run: the pinned one, else the newest of Proxmox, else the newest."""
    releases = [str(k["release"]) for k in kernels]
    pinned = [pin for pin in pins if pin in releases]
    proxmox = [str(k["release"]) for k in kernels if k["proxmox"]]
    return [*pinned, *proxmox, *releases, ""][0]


# ------------------------------------------------------------------------------------------------ arguments


def name_of(word: str) -> str:
    """The name of an argument."""
    return word.partition("=")[0]


def managed(params: Params) -> set[str]:
    """The names that a task speaks of. Raises Failure for what no boot loader would take as it stands."""
    for word in (*params["present"], *params["absent"]):
        if not _ARGUMENT.fullmatch(word):
            raise Failure(f"'{word}' is no argument of a kernel. Write name or name=value, without spaces and quotes.")
    both = {name_of(w) for w in params["present"]} & {name_of(w) for w in params["absent"]}
    if both:
        raise Failure(f"{', '.join(sorted(both))} is to be both there and not there.")
    return {name_of(word) for word in (*params["present"], *params["absent"])}


def words(text: str | None, loader: str) -> list[str]:
    """The arguments in a loader's file; of GRUB's only those in the file of this module."""
    if loader == "grub":
        found = _GRUB_LINE.search(text or "")
        return found["words"].split() if found else []
    return (text or "").split()


def text_of(kept: Sequence[str], loader: str) -> str | None:
    """The loader's file with these arguments."""
    line = " ".join(kept)
    if loader == "grub":
        return f'{GRUB_HEAD}\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {line}"\n' if kept else None
    return f"{line}\n"


def arguments_wanted(params: Params) -> State:
    """The managed arguments of each loader's file, and that the loaders have them."""
    names = managed(params)
    state: State = {f"{loader}.arguments": list(params["present"]) for loader in params.get("_loaders", ()) if names}
    return {**state, "loader_updated": True}


def arguments_observed(params: Params, pending: bool, running: str) -> State:
    """The same of the host, and which of them the running kernel has."""
    names = managed(params)
    state: State = {
        f"{loader}.arguments": [w for w in words(text, loader) if name_of(w) in names]
        for loader, text in params["_loaders"].items()
    }
    runs = running.split()
    lacks = [w for w in params["present"] if w not in runs]
    left = [w for w in params["absent"] if w in runs or w in {name_of(r) for r in runs}]
    return {**state, "loader_updated": not pending, "reboot_required": bool(lacks or left)}


def arguments_steps(plan: Plan, params: Params) -> list[Step]:
    """A mark first and away last, so that an interrupted run is finished by the next one."""
    names = managed(params)
    steps: list[Step] = [Write(PENDING, "", label="note that the boot loader is behind", backup=False)]
    for loader, text in params["_loaders"].items():
        if f"{loader}.arguments" in plan.changes:
            others = [w for w in words(text, loader) if name_of(w) not in names]
            path = GRUB_FILE if loader == "grub" else CMDLINE_FILE
            kept = text_of([*others, *params["present"]], loader)
            steps.append(Write(path, kept, label=f"arguments for {loader}", backup=loader != "grub"))
    steps += [Run(tuple(argv), label="update the boot loader", timeout_s=600) for argv in params["_updates"]]
    return [*steps, Write(PENDING, None, label="the boot loader has them", backup=False)]
