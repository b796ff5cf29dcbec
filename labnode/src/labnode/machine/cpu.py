# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU models: what the configuration asks for, and what this node can run. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from labnode.errors import ApiError
from labnode.guests.propstring import Format, parse

Log = Callable[[str], None]
FORMAT = Format(default_key="cputype", booleans=frozenset({"hidden", "nested-virt"}))

_V2 = ("popcnt", "pni", "sse4.1", "sse4.2", "ssse3")
_V3 = (*_V2, "aes", "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
# Proxmox VE's own models: qemu64 and what the x86-64 levels add to it
LEVELS: dict[str, tuple[str, ...]] = {
    "x86-64-v2": _V2,
    "x86-64-v2-AES": (*_V2, "aes"),
    "x86-64-v3": _V3,
    "x86-64-v4": _V4,
}
# what QEMU's TCG has no instructions for
NOT_IN_TCG = frozenset({"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"})


def cpu_argument(config: Mapping[str, str], *, kvm: bool, models: frozenset[str], warn: Log) -> str:
    """The value of -cpu. `models` are those the installed QEMU knows; with TCG a model that needs the real processor
    becomes `max`."""
    given = parse(config.get("cpu", ""), FORMAT)
    model = given.get("cputype") or ("kvm64" if kvm else "qemu64")
    flags = [flag for flag in given.get("flags", "").split(";") if flag]
    if model in LEVELS:
        have = [flag for flag in LEVELS[model] if kvm or flag not in NOT_IN_TCG]
        if len(have) < len(LEVELS[model]):
            warn(f"CPU type '{model}' runs without AVX-512 - this node emulates the processor (TCG)")
        model, extra = "qemu64", [f"+{flag}" for flag in have]
    else:
        model, extra = _known(model, kvm=kvm, models=models, warn=warn), []
    parts = [model, *extra, *flags]
    if given.get("hidden") == "1" and kvm:
        parts.append("kvm=off")
    if kvm:
        parts += ["+kvm_pv_eoi", "+kvm_pv_unhalt"]
    for key in ("phys-bits", "guest-phys-bits"):
        if value := given.get(key):
            parts.append("host-phys-bits=true" if value == "host" else f"{key}={value}")
    if given.get("hv-vendor-id") and kvm:
        parts.append(f"hv_vendor_id={given['hv-vendor-id']}")
    return ",".join(parts)


def emulated(argument: str, version: tuple[int, ...]) -> str:
    """The value of -cpu for a processor that QEMU of this version emulates. Before 8.0 cmpxchg16b leaves flags that are
    none, and a Linux whose interrupt comes right after it may die of them; so the processor does not have it."""
    return argument if version >= (8,) or "cx16" in argument else f"{argument},-cx16"


def _known(model: str, *, kvm: bool, models: frozenset[str], warn: Log) -> str:
    if model.startswith("custom-"):
        raise ApiError(f"CPU type '{model}' is not defined on this node - choose one of the built-in types")
    if model in ("host", "max"):
        if model == "host" and not kvm:
            warn("CPU type 'host' needs KVM, which this guest does not use - running with 'max'")
        return model if kvm else "max"
    if models and model not in models:
        fallback = "host" if kvm else "max"
        warn(f"CPU type '{model}' is unknown to the installed QEMU - running with '{fallback}'")
        return fallback
    return model
