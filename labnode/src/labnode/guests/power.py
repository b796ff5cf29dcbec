# SPDX-License-Identifier: GPL-3.0-or-later
"""Start, stop, shut down, reboot, suspend and resume (``vm_start``, ``_do_vm_stop`` and RunState of qemu-server)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from labnode.errors import ApiError
from labnode.guests import apply, hooks, options, values
from labnode.guests.configfile import GuestConfig, Section
from labnode.guests.drive import drives
from labnode.guests.out import QUIET, Out
from labnode.guests.propstring import PropertyError
from labnode.machine.model import Earlier

if TYPE_CHECKING:
    from labnode.guests.service import GuestService

SHUTDOWN_TIMEOUT = 60
START_TIMEOUT = 60
STATE_KEYS = ("vmstate", "runningmachine", "runningcpu", "running-nets-host-mtu")


async def start(
    g: GuestService,
    vmid: int,
    out: Out,
    *,
    skiplock: bool = False,
    machine: str | None = None,
    timeout: int | None = None,
) -> None:
    """Start the guest, or resume it from the disk it was suspended to; ApiError says why not."""
    async with g.locked(vmid):
        conf = g.load(vmid)
        if conf.is_template:
            raise ApiError("you can't start a vm if it's a template")
        suspended = conf.lock == "suspended"
        if conf.lock == "backup" and g.running(vmid):
            await g.machines.cont(vmid)
            return
        if not (skiplock or suspended):
            g.check_lock(conf)
        if g.running(vmid):
            raise ApiError(f"VM {vmid} already running")
        if suspended or "vmstate" in conf.main:
            await _resume_from_disk(g, vmid, conf, out)
        else:
            await _start(g, vmid, conf, out, machine=machine, timeout=timeout)


async def _start(
    g: GuestService, vmid: int, conf: GuestConfig, out: Out, *, machine: str | None, timeout: int | None
) -> None:
    if conf.pending:
        await apply.apply_pending(g, vmid, conf, out)
    for key in [k for k in STATE_KEYS[1:] if k in conf.main]:
        out.log(f"No VM state set, removing left-over option '{key}'")
        del conf.main[key]
    conf.special.pop("cloudinit", None)
    g.save(vmid, conf)
    await hooks.run(g, vmid, conf, "pre-start", out)
    earlier = Earlier(machine=machine)
    await g.machines.start(vmid, conf.main, earlier=earlier, warn=out.warn, timeout=timeout or START_TIMEOUT)
    await hooks.run(g, vmid, conf, "post-start", out)


async def start_from_state(g: GuestService, vmid: int, conf: GuestConfig, state: Mapping[str, str], out: Out) -> None:
    """Start with the memory of ``state["vmstate"]``, on the machine and CPU it was saved on. Hold the flock."""
    if mtus := state.get("running-nets-host-mtu"):
        for item in mtus.split(","):
            net, _, mtu = item.partition("=")
            out.log(f"netdev {net}: using 'host_mtu={mtu}' for migration compat")
    memory = Path(g.storage.path(state["vmstate"]))
    earlier = Earlier(memory, state.get("runningmachine"), state.get("runningcpu"))
    await g.machines.start(vmid, conf.main, earlier=earlier, warn=out.warn)


async def _resume_from_disk(g: GuestService, vmid: int, conf: GuestConfig, out: Out) -> None:
    if "vmstate" in conf.main:
        await start_from_state(g, vmid, conf, conf.main, out)
    else:
        await g.machines.start(vmid, conf.main, warn=out.warn)
    out.log("Resumed VM, removing state")
    await forget_state(g, vmid, conf, out)


async def forget_state(g: GuestService, vmid: int, conf: GuestConfig, out: Out) -> None:
    """The guest runs again: free the saved memory and unlock."""
    volid = conf.main.get("vmstate")
    for key in (*STATE_KEYS, "lock"):
        conf.main.pop(key, None)
    g.save(vmid, conf)
    if volid:
        await g.storage.free(volid, log=QUIET.log)


async def stop(
    g: GuestService,
    vmid: int,
    out: Out,
    *,
    shutdown: bool = False,
    force: bool | None = None,
    timeout: int | None = None,
    skiplock: bool = False,
) -> None:
    """End the guest: by asking it (``shutdown``), else by ending QEMU. ``force`` ends QEMU after an asked guest did not
    go in time (always so without ``shutdown``). Not running is no error. Pending changes are applied after it."""
    async with g.locked(vmid):
        await stop_locked(g, vmid, out, shutdown=shutdown, force=force, timeout=timeout, skiplock=skiplock)


async def stop_locked(
    g: GuestService,
    vmid: int,
    out: Out,
    *,
    shutdown: bool = False,
    force: bool | None = None,
    timeout: int | None = None,
    skiplock: bool = False,
) -> None:
    """As ``stop``; the caller holds the flock."""
    if not g.running(vmid):
        return
    conf = g.load(vmid)
    if not skiplock:
        g.check_lock(conf)
    await hooks.run(g, vmid, conf, "pre-stop", out)
    if shutdown:
        down = values.startup(conf.main).down
        seconds = timeout if timeout is not None else down or SHUTDOWN_TIMEOUT
        if not await g.machines.shutdown(vmid, timeout=seconds, agent=bool(values.agent(conf.main))):
            if not force:
                raise ApiError("VM quit/powerdown failed - got timeout")
            out.warn("VM still running - terminating now with SIGTERM")
            await g.machines.stop(vmid)
    else:
        await g.machines.stop(vmid)
    await gone(g, vmid, conf, out)
    await hooks.run(g, vmid, conf, "post-stop", out)


async def gone(g: GuestService, vmid: int, conf: GuestConfig, out: Out) -> None:
    """After the process ended: free what it held and apply what waited for this. Hold the flock."""
    await g.machines.cleanup(vmid)
    if conf.pending and not conf.lock:
        await apply.apply_pending(g, vmid, conf, out)


async def reboot(g: GuestService, vmid: int, out: Out, *, timeout: int | None = None) -> None:
    """Shut the guest down and start it again with its pending changes applied."""
    async with g.locked(vmid):
        await stop_locked(g, vmid, out, shutdown=True, timeout=timeout)
    await start(g, vmid, out)


async def reset(g: GuestService, vmid: int, *, skiplock: bool = False) -> None:
    """The reset button."""
    async with g.locked(vmid):
        if not skiplock:
            g.check_lock(g.load(vmid))
        await g.machines.reset(vmid)


async def pause(g: GuestService, vmid: int, *, skiplock: bool = False) -> None:
    """Stop the virtual CPUs."""
    async with g.locked(vmid):
        conf = g.load(vmid)
        if not skiplock and conf.lock != "backup":
            g.check_lock(conf)
        await g.machines.pause(vmid)


async def resume(g: GuestService, vmid: int, out: Out, *, skiplock: bool = False) -> None:
    """Let a paused guest run on, or start one that is suspended to disk."""
    if g.load(vmid).lock == "suspended":
        await start(g, vmid, out, skiplock=skiplock)
        return
    async with g.locked(vmid):
        status = await g.machines.status(vmid)
        conf = g.load(vmid)
        if conf.is_template:
            raise ApiError(f"VM {vmid} is a template and cannot be resumed!")
        if status == "running":
            return
        if not skiplock and conf.lock != "backup":
            g.check_lock(conf)
        if status == "shutdown":
            await g.machines.reset(vmid)
        await g.machines.cont(vmid)


async def suspend_to_disk(g: GuestService, vmid: int, out: Out, storage: str, *, skiplock: bool = False) -> None:
    """Save memory to a volume and end QEMU; the next start resumes. On failure ``lock: suspending`` stays as a sign."""
    async with g.locked(vmid):
        conf = g.load(vmid)
        if conf.lock == "backup":
            raise ApiError("cannot suspend to disk during backup")
        if not skiplock:
            g.check_lock(conf)
        conf.main["lock"] = "suspending"
        name = f"suspend-{time.strftime('%Y-%m-%d')}"
        conf.main.update(await new_state(g, vmid, conf.main, name=name, storage=storage, out=out))
        g.save(vmid, conf)
    volid = conf.main["vmstate"]
    try:
        await g.machines.save_ram(vmid, g.storage.path(volid), log=out.log)
    except BaseException:
        await _undo_suspend(g, vmid, volid)
        raise
    async with g.locked(vmid):
        conf = g.load(vmid)
        if conf.lock != "suspending":
            raise ApiError("lock changed unexpectedly")
        out.log("State saved, quitting")
        conf.main["lock"] = "suspended"
        g.save(vmid, conf)
        await g.machines.quit(vmid)
        await g.machines.cleanup(vmid)


async def _undo_suspend(g: GuestService, vmid: int, volid: str) -> None:
    async with g.locked(vmid):
        conf = g.load(vmid)
        for key in STATE_KEYS:
            conf.main.pop(key, None)
        g.save(vmid, conf)
        await g.storage.free(volid)
        if g.running(vmid):
            await g.machines.cont(vmid)


async def new_state(g: GuestService, vmid: int, section: Section, *, name: str, storage: str, out: Out) -> Section:
    """Allocate the volume for a guest's memory, and note the machine and CPU it is saved on."""
    await g.storage.activate(storage)
    in_files = "qcow2" in g.storage.formats(storage)
    volname = f"vm-{vmid}-state-{name}" + (".raw" if in_files else "")
    size = g.machines.ram_size(section)
    info = await g.machines.info(vmid)
    await g.machines.settled()
    found = {
        "vmstate": await g.storage.alloc(storage, vmid, "raw", size, name=volname, log=out.log),
        "runningmachine": info.running_machine if info else "",
        "runningcpu": _running_cpu(g, vmid, section),
        "running-nets-host-mtu": _host_mtus(section),
    }
    return {k: v for k, v in found.items() if v}


def _running_cpu(g: GuestService, vmid: int, section: Section) -> str:
    line = g.machines.command_line(vmid, section)
    return line[line.index("-cpu") + 1] if "-cpu" in line else ""


def _host_mtus(section: Section) -> str:
    found = []
    for key in sorted(k for k in section if options.kind(k) == "net"):
        try:
            net = values.parse_net(section[key])
        except PropertyError:
            continue
        if net.get("model") == "virtio":
            mtu = net.get("mtu", "1500")
            found.append(f"{key}={'1500' if mtu == '1' else mtu}")
    return ",".join(found)


def state_storage(g: GuestService, section: Section) -> str:
    """Where memory is saved: the storage the guest names, else a shared one of its disks, else a local one of them."""
    if named := section.get("vmstatestorage"):
        return named
    chosen: dict[bool, str] = {}
    for storeid in sorted({d.storeid for d in drives(section) if d.storeid and not d.is_cdrom}):
        definition = g.storage.definition(storeid)
        if definition.shared not in chosen or "path" in definition.options:
            chosen[definition.shared] = storeid
    return chosen.get(True) or chosen.get(False) or "local"
