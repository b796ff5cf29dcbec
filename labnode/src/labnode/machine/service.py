# SPDX-License-Identifier: GPL-3.0-or-later
"""MachineService: the QEMU processes behind guests.

`config` is always the flat mapping of a guest's configuration file: keys of qm.conf, values as text there
(`{"scsi0": "local:100/vm-100-disk-0.qcow2,size=2G", "memory": "256", ...}`), without snapshot sections.
Processes are detached from labnode: they live on when it dies and are found again by their pid file.
All errors are `ApiError` with one sentence naming guest, cause and remedy, or Proxmox VE's own text where one is
recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from labnode.errors import ApiError
from labnode.guests import values
from labnode.guests.propstring import Format, parse
from labnode.machine import cloudinit, command, disk_ops, hotplug, scope, tpm
from labnode.machine.drives import Medium
from labnode.machine.guest import Guest
from labnode.machine.looking import look
from labnode.machine.model import ANEW, Earlier, Qemu, RunInfo
from labnode.machine.nics import Way, netdev_args
from labnode.machine.places import clear_sockets
from labnode.machine.qmp import agent as ask_agent
from labnode.machine.switch import Switch
from labnode.storage import StorageService
from labnode.storage.run import run

Config = Mapping[str, str]
Log = Callable[[str], None]
Hold = Callable[[int], contextlib.AbstractAsyncContextManager[None]]
TEND_S = 2.0
logger = logging.getLogger(__name__)


def silent(_line: str) -> None:
    """A log for callers that have none."""


class MachineService:
    """Starts, watches, changes and stops the QEMU process of every guest of this node."""

    def __init__(
        self, run_dir: Path, node: str, storage: StorageService, switch: Switch, qemu: Qemu, *, scopes: bool = False
    ) -> None:
        """`run_dir` is STATE/run (one directory a guest below it); `switch` is the loopback network; `qemu` what is
        installed; with `scopes` every guest gets a control group from systemd (needs root)."""
        self.scopes = scopes
        self.run_dir = run_dir
        self.node = node
        self.storage = storage
        self.switch = switch
        self.qemu = qemu
        self._guests: dict[int, Guest] = {}
        self._tending: asyncio.Task[None] | None = None

    def guest(self, vmid: int) -> Guest:
        """The guest's process, running or not."""
        return self._guests.setdefault(vmid, Guest(self.run_dir, vmid))

    # life ---------------------------------------------------------------------------------------------------------

    async def start(
        self,
        vmid: int,
        config: Config,
        *,
        earlier: Earlier = ANEW,
        paused: bool = False,
        warn: Log = silent,
        timeout: float = 60.0,
    ) -> int:
        """Start the guest and return its pid once QEMU answers on QMP.

        `earlier` resumes from saved memory, `paused` leaves the virtual CPUs stopped, `warn` gets what had to be left
        out (a warning of the task). ApiError when a volume, bridge, firmware or device is missing, with nothing left
        running; "VM 100 already running" when it is."""
        guest = self.guest(vmid)
        if guest.pid is not None:
            raise ApiError(f"VM {vmid} already running")
        await self.cleanup(vmid)
        await self._prepare(vmid, config)
        await self.settled()
        try:
            plan = await self._plan(vmid, config, warn, earlier)
            pid = await self._launch(plan, earlier.state_file, timeout)
            if not paused and config.get("freeze", "0") != "1":
                await self.qmp(vmid, "cont")
        except BaseException:
            await self.stop(vmid)
            raise
        return pid

    async def _prepare(self, vmid: int, config: Config) -> None:
        for nic in command.nics(config):
            if nic.bridge:
                self.switch.need(nic.bridge)
        await self._activate_volumes(config)
        if cloudinit.drive(config):
            await self.cloudinit_write(vmid, config)

    async def _launch(self, plan: command.Plan, state_file: Path | None, timeout: float) -> int:
        guest = self.guest(plan.vmid)
        guest.places.make()
        await tpm.start(plan)
        incoming = ["-incoming", "defer"] if state_file else []
        argv = [*command.build(plan), *incoming]
        if self.scopes:
            argv = scope.wrap(plan.vmid, plan.config, argv)
        pid = await guest.spawn(argv, plan.meta(), timeout=timeout)
        if state_file:
            await guest.load(state_file, timeout=max(timeout, 300.0))
        await hotplug.settle(guest, plan.config)
        return pid

    async def weigh(self, vmid: int, config: Config) -> None:
        """Apply the CPU weight and limit of `config` to a running guest; nothing without control groups."""
        if self.scopes and self.alive(vmid):
            await run(scope.adjustment(vmid, config), error=f"{vmid}.scope", timeout=20)

    async def _activate_volumes(self, config: Config) -> None:
        for key, text in config.items():
            if key.rstrip("0123456789") not in ("ide", "sata", "scsi", "virtio", "efidisk", "tpmstate"):
                continue
            file = parse(text, Format("file")).get("file", text)
            if ":" in file and not file.startswith("/"):
                await self.storage.activate_volume(file)

    async def _plan(self, vmid: int, config: Config, warn: Log, earlier: Earlier) -> command.Plan:
        ways = {nic.key: (nic, await self.switch.plug(vmid, nic)) for nic in command.nics(config)}
        netdevs = {key: netdev_args(nic, way) for key, (nic, way) in ways.items()}
        direct = frozenset(key for key, (_nic, way) in ways.items() if way.direct)
        places = self.guest(vmid).places
        return command.Plan(
            vmid, config, self.qemu, places, self.storage, warn, netdevs, direct, earlier.machine, earlier.cpu
        )

    async def settled(self) -> None:
        """Return once it is known whether KVM works here: a guest's command line depends on it."""
        await self.qemu.settled()

    def alive(self, vmid: int) -> bool:
        """Whether the guest's process runs (checked in /proc against pid reuse; no QMP, so never blocks)."""
        return self.guest(vmid).pid is not None

    def running(self) -> dict[int, int]:
        """Every running guest of this node: vmid to pid."""
        found = {}
        for path in self.run_dir.iterdir() if self.run_dir.is_dir() else []:
            if path.name.isdigit() and (pid := self.guest(int(path.name)).pid) is not None:
                found[int(path.name)] = pid
        return found

    async def stop(self, vmid: int, *, timeout: float = 10.0) -> None:
        """End the process at once: QMP quit, SIGTERM, SIGKILL. Not running is no error."""
        await self.guest(vmid).kill(timeout=timeout)
        await self.cleanup(vmid)

    async def shutdown(self, vmid: int, *, timeout: float, agent: bool = False) -> bool:
        """Ask the guest to power down (by its agent if `agent`) and wait up to `timeout` seconds; True when it is
        gone."""
        guest = self.guest(vmid)
        if guest.pid is None:
            return True
        asked = False
        if agent:
            # a guest that powers down gives no answer; only the missing agent counts
            with contextlib.suppress(ApiError):
                await self.agent(vmid, "guest-ping", timeout=min(timeout, 3.0))
                asked = True
                await self.agent(vmid, "guest-shutdown", timeout=min(timeout, 3.0))
        if not asked:
            with contextlib.suppress(ApiError):
                await self.qmp(vmid, "system_powerdown")
        if not await guest.gone(timeout):
            return False
        await self.cleanup(vmid)
        return True

    async def reset(self, vmid: int) -> None:
        """Hard reset."""
        await self.qmp(vmid, "system_reset")

    async def pause(self, vmid: int) -> None:
        """Stop the virtual CPUs (`qm suspend`)."""
        await self.qmp(vmid, "stop")

    async def cont(self, vmid: int) -> None:
        """Let the virtual CPUs run, or wake the guest from suspend."""
        if await self.status(vmid) == "suspended":
            await self.qmp(vmid, "system_wakeup")
        else:
            await self.qmp(vmid, "cont")

    async def quit(self, vmid: int, *, timeout: float = 10.0) -> None:
        """End QEMU in good order (after its memory has been saved)."""
        await self.stop(vmid, timeout=timeout)

    def tend(self, config_of: Callable[[int], Config], hold: Hold) -> None:
        """From now on start switches anew that died, and lead the NICs of running guests to them again. `config_of`
        reads a guest's configuration, `hold` keeps others from changing it meanwhile."""
        self._tending = asyncio.get_running_loop().create_task(self._tend(config_of, hold), name="tend-switches")

    async def _tend(self, config_of: Callable[[int], Config], hold: Hold) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            for vmid in self.running():
                try:
                    if not self.cut_off(vmid, config_of(vmid)):
                        continue
                    async with hold(vmid):
                        if self.alive(vmid) and self.cut_off(vmid, config_of(vmid)):
                            await self.reconnect(vmid, config_of(vmid))
                except (ApiError, OSError) as err:
                    logger.warning("guest %s is cut off from its network: %s", vmid, err)

    def cut_off(self, vmid: int, config: Config) -> bool:
        """Whether the switch of one of the guest's bridges died (or was started anew for another guest)."""
        mine = [nic.bridge for nic in command.nics(config) if nic.bridge and self.switch.known(nic.bridge)]
        return any(not self.switch.active(name) for name in mine) or self.switch.unplugged(vmid, mine)

    async def reconnect(self, vmid: int, config: Config) -> None:
        """Lead the NICs of a running guest to their bridges again, starting switches that died."""
        logger.warning("guest %s: a switch of its bridges died, connecting it again", vmid)
        await hotplug.reconnect(self._change(vmid, config))

    async def leave(self) -> None:
        """Look after the guests no more; they and their switches go on."""
        if self._tending:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)

    async def stop_all(self, *, timeout: float = 10.0) -> None:
        """Stop every guest, shutdown first where a timeout allows, and the switches after them."""
        await self.leave()
        await asyncio.gather(*(self.stop(vmid, timeout=timeout) for vmid in self.running()))
        await self.switch.down_all()
        if not self.running() and not self.switch.running():
            clear_sockets(self.run_dir)

    async def cleanup(self, vmid: int) -> None:
        """After a guest went away by itself: free ports and sockets. Idempotent."""
        guest = self.guest(vmid)
        if guest.pid is not None:
            return
        await self.switch.unplug(vmid)
        await tpm.stop(guest.places)
        guest.forget()

    # looking ------------------------------------------------------------------------------------------------------

    async def info(self, vmid: int, config: Config | None = None) -> RunInfo | None:
        """What the guest is doing, None when it does not run. `config` gives the number of CPUs for `cpu`."""
        cpus = values.cpus(config or {})
        traffic = await asyncio.to_thread(self.switch.traffic, vmid)
        return await look(self.guest(vmid), cpus, traffic, self.qemu)

    async def status(self, vmid: int) -> str:
        """QMP's run state (running, paused, io-error, prelaunch, ...), `stopped` when there is no process."""
        if not self.alive(vmid):
            return "stopped"
        try:
            found = await self.qmp(vmid, "query-status")
        except ApiError:
            if not self.alive(vmid):
                return "stopped"
            raise
        return str(found["status"])

    async def qmp(self, vmid: int, command: str, /, **args: Any) -> Any:
        """One QMP command; ApiError "VM 100 qmp command 'x' failed - ..." or "VM 100 not running"."""
        async with self.guest(vmid).monitor() as monitor:
            return await monitor(command, **args)

    async def hmp(self, vmid: int, line: str) -> str:
        """One line of the human monitor, its answer as text."""
        return str(await self.qmp(vmid, "human-monitor-command", command_line=line))

    async def sendkey(self, vmid: int, key: str) -> None:
        """Press keys (`ctrl-alt-delete`), QEMU's names."""
        answer = await self.hmp(vmid, f"sendkey {key}")
        if answer.strip():
            raise ApiError(answer.strip())

    def command_line(self, vmid: int, config: Config, *, warn: Log = silent) -> list[str]:
        """The argument list a start would use now (`qm showcmd`); the switch ports in it are examples."""
        found = {}
        for nic in command.nics(config):
            bridge = nic.bridge or ""
            sock = str(self.switch.sockets(bridge) / "ctl")
            netdev = (
                {"type": "vde", "id": f"net-{nic.key}", "sock": sock}
                if bridge
                else {"type": "user", "id": f"net-{nic.key}"}
            )
            found[nic.key] = netdev_args(nic, Way(netdev))
        plan = command.Plan(vmid, config, self.qemu, self.guest(vmid).places, self.storage, warn, found)
        return command.build(plan)

    # state and disks ----------------------------------------------------------------------------------------------

    async def save_ram(self, vmid: int, path: Path, *, log: Log = silent, timeout: float = 600.0) -> int:
        """Write memory and device state to `path`; leaves the guest paused. Bytes written. Undo with `cont`."""
        before = time.monotonic()
        size = await self.guest(vmid).save(path, self.qemu.version, timeout=timeout)
        log(f"completed saving the VM state in {time.monotonic() - before:.0f}s, saved {size / (1 << 20):.2f} MiB")
        return size

    def ram_size(self, config: Config) -> int:
        """Bytes a vmstate volume needs for this guest: twice its memory and 500 MiB for devices, as Proxmox VE
        reckons."""
        return (values.memory_mib(config) * 2 + 500) << 20

    async def block_snapshot(self, vmid: int, drive: str, name: str) -> None:
        """Internal qcow2 snapshot `name` of drive `scsi0` in the running guest."""
        async with self.guest(vmid).monitor(timeout=300.0) as qmp:
            await qmp("blockdev-snapshot-internal-sync", device=await disk_ops.node_of(qmp, drive), name=name)

    async def block_snapshot_delete(self, vmid: int, drive: str, name: str) -> None:
        """Remove an internal snapshot in the running guest; one that is not there is no error."""
        async with self.guest(vmid).monitor(timeout=300.0) as qmp:
            node = await disk_ops.node_of(qmp, drive)
            try:
                await qmp("blockdev-snapshot-delete-internal-sync", device=node, name=name)
            except ApiError as err:
                if "does not exist" not in err.message:
                    raise

    async def resize(self, vmid: int, drive: str, size: int) -> None:
        """Grow a running guest's drive to `size` bytes."""
        async with self.guest(vmid).monitor() as qmp:
            await qmp("block_resize", node_name=await disk_ops.node_of(qmp, drive), size=size)

    async def mirror(self, vmid: int, drive: str, target: str, *, log: Log = silent) -> None:
        """Move a running guest's drive to the (allocated) volume `target` and use that from then on."""
        volume = self.storage.parse(target)
        await disk_ops.mirror(self.guest(vmid), drive, self.storage.path(target), volume.fmt, log)

    async def backup(self, vmid: int, targets: Mapping[str, Path], *, log: Log = silent) -> None:
        """Copy drives of a running guest, all as they are at one moment, into raw files of their size."""
        await disk_ops.backup(self.guest(vmid), {key: Medium(path, "raw") for key, path in targets.items()}, log)

    async def copy(self, vmid: int, targets: Mapping[str, str], *, log: Log = silent) -> None:
        """Copy drives of a running guest, all as they are at one moment, into allocated volumes; it runs on."""
        media = {key: Medium(self.storage.path(v), self.storage.parse(v).fmt) for key, v in targets.items()}
        await disk_ops.backup(self.guest(vmid), media, log)

    # change while running -----------------------------------------------------------------------------------------

    def _change(self, vmid: int, config: Config) -> hotplug.Live:
        return hotplug.Live(self.guest(vmid), config, self.qemu, self.storage, self.switch)

    async def plug(self, vmid: int, key: str, value: str, config: Config) -> None:
        """Add a disk (scsiN, virtioN), a NIC (netN) or a usb device; ApiError "hotplug problem - ..." when QEMU will
        not."""
        await hotplug.plug(self._change(vmid, config), key, value)

    async def unplug(self, vmid: int, key: str, config: Config, *, timeout: float = 5.0) -> None:
        """Take a disk, NIC or usb device away and wait until the guest let go; ApiError when it does not."""
        await hotplug.unplug(self._change(vmid, config), key, timeout)

    async def set_live(self, vmid: int, key: str, value: str, old: str, config: Config) -> bool:
        """Change what can change in place: link state, bridge, tag of a NIC; throttles and media of a drive; balloon;
        vcpus.
        False when this change needs a restart (nothing was changed)."""
        return await hotplug.set_live(self._change(vmid, config), key, value, old)

    # guest agent --------------------------------------------------------------------------------------------------

    async def agent(
        self, vmid: int, command: str, args: Mapping[str, Any] | None = None, *, timeout: float = 5.0
    ) -> Any:
        """One guest agent command (`guest-ping`), its `return` value. ApiError "QEMU guest agent is not running" after
        `timeout`."""
        guest = self.guest(vmid)
        if guest.pid is None:
            raise ApiError(f"VM {vmid} is not running")
        async with guest.agent_lock:
            return await ask_agent(guest.places.socket("qga"), command, args, timeout)

    # cloud-init ---------------------------------------------------------------------------------------------------

    def cloudinit_files(self, vmid: int, config: Config) -> dict[str, str]:
        """The files of the guest's cloud-init drive by role: `user`, `network`, `meta`, `vendor` (text)."""
        return cloudinit.files(vmid, config, self.storage)

    async def cloudinit_write(self, vmid: int, config: Config) -> None:
        """Write the cloud-init drive anew (start does this by itself); in a running guest the medium changes too."""
        await cloudinit.write(vmid, config, self.storage)
        key = cloudinit.drive(config)
        if key and self.alive(vmid):
            await hotplug.set_live(self._change(vmid, config), key, config[key], config[key])
