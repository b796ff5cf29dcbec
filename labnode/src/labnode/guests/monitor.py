# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's human monitor, and who may say what to it (the permissions of each command are facts from qemu-server)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labnode.errors import ApiError
from labnode.guests.out import Who
from labnode.guests.propstring import words

if TYPE_CHECKING:
    from labnode.guests.service import GuestService

FREE = words("help ? info")
MODIFY = words(
    "announce_self backup_cancel balloon block_job_cancel block_job_complete block_job_pause block_job_resume "
    "block_job_set_speed block_resize block_set_io_throttle boot_set c calc_dirty_rate cancel_vcpu_dirty_limit "
    "chardev-send-break closefd commit cont cpu delvm eject exit_preconfig expire_password getfd gpa2hpa gpa2hva "
    "gva2gpa i loadvm log migrate_cancel migrate_continue migrate_pause migrate_set_capability "
    "migrate_set_parameter migrate_start_postcopy mouse_button mouse_move mouse_set one-insn-per-tb p print q "
    "qemu-io qom-get qom-list quit replay_break replay_delete_break replay_seek ringbuf_read ringbuf_write s "
    "savevm sendkey set_link set_password set_vcpu_dirty_limit snapshot_blkdev_internal "
    "snapshot_delete_blkdev_internal stop stopcapture sum sync-profile system_powerdown system_reset "
    "system_wakeup trace-event x x_colo_lost_heartbeat xp"
)
ROOT = words(
    "backup block_stream change chardev-add chardev-change chardev-remove client_migrate_info device_add "
    "device_del drive_add drive_backup drive_del drive_mirror dump-guest-memory dumpdtb gdbserver hostfwd_add "
    "hostfwd_remove logfile mce memsave migrate migrate_incoming migrate_recover nbd_server_add nbd_server_remove "
    "nbd_server_start nbd_server_stop netdev_add netdev_del nmi o object_add object_del pcie_aer_inject_error "
    "pmemsave qom-set savevm-end savevm-start screendump snapshot_blkdev watchdog_action wavcapture xen-event- "
    "inject xen-event-list"
)


def check_command(who: Who, line: str) -> None:
    """Forbidden or ApiError unless the user may give this command."""
    name = line.split(maxsplit=1)[0] if line.strip() else ""
    if not name:
        raise ApiError("no command specified")
    if name in FREE:
        return
    if name in MODIFY:
        who.check("/", ["Sys.Modify"])
    elif not who.is_root:
        known = name in ROOT
        text = f"command '{name}' non-existent or not assigned a required permission yet, limiting to root user"
        raise ApiError(f"root-only command '{name}'" if known else text)


async def run_command(g: GuestService, who: Who, vmid: int, line: str) -> str:
    """The monitor's answer; what goes wrong there is an answer too ("ERROR: ...")."""
    check_command(who, line)
    g.load(vmid)
    try:
        return await g.machines.hmp(vmid, line)
    except ApiError as error:
        return f"ERROR: {error.message}\n"
