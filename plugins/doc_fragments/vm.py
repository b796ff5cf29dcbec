# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be said of a virtual machine, written once: for one of them, and for each entry of a list of them."""

from __future__ import annotations

import re
from typing import Any

import yaml
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.plugins.doc_fragments.state import ModuleDocFragment as State


def _below(place: str, value: Any) -> Any:
    """References to options and results, one level further down."""
    if isinstance(value, dict):
        return {key: _below(place, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_below(place, inner) for inner in value]
    if isinstance(value, str):
        return re.sub(r"\bRV\(object\b", "RV(guests[].object", re.sub(r"\bO\(", f"O({place}", value))
    return value


def _nested(place: str, *texts: str) -> dict[str, Any]:
    """Options as suboptions. A default is told in words: it applies after entry and defaults are put together."""
    suboptions: dict[str, Any] = {}
    for name, option in {k: v for text in texts for k, v in yaml_load(text)["options"].items()}.items():
        told = dict(option)
        if "default" in told:
            value = told.pop("default")
            shown = str(value).lower() if isinstance(value, bool) else value
            told["description"] = [*told["description"], f"V({shown}) when nothing is said."]
        suboptions[name] = _below(place, told)
    return suboptions


class ModuleDocFragment:
    """Options of module_utils/guest_resource.py."""

    DOCUMENTATION = r"""
options:
  vmid:
    description:
      - Id of the guest, 100 or more.
      - Without it the guest is found by O(name). A new one gets the next free id, of O(vmid_range) if that is given.
        If another run takes that id first, the next one is used.
    type: int
  vmid_range:
    description:
      - First and last id that a new guest without O(vmid) may get.
    type: list
    elements: int
  name:
    description:
      - Name of the guest, a DNS name. Without O(vmid) it has to be the only guest of this name.
    type: str
  rename:
    description:
      - Whether the guest with O(vmid) may get another O(name). Otherwise a guest of another name is taken for a
        stranger.
    type: bool
    default: false
  node:
    description:
      - Node that a new guest is made on. It is needed where there are several, unless the guest is cloned.
      - A clone is made on the node of its source when nothing is said. On another one it needs shared storage.
      - A guest that is on another node is not migrated. The task fails and says so.
    type: str
  pool:
    description:
      - Pool that the guest is in. It is taken out of another one.
    type: str
  status:
    description:
      - Whether the guest runs. Without it a guest stays as it is, and a new one is not started.
      - A guest is shut down gracefully. See O(shutdown_timeout_s) and O(force_stop).
    type: str
    choices: [running, stopped, paused]
  shutdown_timeout_s:
    description:
      - How long a guest may take to shut down, in seconds. After that the task fails, or with O(force_stop) its power
        is cut.
    type: int
    default: 180
  force_stop:
    description:
      - Whether the power may be cut of a guest that does not shut down in time, and of a running guest that is to be
        removed.
    type: bool
    default: false
  apply_pending:
    description:
      - What to do when a running guest has changes that take effect only when it is shut down and started.
      - V(report) tells them in a warning and in RV(object.pending). V(reboot) shuts the guest down and starts it.
    type: str
    choices: [report, reboot]
    default: report
  clone:
    description:
      - Make the guest by cloning another one, if it is not there yet. Options of the task are applied to the clone.
      - Its network cards get addresses of their own, and it has its own UUID.
    type: dict
    suboptions:
      source:
        description:
          - Name or id of the guest or template to clone.
        type: str
        required: true
      full:
        description:
          - Whether all disks are copied. Otherwise a template is cloned by linking to its disks.
          - Proxmox VE links to templates and copies other guests when nothing is said. If O(clone.storage) or
            O(clone.format) is given, disks are copied.
        type: bool
      snapname:
        description:
          - Clone this snapshot of the source in place of its present state.
        type: str
      storage:
        description:
          - Storage for the copies. That of the source when nothing is said.
        type: str
      format:
        description:
          - Format of the copies on storages of files.
        type: str
        choices: [raw, qcow2, vmdk]
  unset:
    description:
      - What to take away, such as V(description), V(net1), V(scsi0.cache), V(cloud_init.user) or V(pool). Proxmox VE's
        own default applies then.
      - The slot of a disk detaches it. Its volume is kept as C(unusedN), so nothing is lost.
      - V(unusedN) removes that volume and what is on it, which needs O(allow_data_loss).
    type: list
    elements: str
  update_password:
    description:
      - When to send O(cloud_init.password), which cannot be read back and compared.
      - With V(always) the task changes something each time.
    type: str
    choices: [on_create, always]
    default: on_create
  purge:
    description:
      - When the guest is removed, also take it out of backup jobs, replication and high availability.
    type: bool
    default: false
  destroy_unreferenced_disks:
    description:
      - When the guest is removed, also remove volumes of its id that it does not mention, on all storages.
    type: bool
    default: false
  bwlimit:
    description:
      - Limit on the speed of importing, copying and moving disks, in KiB per second.
    type: int
  import_working_storage:
    description:
      - Storage of files where an imported image is unpacked if it has to be. Needs Proxmox VE 8.4.
    type: str
  acpi:
    description:
      - Whether the guest has ACPI. Without it a guest cannot be shut down gracefully unless the agent answers.
      - Proxmox VE takes V(true) when it is not set.
    type: bool
  affinity:
    description:
      - Host CPU cores that the guest may run on, as a list such as V(0,5,8-11).
    type: str
  agent:
    description:
      - The QEMU guest agent.
    type: dict
    suboptions:
      enabled:
        description:
          - Whether Proxmox VE talks to the agent.
        type: bool
      freeze_fs:
        description:
          - Whether file systems are frozen for backups, snapshots without memory, and clones.
          - Proxmox VE 9 calls it C(freeze-fs), before that C(freeze-fs-on-backup).
        type: bool
      fstrim_cloned_disks:
        description:
          - Whether unused blocks are given back after a disk was moved or the guest migrated.
        type: bool
      type:
        description:
          - How the agent is reached. V(isa) is for guests without a driver for virtio.
        type: str
        choices: [virtio, isa]
  allow_ksm:
    description:
      - Whether memory pages of the guest may be merged with equal ones of other guests (KSM).
      - Proxmox VE takes V(true) when it is not set. Needs Proxmox VE 9.1.
    type: bool
  amd_sev:
    description:
      - Encryption of memory by AMD CPUs. Needs Proxmox VE 8.4.
    type: dict
    suboptions:
      type:
        description:
          - >-
            Which kind of encryption: SEV, SEV-ES or SEV-SNP.
        type: str
        choices: [std, es, snp]
      no_debug:
        description:
          - Whether debugging of the guest is forbidden.
        type: bool
      no_key_sharing:
        description:
          - Whether its key must not be shared with other guests.
        type: bool
      allow_smt:
        description:
          - Whether the guest may run on hosts with simultaneous multithreading. For V(snp) only.
        type: bool
      kernel_hashes:
        description:
          - Whether hashes of the kernel are measured into the start.
        type: bool
  arch:
    description:
      - Architecture of the virtual processor. The host's own when it is not set. Only C(root@pam) may set it.
    type: str
    choices: [x86_64, aarch64]
  args:
    description:
      - Further arguments for QEMU, for what has no option. Only C(root@pam) itself may set it, no token.
    type: str
  audio:
    description:
      - A sound card.
    type: dict
    suboptions:
      device:
        description:
          - Its model.
        type: str
        choices: [ich9-intel-hda, intel-hda, AC97]
      driver:
        description:
          - Where the sound goes.
        type: str
        choices: [spice, none]
  autostart:
    description:
      - Kept for old configurations; Proxmox VE ignores it. Use O(onboot).
    type: bool
  balloon:
    description:
      - Memory in MiB below which the balloon does not take from the guest. V(0) removes the balloon device.
      - Must not be more than O(memory).
    type: int
  bios:
    description:
      - Firmware of the guest. With V(ovmf) give it an O(efidisk), too.
      - Proxmox VE takes V(seabios) when it is not set.
    type: str
    choices: [seabios, ovmf]
  boot:
    description:
      - Devices to boot from, in this order, by slot. What is not in the list is not booted from.
      - When a guest is made without it, Proxmox VE takes the first disk, the first CD drive and the first network
        card.
    type: list
    elements: str
  cloud_init:
    description:
      - What cloud-init sets up in the guest. A running guest's drive is written anew after a change; the guest
        reads it when it starts.
    type: dict
    suboptions:
      storage:
        description:
          - Storage of the drive that carries it to the guest. There is no drive unless it is given once.
        type: str
      slot:
        description:
          - Slot of the drive. A new one goes to V(ide2) when nothing is said.
        type: str
      type:
        description:
          - Form of the data. Proxmox VE chooses by O(ostype) when it is not set.
        type: str
        choices: [configdrive2, nocloud, opennebula]
      user:
        description:
          - User to set up, in place of the image's own.
        type: str
      password:
        description:
          - Password of that user. It cannot be read back; see O(update_password).
        type: str
      ssh_keys:
        description:
          - Public keys that may log in as that user.
        type: list
        elements: str
      nameserver:
        description:
          - Addresses of name servers.
        type: list
        elements: str
      searchdomain:
        description:
          - Domains to search names in.
        type: list
        elements: str
      upgrade:
        description:
          - Whether packages are upgraded at the first start.
        type: bool
      custom:
        description:
          - Volumes with data of your own, such as V(local:snippets/user.yml), in place of what Proxmox VE makes.
            They cannot be uploaded through the API.
        type: dict
        suboptions:
          user:
            description:
              - User data.
            type: str
          network:
            description:
              - Network data.
            type: str
          meta:
            description:
              - Metadata.
            type: str
          vendor:
            description:
              - Vendor data.
            type: str
      ip_configs:
        description:
          - Addresses of network cards, each in its slot. V(ipconfig0) is for V(net0).
        type: list
        elements: dict
        suboptions:
          slot:
            description:
              - V(ipconfig0) to V(ipconfig31).
            type: str
            required: true
          ip:
            description:
              - IPv4 address with its prefix, such as V(192.0.2.10/24), or V(dhcp).
            type: str
          gw:
            description:
              - IPv4 gateway. It needs an address, too.
            type: str
          ip6:
            description:
              - IPv6 address with its prefix, V(dhcp) or V(auto).
            type: str
          gw6:
            description:
              - IPv6 gateway. It needs an address, too.
            type: str
  cores:
    description:
      - CPU cores of each socket, at least 1.
      - Proxmox VE takes V(1) when it is not set.
    type: int
  cpu:
    description:
      - What CPU the guest sees.
    type: dict
    suboptions:
      type:
        description:
          - Model, such as V(host), V(x86-64-v2-AES) or V(custom-NAME). With V(host) the guest cannot move to other
            hardware.
        type: str
      flags:
        description:
          - >-
            Flags to add or take away: V(+aes), V(-pcid).
        type: list
        elements: str
      guest_phys_bits:
        description:
          - Bits of physical addresses that the guest may use, 32 to 64. Needs Proxmox VE 9.0.
        type: int
      hidden:
        description:
          - Whether the guest does not see that it is virtual.
        type: bool
      hv_vendor_id:
        description:
          - Vendor that Hyper-V shows to Windows, at most 12 letters or digits.
        type: str
      phys_bits:
        description:
          - Bits of physical addresses that the CPU reports, 8 to 64, or V(host).
        type: str
      reported_model:
        description:
          - Model that is reported to the guest, for custom models only.
        type: str
  cpulimit:
    description:
      - How many host CPUs the guest may use at most, from 0 to 128, also in parts such as V(0.5). V(0) is no limit.
    type: float
  cpuunits:
    description:
      - >-
        Weight of the guest when CPUs are short, relative to other guests: 1 to 10000, where 100 is usual.
    type: int
  description:
    description:
      - Notes on the guest, in Markdown, at most 8192 characters. A line break at the end does not count.
    type: str
  disks:
    description:
      - Hard disks and CD drives, each in its slot. Slots that are not listed are left alone.
      - A disk is made when its slot is empty, and never made a second time. It grows when O(disks[].size) is more
        than it has, and it is never shrunk. To take it away, see O(unset).
    type: list
    elements: dict
    suboptions:
      slot:
        description:
          - V(scsi0) to V(scsi30), V(virtio0) to V(virtio15), V(sata0) to V(sata5) or V(ide0) to V(ide3).
        type: str
        required: true
      storage:
        description:
          - Storage for a new volume. If the volume is on another one, it is moved.
        type: str
      volume:
        description:
          - A volume that exists, such as V(local:100/vm-100-disk-1.qcow2), to put there. The one that was there
            stays as C(unusedN).
          - For a CD drive an ISO such as V(local:iso/debian.iso), or V(none) for an empty one, together with
            O(disks[].media=cdrom).
        type: str
        aliases: [file]
      size:
        description:
          - Size with its unit in powers of 1024, such as V(8G), V(2560M) or V(1T).
          - A new disk that is not imported needs it. An imported or cloned one is grown to it.
        type: str
      import_from:
        description:
          - Make the volume out of this one, such as V(local:import/debian.qcow2). Only C(root@pam) may give a path.
          - It matters only while the slot is empty.
        type: str
      format:
        description:
          - Format of the volume on storages of files. If it has another one, it is converted by moving.
        type: str
        choices: [raw, qcow, qed, qcow2, vmdk, cloop]
      media:
        description:
          - Whether it is a hard disk or a CD drive.
        type: str
        choices: [disk, cdrom]
      aio:
        description:
          - How the host does asynchronous I/O.
        type: str
        choices: [native, threads, io_uring]
      backup:
        description:
          - Whether the disk is part of backups.
        type: bool
      cache:
        description:
          - How the host caches.
        type: str
        choices: [none, writethrough, writeback, unsafe, directsync]
      detect_zeroes:
        description:
          - Whether writes of zeroes are turned into something cheaper.
        type: bool
      discard:
        description:
          - Whether blocks that the guest no longer uses are given back to the storage.
        type: str
        choices: [ignore, 'on']
      iothread:
        description:
          - Whether the disk has a thread of its own. For V(virtio) slots, and for V(scsi) ones with
            O(scsihw=virtio-scsi-single).
        type: bool
      model:
        description:
          - Name of the model that an IDE disk shows, at most 40 bytes, URL-encoded.
        type: str
      product:
        description:
          - Name of the product that a SCSI disk shows, at most 16 characters. Needs Proxmox VE 8.2.
        type: str
      queues:
        description:
          - Queues of a SCSI disk, at least 2.
        type: int
      replicate:
        description:
          - Whether replication jobs take the disk along.
        type: bool
      rerror:
        description:
          - What happens on an error of reading.
        type: str
        choices: [ignore, report, stop]
      ro:
        description:
          - Whether the disk can only be read. For V(scsi) and V(virtio) slots.
        type: bool
      scsiblock:
        description:
          - Whether a block device of the host is passed through as SCSI device.
        type: bool
      serial:
        description:
          - Serial number that the guest sees, at most 20 bytes, URL-encoded.
        type: str
      shared:
        description:
          - Whether a volume that Proxmox VE takes for local is there on all nodes.
        type: bool
      snapshot:
        description:
          - Whether what the guest writes is thrown away when it stops.
        type: bool
      ssd:
        description:
          - Whether the guest takes it for an SSD. Not for V(virtio) slots.
        type: bool
      vendor:
        description:
          - Vendor that a SCSI disk shows, at most 8 characters. Needs Proxmox VE 8.2.
        type: str
      werror:
        description:
          - What happens on an error of writing.
        type: str
        choices: [enospc, ignore, report, stop]
      wwn:
        description:
          - >-
            World wide name: V(0x) and 16 hexadecimal digits.
        type: str
      bps:
        description:
          - Limit on reading and writing together, in bytes per second.
        type: int
      bps_rd:
        description:
          - Limit on reading, in bytes per second.
        type: int
      bps_wr:
        description:
          - Limit on writing, in bytes per second.
        type: int
      bps_max_length:
        description:
          - How long a burst of reading and writing together may last, in seconds. Needs a limit in bytes.
        type: int
      bps_rd_max_length:
        description:
          - How long a burst of reading may last, in seconds. Needs a limit in bytes.
        type: int
      bps_wr_max_length:
        description:
          - How long a burst of writing may last, in seconds. Needs a limit in bytes.
        type: int
      iops_max_length:
        description:
          - How long a burst of reading and writing together may last, in seconds. Needs a limit in operations.
        type: int
      iops_rd_max_length:
        description:
          - How long a burst of reading may last, in seconds. Needs a limit in operations.
        type: int
      iops_wr_max_length:
        description:
          - How long a burst of writing may last, in seconds. Needs a limit in operations.
        type: int
      iops:
        description:
          - Limit on reading and writing together, in operations per second.
        type: int
      iops_max:
        description:
          - Limit on bursts of reading and writing together, in operations per second.
        type: int
      iops_rd:
        description:
          - Limit on reading, in operations per second.
        type: int
      iops_rd_max:
        description:
          - Limit on bursts of reading, in operations per second.
        type: int
      iops_wr:
        description:
          - Limit on writing, in operations per second.
        type: int
      iops_wr_max:
        description:
          - Limit on bursts of writing, in operations per second.
        type: int
      mbps:
        description:
          - Limit on reading and writing together, in megabytes per second.
        type: float
      mbps_max:
        description:
          - Limit on bursts of reading and writing together, in megabytes per second.
        type: float
      mbps_rd:
        description:
          - Limit on reading, in megabytes per second.
        type: float
      mbps_rd_max:
        description:
          - Limit on bursts of reading, in megabytes per second.
        type: float
      mbps_wr:
        description:
          - Limit on writing, in megabytes per second.
        type: float
      mbps_wr_max:
        description:
          - Limit on bursts of writing, in megabytes per second.
        type: float
  efidisk:
    description:
      - The volume that keeps the variables of V(ovmf).
    type: dict
    suboptions:
      storage:
        description:
          - Storage for a new volume. If the volume is on another one, it is moved.
        type: str
      volume:
        description:
          - A volume that exists, such as V(local:100/vm-100-disk-1.qcow2), to put there. The one that was there
            stays as C(unusedN).
        type: str
        aliases: [file]
      import_from:
        description:
          - Make the volume out of this one, such as V(local:import/debian.qcow2). Only C(root@pam) may give a path.
        type: str
      format:
        description:
          - Format of the volume on storages of files. If it has another one, it is converted by moving.
        type: str
        choices: [raw, qcow, qed, qcow2, vmdk, cloop]
      efitype:
        description:
          - Size of the variables. Secure Boot needs V(4m). It cannot be changed later.
        type: str
        choices: [2m, 4m]
      ms_cert:
        description:
          - Which certificates of Microsoft have been enrolled. Needs Proxmox VE 9.1.
        type: str
        choices: ['2011', '2023', 2023w, 2023k]
      pre_enrolled_keys:
        description:
          - Whether the keys of distributions and of Microsoft are enrolled, which turns on Secure Boot. It cannot
            be changed later.
        type: bool
  freeze:
    description:
      - Whether the CPUs stand still after the start until the guest is resumed.
    type: bool
  hookscript:
    description:
      - Volume of a script that the node runs when the guest starts and stops, such as V(local:snippets/hook.pl).
    type: str
  hostpci:
    description:
      - PCI devices of the host that the guest gets, each in its slot.
    type: list
    elements: dict
    suboptions:
      slot:
        description:
          - V(hostpci0) to V(hostpci15).
        type: str
        required: true
      host:
        description:
          - Addresses of the device or of its functions, such as V(0000:01:00.0). Only C(root@pam) may give them.
        type: list
        elements: str
      mapping:
        description:
          - Mapping of the cluster, in place of O(hostpci[].host). Needs Proxmox VE 8.2.
        type: str
      rombar:
        description:
          - Whether the guest sees the ROM of the device.
        type: bool
      romfile:
        description:
          - File with another ROM, below C(/usr/share/kvm/) of the host.
        type: str
      pcie:
        description:
          - Whether it is on the PCI Express bus, which needs O(machine.type=q35).
        type: bool
      x_vga:
        description:
          - Whether it is the primary graphics card.
        type: bool
      legacy_igd:
        description:
          - Whether an Intel graphics unit is the only one, at its old address.
        type: bool
      mdev:
        description:
          - Type of mediated device to make of it.
        type: str
      vendor_id:
        description:
          - >-
            Id of the vendor that the guest sees: V(0x) and four hexadecimal digits.
        type: str
      device_id:
        description:
          - >-
            Id of the device that the guest sees: V(0x) and four hexadecimal digits.
        type: str
      sub_vendor_id:
        description:
          - >-
            Id of the subsystem vendor that the guest sees: V(0x) and four hexadecimal digits.
        type: str
      sub_device_id:
        description:
          - >-
            Id of the subsystem device that the guest sees: V(0x) and four hexadecimal digits.
        type: str
      driver:
        description:
          - With V(keep) the host leaves the driver of the device as it is. Needs Proxmox VE 9.1.
        type: str
        choices: [vfio, keep]
  hotplug:
    description:
      - What can be changed while the guest runs, out of V(network), V(disk), V(cpu), V(memory), V(usb) and
        V(cloudinit), or V(none) alone.
      - Proxmox VE takes network, disk and usb when it is not set.
    type: list
    elements: str
  hugepages:
    description:
      - Back the memory with huge pages of this size in MiB. V(any) takes 1024 where that is possible, else 2.
    type: str
    choices: [any, '2', '1024']
  intel_tdx:
    description:
      - Trust domains of Intel CPUs. Needs Proxmox VE 9.1.
    type: dict
    suboptions:
      type:
        description:
          - The kind. There is only this one.
        type: str
        choices: [tdx]
      attestation:
        description:
          - Whether the guest can prove what it runs on.
        type: bool
      vsock_cid:
        description:
          - Context id of the service that signs proofs.
        type: int
      vsock_port:
        description:
          - Port of the service that signs proofs.
        type: int
  ivshmem:
    description:
      - Memory shared between guests or with the host.
    type: dict
    suboptions:
      size:
        description:
          - Its size in MB, at least 1.
        type: int
      name:
        description:
          - Name of the file behind it. The id of the guest when it is not set.
        type: str
  keephugepages:
    description:
      - Whether the huge pages stay reserved when the guest has stopped.
    type: bool
  keyboard:
    description:
      - Layout of the keyboard that the VNC server assumes. It is rarely needed.
    type: str
    choices:
      [de, de-ch, da, en-gb, en-us, es, fi, fr, fr-be, fr-ca, fr-ch, hu, is, it, ja, lt, mk, nl, 'no', pl, pt,
       pt-br, sv, sl, tr]
  kvm:
    description:
      - Whether the guest uses the virtualisation of the host's CPU. Without it everything is emulated, which is
        slow.
      - Proxmox VE takes V(true) when it is not set.
    type: bool
  localtime:
    description:
      - Whether the clock of the guest is set to local time. It is for Windows when it is not set.
    type: bool
  machine:
    description:
      - The mainboard.
    type: dict
    suboptions:
      type:
        description:
          - V(pc), V(q35), V(virt), or one of a version such as V(pc-q35-10.0). Proxmox VE pins a version for
            Windows; that counts as the same.
        type: str
      viommu:
        description:
          - Which virtual IOMMU the guest has. V(intel) needs V(q35). Needs Proxmox VE 8.2.
        type: str
        choices: [intel, virtio]
      aw_bits:
        description:
          - Width of the addresses of the virtual IOMMU, 32 to 64. Needs Proxmox VE 9.1.
        type: int
      enable_s3:
        description:
          - Whether the guest can suspend to memory. Needs Proxmox VE 8.4.
        type: bool
      enable_s4:
        description:
          - Whether the guest can hibernate. Needs Proxmox VE 8.4.
        type: bool
  memory:
    description:
      - Memory in MiB, at least 16.
      - Proxmox VE takes V(512) when it is not set.
    type: int
  migrate_downtime:
    description:
      - How long, in seconds, a live migration may halt the guest at its end.
    type: float
  migrate_speed:
    description:
      - Limit on the speed of a migration, in MB per second. V(0) is no limit.
    type: int
  nics:
    description:
      - Network cards, each in its slot. Slots that are not listed are left alone, and so are fields that are not
        given.
    type: list
    elements: dict
    suboptions:
      slot:
        description:
          - V(net0) to V(net31).
        type: str
        required: true
      model:
        description:
          - Model. V(virtio) is the fastest, and is taken for a new card when nothing is said.
        type: str
        choices:
          [virtio, e1000, e1000-82540em, e1000-82544gc, e1000-82545em, e1000e, i82551, i82557b, i82559er,
           ne2k_isa, ne2k_pci, pcnet, rtl8139, vmxnet3]
      mac:
        description:
          - Address of the card. Without it a new card gets one from the node, and one that is there keeps its own.
        type: str
      bridge:
        description:
          - Bridge or virtual network of the node that it is plugged into. Without one the guest is behind NAT.
        type: str
      tag:
        description:
          - VLAN of the card, 1 to 4094.
        type: int
      trunks:
        description:
          - VLANs that pass through with their tags, such as V(2-4).
        type: list
        elements: str
      firewall:
        description:
          - Whether the firewall of Proxmox VE guards the card.
        type: bool
      link_down:
        description:
          - Whether the cable is unplugged.
        type: bool
      mtu:
        description:
          - MTU of a V(virtio) card, at most 65520. V(1) is that of the bridge.
        type: int
      queues:
        description:
          - Packet queues of the card, at most 64.
        type: int
      rate:
        description:
          - Limit on its speed, in megabytes per second.
        type: float
  numa:
    description:
      - Whether the guest sees NUMA nodes. Memory can be plugged in only if it does.
    type: bool
  numa_nodes:
    description:
      - NUMA nodes of the guest, each in its slot, for O(numa).
    type: list
    elements: dict
    suboptions:
      slot:
        description:
          - V(numa0) to V(numa7).
        type: str
        required: true
      cpus:
        description:
          - CPUs of the guest in this node, such as V(0-3).
        type: list
        elements: str
      memory:
        description:
          - Its memory in MiB.
        type: float
      hostnodes:
        description:
          - Nodes of the host to take the memory from.
        type: list
        elements: str
      policy:
        description:
          - How strictly it is taken from there.
        type: str
        choices: [preferred, bind, interleave]
  onboot:
    description:
      - Whether the node starts the guest when it starts itself.
    type: bool
  ostype:
    description:
      - What runs in the guest; Proxmox VE chooses devices by it. V(l26) is any Linux since 2.6.
      - Proxmox VE takes V(other) when it is not set.
    type: str
    choices: [other, wxp, w2k, w2k3, w2k8, wvista, win7, win8, win10, win11, l24, l26, solaris]
  parallel:
    description:
      - Parallel ports, each in its slot.
    type: list
    elements: dict
    suboptions:
      slot:
        description:
          - V(parallel0) to V(parallel2).
        type: str
        required: true
      device:
        description:
          - Device of the host, such as V(/dev/parport0). Only C(root@pam) may give it.
        type: str
  protection:
    description:
      - Whether Proxmox VE refuses to remove the guest or one of its disks.
    type: bool
  reboot:
    description:
      - Whether the guest may reboot by itself. If not, it stops instead.
      - To have pending changes applied, see O(apply_pending).
    type: bool
  rng:
    description:
      - A source of randomness for the guest.
    type: dict
    suboptions:
      source:
        description:
          - Where it comes from on the host.
        type: str
        choices: [/dev/urandom, /dev/random, /dev/hwrng]
      max_bytes:
        description:
          - How many bytes the guest gets in each O(rng.period). V(0) is no limit.
        type: int
      period:
        description:
          - Length of a period in milliseconds.
        type: int
  scsihw:
    description:
      - Model of the SCSI controller. V(virtio-scsi-single) gives each disk a controller, which I/O threads need.
      - Proxmox VE takes V(lsi) when it is not set.
    type: str
    choices: [lsi, lsi53c810, virtio-scsi-pci, virtio-scsi-single, megasas, pvscsi]
  serial:
    description:
      - Serial ports, each in its slot.
    type: list
    elements: dict
    suboptions:
      slot:
        description:
          - V(serial0) to V(serial3).
        type: str
        required: true
      device:
        description:
          - V(socket) for a port that C(qm terminal) opens, or a device of the host. Only C(root@pam) may give a
            device.
        type: str
  shares:
    description:
      - Weight of the guest when the balloon takes memory, relative to other guests, at most 50000. V(0) exempts it.
    type: int
  smbios:
    description:
      - What the firmware tells of the machine (SMBIOS type 1). Give plain text; it is sent in base64.
    type: dict
    suboptions:
      uuid:
        description:
          - UUID of the machine. Proxmox VE makes one for each new guest.
        type: str
      version:
        description:
          - Version of the product.
        type: str
      serial:
        description:
          - Serial number.
        type: str
      manufacturer:
        description:
          - Who made it.
        type: str
      product:
        description:
          - Name of the product.
        type: str
      sku:
        description:
          - Number in a catalogue.
        type: str
      family:
        description:
          - Family of products.
        type: str
  sockets:
    description:
      - CPU sockets, at least 1.
      - Proxmox VE takes V(1) when it is not set.
    type: int
  spice_enhancements:
    description:
      - Additions to SPICE.
    type: dict
    suboptions:
      foldersharing:
        description:
          - Whether folders can be shared with the guest.
        type: bool
      videostreaming:
        description:
          - Which video is compressed.
        type: str
        choices: ['off', all, filter]
  startdate:
    description:
      - >-
        Date that the clock of the guest starts at: V(now), V(2026-11-21) or V(2026-11-21T16:01:21).
    type: str
  startup:
    description:
      - When the node starts the guest with itself, and how long it waits.
    type: dict
    suboptions:
      order:
        description:
          - Place in the order of starting; shutting down goes the other way round.
        type: int
      up:
        description:
          - Seconds to wait after the start of this guest before the next one.
        type: int
      down:
        description:
          - Seconds that this guest may take to shut down with the node.
        type: int
  tablet:
    description:
      - Whether there is a USB tablet as pointing device. Guests without a desktop can do without.
    type: bool
  tags:
    description:
      - Tags of the guest. Their order means nothing, and they are compared and sent in lower case.
    type: list
    elements: str
  tdf:
    description:
      - Whether missed clock ticks are made up for.
    type: bool
  tpm:
    description:
      - A trusted platform module, with a volume that keeps its state.
    type: dict
    suboptions:
      storage:
        description:
          - Storage for a new volume. If the volume is on another one, it is moved.
        type: str
      volume:
        description:
          - A volume that exists, such as V(local:100/vm-100-disk-1.qcow2), to put there. The one that was there
            stays as C(unusedN).
        type: str
        aliases: [file]
      import_from:
        description:
          - Make the volume out of this one, such as V(local:import/debian.qcow2). Only C(root@pam) may give a path.
        type: str
      format:
        description:
          - Format of the volume. Needs Proxmox VE 9.1.
        type: str
        choices: [raw, qcow2, vmdk]
      version:
        description:
          - Version of the module. It cannot be changed later.
        type: str
        choices: [v1.2, v2.0]
  usb:
    description:
      - USB devices, each in its slot.
    type: list
    elements: dict
    suboptions:
      slot:
        description:
          - V(usb0) to V(usb14). Old guests and old machine types have only V(usb0) to V(usb4).
        type: str
        required: true
      host:
        description:
          - Device of the host, as V(046d:c52b) or V(1-1.2), or V(spice). Only C(root@pam) may give a device.
        type: str
      mapping:
        description:
          - Mapping of the cluster, in place of O(usb[].host). Needs Proxmox VE 8.2.
        type: str
      usb3:
        description:
          - Whether it is a USB 3 device, for old guests.
        type: bool
  vcpus:
    description:
      - CPUs that are plugged in at the start, out of O(sockets) times O(cores).
    type: int
  vga:
    description:
      - The graphics card.
    type: dict
    suboptions:
      type:
        description:
          - Model. With V(serial0) to V(serial3) the console is a serial port. The SPICE server comes with the
            V(qxl) models.
        type: str
        choices:
          [cirrus, qxl, qxl2, qxl3, qxl4, none, serial0, serial1, serial2, serial3, std, virtio, virtio-gl,
           vmware]
      memory:
        description:
          - Its memory in MiB, 4 to 512.
        type: int
      clipboard:
        description:
          - Share the clipboard through VNC. Needs Proxmox VE 8.2.
        type: str
        choices: [vnc]
  virtiofs:
    description:
      - Directories of the host that the guest can mount, each in its slot. Needs Proxmox VE 8.4.
    type: list
    elements: dict
    suboptions:
      slot:
        description:
          - V(virtiofs0) to V(virtiofs9).
        type: str
        required: true
      dirid:
        description:
          - Mapping of the directory, which is also what the guest mounts it by.
        type: str
      cache:
        description:
          - What is cached.
        type: str
        choices: [auto, always, metadata, never]
      direct_io:
        description:
          - Whether the wish of programs to bypass the cache is honoured.
        type: bool
      expose_acl:
        description:
          - Whether POSIX ACLs work, which includes extended attributes.
        type: bool
      expose_xattr:
        description:
          - Whether extended attributes work.
        type: bool
  vmgenid:
    description:
      - >-
        Generation id that tells a guest that it was copied or rolled back: an UUID, V(1) to have one made, V(0) for
        none.
    type: str
  vmstatestorage:
    description:
      - Storage for the memory of the guest in snapshots and when it is suspended to disk.
    type: str
  watchdog:
    description:
      - A watchdog, which acts when the guest no longer feeds it.
    type: dict
    suboptions:
      model:
        description:
          - Its model.
        type: str
        choices: [i6300esb, ib700]
      action:
        description:
          - What it does then.
        type: str
        choices: [reset, shutdown, poweroff, pause, debug, none]
"""

    GUESTS: str = yaml.safe_dump(
        {
            "options": {
                "guests": {
                    "description": [
                        "The guests, each with the options of M(pvelab.proxmox.vm), and with what it depends on.",
                        "An entry needs O(guests[].name) or O(guests[].vmid), and each guest has one entry.",
                    ],
                    "type": "list",
                    "elements": "dict",
                    "required": True,
                    "suboptions": {
                        "depends_on": {
                            "description": [
                                "Names or ids of other entries that have to run before this guest is started, and "
                                "that are stopped or removed after it.",
                            ],
                            "type": "list",
                            "elements": "str",
                        },
                        **_nested("guests[].", DOCUMENTATION, State.DOCUMENTATION),
                    },
                },
                "defaults": {
                    "description": [
                        "What holds for each guest that does not say otherwise.",
                        "Parts of an option are put together: those of a guest go first, and lists of slots are "
                        "merged slot by slot. Other lists replace each other.",
                    ],
                    "type": "dict",
                    "suboptions": _nested("defaults.", DOCUMENTATION, State.DOCUMENTATION),
                },
            }
        },
        sort_keys=False,
        width=10000,
    )
