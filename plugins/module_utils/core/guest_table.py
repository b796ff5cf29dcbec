# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of a virtual machine's configuration, once: argument specification, reading and writing follow from it.

Names, limits, defaults and versions are facts of the API schemas of Proxmox VE 8.0 to 9.1 (POST /nodes/{node}/qemu) and
of qemu-server where the schema gives only the name of a format.
"""

from __future__ import annotations

from .guest_fields import Field, Group


def words(text: str) -> tuple[str, ...]:
    """ "a b" → ("a", "b")."""
    return tuple(text.split())


_KEYBOARDS = words("de de-ch da en-gb en-us es fi fr fr-be fr-ca fr-ch hu is it ja lt mk nl no pl pt pt-br sv sl tr")
_OSTYPES = words("other wxp w2k w2k3 w2k8 wvista win7 win8 win10 win11 l24 l26 solaris")
_VGA = words("cirrus qxl qxl2 qxl3 qxl4 none serial0 serial1 serial2 serial3 std virtio virtio-gl vmware")
_CARDS = words(
    "virtio e1000 e1000-82540em e1000-82544gc e1000-82545em e1000e i82551 i82557b i82559er ne2k_isa ne2k_pci pcnet "
    "rtl8139 vmxnet3"
)
_CONTROLLERS = words("lsi lsi53c810 virtio-scsi-pci virtio-scsi-single megasas pvscsi")

PLAIN: tuple[Field, ...] = (
    Field("acpi", "bool", default=True),
    Field("affinity"),
    Field("allow_ksm", "bool", key="allow-ksm", default=True, since="9.1"),
    Field("arch", choices=("x86_64", "aarch64")),
    Field("args"),
    Field("autostart", "bool", default=False),
    Field("balloon", "int"),
    Field("bios", choices=("seabios", "ovmf"), default="seabios"),
    Field("boot", "boot"),
    Field("cores", "int", default=1),
    Field("cpulimit", "float", default=0.0),
    Field("cpuunits", "int"),
    Field("description", "text"),
    Field("freeze", "bool"),
    Field("hookscript"),
    Field("hotplug", "hotplug", default=["disk", "network", "usb"]),
    Field("hugepages", choices=("any", "2", "1024")),
    Field("keephugepages", "bool", default=False),
    Field("keyboard", choices=_KEYBOARDS),
    Field("kvm", "bool", default=True),
    Field("localtime", "bool"),
    Field("memory", "int", default=512),
    Field("migrate_downtime", "float", default=0.1),
    Field("migrate_speed", "int", default=0),
    Field("numa", "bool", default=False),
    Field("onboot", "bool", default=False),
    Field("ostype", choices=_OSTYPES, default="other"),
    Field("protection", "bool", default=False),
    Field("reboot", "bool", default=True),
    Field("scsihw", choices=_CONTROLLERS, default="lsi"),
    Field("shares", "int", default=1000),
    Field("sockets", "int", default=1),
    Field("startdate", default="now"),
    Field("tablet", "bool", default=True),
    Field("tags", "set"),
    Field("tdf", "bool", default=False),
    Field("vcpus", "int"),
    Field("vmgenid"),
    Field("vmstatestorage"),
)

CLOUD_INIT: tuple[Field, ...] = (
    Field("cloud_init.type", key="citype", choices=("configdrive2", "nocloud", "opennebula")),
    Field("cloud_init.user", key="ciuser"),
    Field("cloud_init.password", key="cipassword", secret=True),
    Field("cloud_init.ssh_keys", "ssh", key="sshkeys"),
    Field("cloud_init.nameserver", "words", key="nameserver", sep=" "),
    Field("cloud_init.searchdomain", "words", key="searchdomain", sep=" "),
    Field("cloud_init.upgrade", "bool", key="ciupgrade", default=True),
)

GROUPS: tuple[Group, ...] = (
    Group(
        "agent",
        "agent",
        (
            Field("enabled", "bool", default=False),
            # The key that every version takes; 9.1 made it an alias of freeze-fs.
            Field("freeze_fs", "bool", "freeze-fs-on-backup", default=True, aliases=("freeze-fs", "guest-fsfreeze")),
            Field("fstrim_cloned_disks", "bool", default=False),
            Field("type", choices=("virtio", "isa"), default="virtio"),
        ),
        lead="enabled",
        filled=True,
    ),
    Group(
        "amd_sev",
        "amd-sev",
        (
            Field("type", choices=("std", "es", "snp")),
            Field("no_debug", "bool", "no-debug", default=False),
            Field("no_key_sharing", "bool", "no-key-sharing", default=False),
            Field("allow_smt", "bool", "allow-smt", default=True),
            Field("kernel_hashes", "bool", "kernel-hashes", default=False),
        ),
        lead="type",
        device=True,
        since="8.4",
    ),
    Group(
        "intel_tdx",
        "intel-tdx",
        (
            Field("type", choices=("tdx",)),
            Field("attestation", "bool", default=True),
            Field("vsock_cid", "int", "vsock-cid", default=2),
            Field("vsock_port", "int", "vsock-port", default=4050),
        ),
        lead="type",
        device=True,
        since="9.1",
    ),
    Group(
        "audio",
        "audio0",
        (
            Field("device", choices=("ich9-intel-hda", "intel-hda", "AC97")),
            Field("driver", choices=("spice", "none"), default="spice"),
        ),
        device=True,
    ),
    Group(
        "cpu",
        "cpu",
        (
            Field("type", key="cputype", default="kvm64"),
            Field("flags", "words"),
            Field("guest_phys_bits", "int", "guest-phys-bits", since="9.0"),
            Field("hidden", "bool", default=False),
            Field("hv_vendor_id", key="hv-vendor-id"),
            Field("phys_bits", key="phys-bits"),
            Field("reported_model", key="reported-model"),
        ),
        lead="type",
        filled=True,
    ),
    Group("ivshmem", "ivshmem", (Field("size", "int"), Field("name")), device=True),
    Group(
        "machine",
        "machine",
        (
            Field("type"),
            Field("viommu", choices=("intel", "virtio"), since="8.2"),
            Field("aw_bits", "int", "aw-bits", since="9.1"),
            Field("enable_s3", "bool", "enable-s3", since="8.4"),
            Field("enable_s4", "bool", "enable-s4", since="8.4"),
        ),
        lead="type",
    ),
    Group(
        "rng",
        "rng0",
        (
            Field("source", choices=("/dev/urandom", "/dev/random", "/dev/hwrng")),
            Field("max_bytes", "int", default=1024),
            Field("period", "int", default=1000),
        ),
        lead="source",
        device=True,
    ),
    Group(
        "smbios",
        "smbios1",
        tuple(Field(n) for n in ("uuid", "version", "serial", "manufacturer", "product", "sku", "family")),
    ),
    Group(
        "spice_enhancements",
        "spice_enhancements",
        (
            Field("foldersharing", "bool", default=False),
            Field("videostreaming", choices=("off", "all", "filter"), default="off"),
        ),
    ),
    Group("startup", "startup", (Field("order", "int"), Field("up", "int"), Field("down", "int")), lead="order"),
    Group(
        "vga",
        "vga",
        (
            Field("type", choices=_VGA, default="std"),
            Field("memory", "int"),
            Field("clipboard", choices=("vnc",), since="8.2"),
        ),
        lead="type",
    ),
    Group(
        "watchdog",
        "watchdog",
        (
            Field("model", choices=("i6300esb", "ib700"), default="i6300esb"),
            Field("action", choices=("reset", "shutdown", "poweroff", "pause", "debug", "none")),
        ),
        lead="model",
        device=True,
        filled=True,
    ),
    Group(
        "custom",
        "cicustom",
        tuple(Field(n) for n in ("user", "network", "meta", "vendor")),
        prefix="cloud_init.custom",
    ),
)

_IDS = tuple(
    Field(n.replace("-", "_"), key=n) for n in ("vendor-id", "device-id", "sub-vendor-id", "sub-device-id")
)  # each "0x" and four hexadecimal digits

SLOTTED: tuple[Group, ...] = (
    Group(
        "nics",
        "net",
        (
            Field("model", choices=_CARDS, default="virtio"),
            Field("mac", "mac", "macaddr"),
            Field("bridge"),
            Field("tag", "int"),
            Field("trunks", "words"),
            Field("firewall", "bool", default=False),
            Field("link_down", "bool", default=False),
            Field("mtu", "int"),
            Field("queues", "int", default=0),
            Field("rate", "float", default=0.0),
        ),
        lead="model",
        slots=32,
        device=True,
        filled=True,
    ),
    Group("ip_configs", "ipconfig", tuple(Field(n) for n in ("ip", "gw", "ip6", "gw6")), slots=32, device=True),
    Group(
        "usb",
        "usb",
        (Field("host"), Field("mapping", since="8.2"), Field("usb3", "bool", default=False)),
        lead="host",
        slots=15,
        device=True,
    ),
    Group(
        "hostpci",
        "hostpci",
        (
            Field("host", "words"),
            Field("mapping", since="8.2"),
            Field("rombar", "bool", default=True),
            Field("romfile"),
            Field("pcie", "bool", default=False),
            Field("x_vga", "bool", "x-vga", default=False),
            Field("legacy_igd", "bool", "legacy-igd", default=False),
            Field("mdev"),
            *_IDS,
            Field("driver", choices=("vfio", "keep"), default="vfio", since="9.1"),
        ),
        lead="host",
        slots=16,
        device=True,
    ),
    Group(
        "numa_nodes",
        "numa",
        (
            Field("cpus", "words"),
            Field("memory", "float"),
            Field("hostnodes", "words"),
            Field("policy", choices=("preferred", "bind", "interleave")),
        ),
        slots=8,
        device=True,
    ),
    Group("serial", "serial", (Field("device"),), lead="device", slots=4, device=True),
    Group("parallel", "parallel", (Field("device"),), lead="device", slots=3, device=True),
    Group(
        "virtiofs",
        "virtiofs",
        (
            Field("dirid"),
            Field("cache", choices=("auto", "always", "metadata", "never"), default="auto"),
            Field("direct_io", "bool", "direct-io", default=False),
            Field("expose_acl", "bool", "expose-acl", default=False),
            Field("expose_xattr", "bool", "expose-xattr", default=False),
        ),
        lead="dirid",
        slots=10,
        device=True,
        since="8.4",
    ),
)

_RATES = (
    *(Field(f"bps{way}", "int") for way in ("", "_rd", "_wr")),
    *(
        Field(f"{unit}{way}_max_length", "int", aliases=(f"{unit}{way}_length",))
        for unit in ("bps", "iops")
        for way in ("", "_rd", "_wr")
    ),
    *(Field(f"iops{way}{top}", "int") for way in ("", "_rd", "_wr") for top in ("", "_max")),
    *(Field(f"mbps{way}{top}", "float") for way in ("", "_rd", "_wr") for top in ("", "_max")),
)

# Where a volume is: "storage" says it for a new one, "volume" names one that is there. Only "size" can grow later.
_PLACE = (
    Field("storage"),
    Field("volume", aliases=("file",)),
    Field("size", "size"),
    Field("import_from", key="import-from"),
)

DRIVE = Group(
    "disks",
    "disk",
    (
        *_PLACE,
        Field("format", choices=("raw", "qcow", "qed", "qcow2", "vmdk", "cloop")),
        Field("media", choices=("disk", "cdrom"), default="disk"),
        Field("aio", choices=("native", "threads", "io_uring")),
        Field("backup", "bool"),
        Field("cache", choices=("none", "writethrough", "writeback", "unsafe", "directsync")),
        Field("detect_zeroes", "bool"),
        Field("discard", choices=("ignore", "on")),
        Field("iothread", "bool"),
        Field("model"),
        Field("product", since="8.2"),
        Field("queues", "int"),
        Field("replicate", "bool", default=True),
        Field("rerror", choices=("ignore", "report", "stop")),
        Field("ro", "bool"),
        Field("scsiblock", "bool", default=False),
        Field("serial"),
        Field("shared", "bool", default=False),
        Field("snapshot", "bool"),
        Field("ssd", "bool"),
        Field("vendor", since="8.2"),
        Field("werror", choices=("enospc", "ignore", "report", "stop")),
        Field("wwn"),
        *_RATES,
    ),
    lead="volume",
    device=True,
)

EFIDISK = Group(
    "efidisk",
    "efidisk0",
    (
        *_PLACE[:2],
        Field("import_from", key="import-from"),
        Field("format", choices=("raw", "qcow", "qed", "qcow2", "vmdk", "cloop")),
        Field("efitype", choices=("2m", "4m"), default="2m"),
        Field("ms_cert", key="ms-cert", choices=("2011", "2023", "2023w", "2023k"), default="2011", since="9.1"),
        Field("pre_enrolled_keys", "bool", "pre-enrolled-keys", default=False),
    ),
    lead="volume",
    device=True,
)

TPM = Group(
    "tpm",
    "tpmstate0",
    (
        *_PLACE[:2],
        Field("import_from", key="import-from"),
        Field("format", choices=("raw", "qcow2", "vmdk"), since="9.1"),
        Field("version", choices=("v1.2", "v2.0"), default="v1.2"),
    ),
    lead="volume",
    device=True,
)

BUSES = {"scsi": 31, "virtio": 16, "sata": 6, "ide": 4}
"""The kinds of slot for a disk and how many there are of each."""
