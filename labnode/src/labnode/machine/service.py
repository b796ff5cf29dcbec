# SPDX-License-Identifier: GPL-3.0-or-later
"""MachineService: the QEMU processes behind guests.

`config` is always the flat mapping of a guest's configuration file: keys of qm.conf, values as text there
(`{"scsi0": "local:100/vm-100-disk-0.qcow2,size=2G", "memory": "256", ...}`), without snapshot sections.
Processes are detached from labnode: they live on when it dies and are found again by their pid file.
All errors are `ApiError` with one sentence naming guest, cause and remedy, or Proxmox VE's own text where one is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from labnode.machine.model import RunInfo
from labnode.storage import StorageService

Config = Mapping[str, str]
Log = Callable[[str], None]


def silent(_line: str) -> None:
    """A log for callers that have none."""


class MachineService:
    """Starts, watches, changes and stops the QEMU process of every guest of this node."""

    def __init__(self, run_dir: Path, node: str, storage: StorageService, switch: Any, kvm: bool) -> None:
        """`run_dir` is STATE/run (one directory a guest below it); `switch` is the loopback network (labnode.machine.switch)."""
        self.run_dir = run_dir
        self.node = node
        self.storage = storage
        self.switch = switch
        self.kvm = kvm

    # life ---------------------------------------------------------------------------------------------------------

    async def start(
        self,
        vmid: int,
        config: Config,
        *,
        state_file: Path | None = None,
        paused: bool = False,
        running_machine: str | None = None,
        running_cpu: str | None = None,
        log: Log = silent,
        warn: Log = silent,
        timeout: float = 60.0,
    ) -> int:
        """Start the guest and return its pid once QEMU answers on QMP.

        `state_file` resumes from saved memory (a vmstate volume), with `running_machine` / `running_cpu` as they were then.
        `log` gets progress, `warn` what had to be left out (a warning of the task). ApiError when a volume, bridge, firmware or
        device is missing, with nothing left running; "VM 100 already running" when it is."""
        raise NotImplementedError

    def alive(self, vmid: int) -> bool:
        """Whether the guest's process runs (checked in /proc against pid reuse; no QMP, so never blocks)."""
        raise NotImplementedError

    def running(self) -> dict[int, int]:
        """Every running guest of this node: vmid to pid."""
        raise NotImplementedError

    async def stop(self, vmid: int, *, timeout: float = 10.0) -> None:
        """End the process at once: QMP quit, SIGTERM, SIGKILL. Not running is no error."""
        raise NotImplementedError

    async def shutdown(self, vmid: int, *, timeout: float, agent: bool = False) -> bool:
        """Ask the guest to power down (by its agent if `agent`) and wait up to `timeout` seconds; True when it is gone."""
        raise NotImplementedError

    async def reset(self, vmid: int) -> None:
        """Hard reset."""
        raise NotImplementedError

    async def pause(self, vmid: int) -> None:
        """Stop the virtual CPUs (`qm suspend`)."""
        raise NotImplementedError

    async def cont(self, vmid: int) -> None:
        """Let the virtual CPUs run, or wake the guest from suspend."""
        raise NotImplementedError

    async def quit(self, vmid: int, *, timeout: float = 10.0) -> None:
        """End QEMU in good order (after its memory has been saved)."""
        raise NotImplementedError

    async def stop_all(self, *, timeout: float = 10.0) -> None:
        """Stop every guest, shutdown first where a timeout allows, and the switches after them."""
        raise NotImplementedError

    async def cleanup(self, vmid: int) -> None:
        """After a guest went away by itself: free ports and sockets. Idempotent."""
        raise NotImplementedError

    # looking ------------------------------------------------------------------------------------------------------

    async def info(self, vmid: int, config: Config | None = None) -> RunInfo | None:
        """What the guest is doing, None when it does not run. `config` gives the number of CPUs for `cpu`."""
        raise NotImplementedError

    async def status(self, vmid: int) -> str:
        """QMP's run state (running, paused, io-error, prelaunch, ...), `stopped` when there is no process."""
        raise NotImplementedError

    async def qmp(self, vmid: int, command: str, /, **args: Any) -> Any:
        """One QMP command; ApiError "VM 100 qmp command 'x' failed - ..." or "VM 100 not running"."""
        raise NotImplementedError

    async def hmp(self, vmid: int, line: str) -> str:
        """One line of the human monitor, its answer as text."""
        raise NotImplementedError

    async def sendkey(self, vmid: int, key: str) -> None:
        """Press keys (`ctrl-alt-delete`), QEMU's names."""
        raise NotImplementedError

    def command_line(self, vmid: int, config: Config, *, warn: Log = silent) -> list[str]:
        """The argument list a start would use now (`qm showcmd`)."""
        raise NotImplementedError

    # state and disks ----------------------------------------------------------------------------------------------

    async def save_ram(self, vmid: int, path: Path, *, log: Log = silent, timeout: float = 600.0) -> int:
        """Write memory and device state to `path`; leaves the guest paused. Bytes written. Undo with `cont`."""
        raise NotImplementedError

    def ram_size(self, config: Config) -> int:
        """Bytes a vmstate volume needs for this guest."""
        raise NotImplementedError

    async def block_snapshot(self, vmid: int, drive: str, name: str) -> None:
        """Internal qcow2 snapshot `name` of drive `scsi0` in the running guest."""
        raise NotImplementedError

    async def block_snapshot_delete(self, vmid: int, drive: str, name: str) -> None:
        """Remove an internal snapshot in the running guest."""
        raise NotImplementedError

    async def resize(self, vmid: int, drive: str, size: int) -> None:
        """Grow a running guest's drive to `size` bytes."""
        raise NotImplementedError

    async def mirror(self, vmid: int, drive: str, target: str, *, log: Log = silent) -> None:
        """Move a running guest's drive to the (allocated) volume `target` and use that from then on."""
        raise NotImplementedError

    # change while running -----------------------------------------------------------------------------------------

    async def plug(self, vmid: int, key: str, value: str, config: Config) -> None:
        """Add a disk (scsiN, virtioN), a NIC (netN) or a usb device; ApiError "hotplug problem - ..." when QEMU will not."""
        raise NotImplementedError

    async def unplug(self, vmid: int, key: str, config: Config, *, timeout: float = 5.0) -> None:
        """Take a disk, NIC or usb device away and wait until the guest let go; ApiError when it does not."""
        raise NotImplementedError

    async def set_live(self, vmid: int, key: str, value: str, old: str, config: Config) -> bool:
        """Change what can change in place: link state, bridge, tag of a NIC; throttles and media of a drive; balloon; vcpus.
        False when this change needs a restart (nothing was changed)."""
        raise NotImplementedError

    # guest agent --------------------------------------------------------------------------------------------------

    async def agent(
        self, vmid: int, command: str, args: Mapping[str, Any] | None = None, *, timeout: float = 5.0
    ) -> Any:
        """One guest agent command (`guest-ping`), its `return` value. ApiError "QEMU guest agent is not running" after `timeout`."""
        raise NotImplementedError

    # cloud-init ---------------------------------------------------------------------------------------------------

    def cloudinit_files(self, vmid: int, config: Config) -> dict[str, str]:
        """The files of the guest's cloud-init drive by role: `user`, `network`, `meta`, `vendor` (text)."""
        raise NotImplementedError

    async def cloudinit_write(self, vmid: int, config: Config) -> None:
        """Write the cloud-init drive anew (start does this by itself); in a running guest the medium changes too."""
        raise NotImplementedError
