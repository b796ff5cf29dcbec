# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's processes: what command lines promise and what /proc tells of them; guests' configuration files. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .propstring import UNITS, parse

MIB = 1024**2
_BINARY = re.compile(r"(?:^|/)(?:qemu-system-[\w-]+|qemu-kvm|kvm)$")
_VCPU = re.compile(r"CPU (\d+)/(KVM|TCG)")
_PID_FILE = re.compile(r"/(\d+)(?:\.pid|/qemu\.pid)$")


def is_qemu(argv: Sequence[str]) -> bool:
    """Whether a process is a QEMU with a machine in it."""
    return bool(argv) and bool(_BINARY.search(argv[0]))


def command_line(argv: Sequence[str]) -> dict[str, Any]:
    """What a QEMU was started with: ``vmid`` (None when its command line does not tell), ``name``, ``vcpus``,
    ``memory_bytes`` (with the modules plugged in at start), ``balloon`` (it has the device) and ``accelerator``.

    Proxmox VE passes the vmid with -id; others are known by a pid file of that name.
    """
    options = _options(argv)
    ids = [*options.get("id", []), *(_PID_FILE.findall(" ".join(options.get("pidfile", []))))]
    name = options.get("name", [""])[-1].partition(",")[0].removeprefix("guest=")
    smp = _values(options.get("smp", ["1"])[-1], "cpus")
    return {
        "vmid": int(ids[0]) if ids and ids[0].isdigit() else None,
        "name": name,
        "vcpus": _processors(smp),
        "memory_bytes": _memory(options),
        "balloon": any(d.startswith("virtio-balloon") for d in options.get("device", [])),
        "accelerator": _accelerator(argv[0], options),
    }


def vcpu_threads(names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Thread → its name ("CPU 0/KVM") → [{vcpu, tid, accelerator}], by vCPU. Empty without debug-threads=on."""
    found = [(int(m[1]), tid, m[2].lower()) for tid, name in names.items() if (m := _VCPU.match(name))]
    return [{"vcpu": vcpu, "tid": tid, "accelerator": engine} for vcpu, tid, engine in sorted(found)]


def status(text: str) -> dict[str, str]:
    """/proc/PID/status → its lines by name."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _none, value in pairs}


def kilobytes(entries: Mapping[str, str], name: str) -> int:
    """ "1234 kB" → bytes; 0 where there is no such entry."""
    return int(entries.get(name, "0").split()[0]) * 1024


def config(text: str) -> dict[str, str]:
    """A guest's configuration file → its keys and values; pending changes and snapshots, which come after, are not."""
    head = re.split(r"^\[", text, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^([A-Za-z][\w-]*):\s*(.*?)\s*$", head, re.MULTILINE)
    return {key: value for key, value in found if value}


def config_memory(entries: Mapping[str, str]) -> int:
    """Bytes of memory that a configuration promises; Proxmox VE's default is 512 MiB."""
    return int(parse(entries.get("memory", "512"), "current").get("current", "512")) * MIB


def config_floor(entries: Mapping[str, str]) -> int:
    """Bytes to which ballooning may shrink a guest: its memory, unless ``balloon`` says less (0 turns it off)."""
    memory, least = config_memory(entries), int(entries.get("balloon", "0")) * MIB
    return min(least, memory) if least else memory


def config_vcpus(entries: Mapping[str, str]) -> int:
    """vCPUs that a configuration promises from the start."""
    most = int(entries.get("sockets", "1")) * int(entries.get("cores", "1"))
    return min(int(entries.get("vcpus", "0")) or most, most)


def numbers(text: str) -> set[int]:
    """A list of the kernel's, "0-3,8" → {0, 1, 2, 3, 8}; Proxmox VE takes ";" and spaces between its parts, too."""
    found: set[int] = set()
    for part in filter(None, re.split(r"[,;\s]+", text.strip())):
        first, _none, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def ranges(wanted: Iterable[int]) -> str:
    """{0, 1, 2, 3, 8} → "0-3,8"."""
    parts: list[list[int]] = []
    for number in sorted(wanted):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in parts)


def _options(argv: Sequence[str]) -> dict[str, list[str]]:
    """["-m", "512", "-S"] → {"m": ["512"], "S": [""]}; an option's value never begins with a dash."""
    found: dict[str, list[str]] = {}
    for word, following in zip(argv[1:], [*argv[2:], ""], strict=True):
        if word.startswith("-"):
            found.setdefault(word.lstrip("-"), []).append("" if following.startswith("-") else following)
    return found


def _values(text: str, lead: str) -> dict[str, str]:
    """A list of QEMU's, "4,cores=2" → {lead: "4", "cores": "2"}."""
    parts = (part.partition("=") for part in text.split(",") if part)
    return {key if equals else lead: value if equals else key for key, equals, value in parts}


def _processors(smp: Mapping[str, str]) -> int:
    if "cpus" in smp:
        return int(smp["cpus"])
    each = (smp.get(key, "1") for key in ("sockets", "dies", "clusters", "cores", "threads"))
    product = 1
    for number in each:
        product *= int(number)
    return int(smp.get("maxcpus", product)) if product == 1 else product


def _memory(options: Mapping[str, list[str]]) -> int:
    """QEMU's default is 128 MiB. A module (pc-dimm) gets its size from the memory object that it names."""
    whole = _size(_values(options.get("m", ["128"])[-1], "size").get("size", "128"), MIB)
    objects = {o.get("id", ""): o.get("size", "0") for o in (_values(t, "type") for t in options.get("object", []))}
    modules = (_values(t, "driver") for t in options.get("device", []) if t.startswith("pc-dimm"))
    return whole + sum(_size(objects.get(m.get("memdev", ""), "0"), 1) for m in modules)


def _size(text: str, unit: int) -> int:
    """A bare number counts ``unit`` bytes."""
    found = re.fullmatch(r"(\d+)([KMGTP]?)B?", text.upper())
    return int(found[1]) * (UNITS[found[2]] if found[2] else unit) if found else 0


def _accelerator(program: str, options: Mapping[str, list[str]]) -> str:
    asked = [_values(t, "accel").get("accel", "") for t in options.get("accel", [])]
    asked += [_values(t, "type").get("accel", "") for t in options.get("machine", [])]
    chosen = next((a for a in asked if a), "")
    if "enable-kvm" in options or (not chosen and program.endswith("kvm")):
        return "kvm"
    return chosen.split(":")[0] or "tcg"
