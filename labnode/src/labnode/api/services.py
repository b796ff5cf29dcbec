# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodes/{node}/services, /apt and /capabilities: what runs, what is installed, what QEMU can do."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import psutil

from labnode import VERSION, __version__
from labnode.errors import ApiError, ParamError
from labnode.route import Ctx, route

# Services Proxmox VE shows; the first group is what labnode itself does the work of.
_OWN = {
    "pve-cluster": "Configuration file store of the node",
    "pvedaemon": "API worker of the node",
    "pveproxy": "HTTPS front of the node",
    "pvescheduler": "Scheduler of the node",
    "pvestatd": "Status collector of the node",
    "qmeventd": "Watcher of QEMU processes",
}
_SYSTEM = {
    "chrony": "chronyd", "corosync": "corosync", "cron": "cron", "ksmtuned": "ksmtuned", "postfix": "master",
    "sshd": "sshd", "syslog": "rsyslogd", "systemd-journald": "systemd-journal", "systemd-timesyncd": "systemd-timesyn",
}  # fmt: skip
_UNIT_DIRS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_PACKAGES = (
    "qemu-system-x86", "qemu-utils", "ovmf", "seabios", "swtpm", "vde2", "lvm2", "zfsutils-linux", "ifupdown2",
    "python3",
)  # fmt: skip
_DPKG_FIELDS = (
    "binary:Package", "Version", "Architecture", "Section", "Priority", "binary:Summary", "Origin", "db:Status-Status",
)  # fmt: skip
_DPKG = "\t".join(f"${{{name}}}" for name in _DPKG_FIELDS) + "\n"


def _service(name: str, running: set[str]) -> dict[str, str]:
    if name in _OWN:
        return _state(name, _OWN[name], True, "enabled")
    unit = "syslog" if name == "syslog" else "ssh" if name == "sshd" else name
    known = any(Path(folder, f"{unit}.service").exists() for folder in _UNIT_DIRS)
    return _state(name, f"{name}.service", _SYSTEM[name] in running, "enabled" if known else "not-found")


def _state(name: str, desc: str, runs: bool, unit: str) -> dict[str, str]:
    return {
        "service": name,
        "name": name,
        "desc": desc,
        "state": "running" if runs else "dead",
        "active-state": "active" if runs else "inactive",
        "unit-state": unit,
    }


def _processes() -> set[str]:
    return {process.info["name"] for process in psutil.process_iter(["name"])}


@route("GET", "/nodes/{node}/services")
async def services(ctx: Ctx) -> list[dict[str, str]]:
    """Services of the node; those of Proxmox VE itself are parts of labnode and run while it does."""
    running = await asyncio.to_thread(_processes)
    return [_service(name, running) for name in sorted([*_OWN, *_SYSTEM])]


@route("GET", "/nodes/{node}/services/{service}")
async def service_index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"subdir": name} for name in ("state", "start", "stop", "restart", "reload")]


@route("GET", "/nodes/{node}/services/{service}/state")
async def service_state(ctx: Ctx) -> dict[str, str]:
    """One service."""
    name = ctx.params["service"]
    if name not in _OWN and name not in _SYSTEM:
        raise ParamError({"service": f"labnode does not know the service '{name}'"})
    return _service(name, await asyncio.to_thread(_processes))


async def run(*argv: str, timeout: float = 20.0) -> str:
    """Standard output of a command; ApiError when it is missing, fails or takes too long."""
    try:
        proc = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as err:
        raise ApiError(f"command '{argv[0]}' is not installed") from err
    try:
        async with asyncio.timeout(timeout):
            out, _ = await proc.communicate()
    except TimeoutError:
        proc.kill()
        await proc.wait()
        raise ApiError(f"command '{argv[0]}' got timeout after {timeout:.0f} s") from None
    return out.decode(errors="replace")


@route("GET", "/nodes/{node}/apt/versions")
async def versions(ctx: Ctx) -> list[dict[str, str]]:
    """labnode and the Debian packages it stands on."""
    rows = [_package("labnode", __version__, "all", "admin", "optional", "Embedded node", "labnode", "installed")]
    rows[0]["ManagerVersion"] = VERSION
    text = await run("dpkg-query", "-W", f"-f={_DPKG}", *_PACKAGES)
    rows += [_package(*line.split("\t")) for line in text.splitlines() if line.count("\t") == 7]
    return rows


def _package(name: str, version: str, arch: str, section: str, priority: str, *rest: str) -> dict[str, str]:
    title, origin, state = rest
    return {
        "Package": name,
        "Version": version,
        "Arch": arch,
        "Section": section,
        "Priority": priority,
        "Title": title,
        "Description": title,
        "Origin": origin or "Debian",
        "CurrentState": "Installed" if state == "installed" else "NotInstalled",
    }


@route("GET", "/nodes/{node}/capabilities")
async def capabilities(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"name": "qemu"}]


@route("GET", "/nodes/{node}/capabilities/qemu")
async def qemu_capabilities(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"name": name} for name in ("cpu", "cpu-flags", "machines", "migration")]


def _vendor(model: str) -> str:
    if model in ("host", "max", "base") or model.startswith(("kvm", "qemu", "x86-64")):
        return "default"
    amd = ("EPYC", "Opteron", "athlon", "phenom", "Dhyana")
    return "AuthenticAMD" if model.startswith(amd) else "GenuineIntel"


@route("GET", "/nodes/{node}/capabilities/qemu/cpu")
async def cpu_models(ctx: Ctx) -> list[dict[str, Any]]:
    """CPU models of the installed QEMU, and Proxmox VE's own x86-64 levels."""
    text = await run("qemu-system-x86_64", "-cpu", "help")
    names = re.findall(r"^(?:x86 |  )([A-Za-z0-9][\w.\-]*)\s", text.split("Recognized CPUID")[0], re.MULTILINE)
    levels = ["x86-64-v2", "x86-64-v2-AES", "x86-64-v3", "x86-64-v4"]
    return [{"name": name, "vendor": _vendor(name), "custom": 0} for name in sorted({*names, *levels})]


@route("GET", "/nodes/{node}/capabilities/qemu/cpu-flags")
async def cpu_flags(ctx: Ctx) -> list[dict[str, str]]:
    """Flags that a guest's CPU may be given one by one."""
    names = ("aes", "amd-no-ssb", "amd-ssbd", "hv-evmcs", "hv-tlbflush", "ibpb", "md-clear", "nested-virt", "pcid",
             "pdpe1gb", "spec-ctrl", "ssbd", "virt-ssbd")  # fmt: skip
    return [{"name": name, "description": f"CPU flag {name}"} for name in names]


@route("GET", "/nodes/{node}/capabilities/qemu/machines")
async def machines(ctx: Ctx) -> list[dict[str, str]]:
    """Versioned machine types of the installed QEMU, newest first."""
    text = await run("qemu-system-x86_64", "-machine", "help")
    found = re.findall(r"^(pc-(i440fx|q35)-(\d[\d.]*))\s", text, re.MULTILINE)
    rows = [{"id": name, "type": kind, "version": version, "changes": ""} for name, kind, version in found]
    return sorted(rows, key=lambda row: [int(part) for part in row["version"].split(".")], reverse=True)


@route("GET", "/nodes/{node}/capabilities/qemu/migration")
async def migration(ctx: Ctx) -> dict[str, Any]:
    """There is no other node to migrate to."""
    return {"has-dbus-vmstate": 0}
