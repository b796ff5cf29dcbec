# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is neither drive nor NIC: display, serial ports, USB, audio, agent, balloon, watchdog, random
numbers, firmware."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from labnode.errors import ApiError
from labnode.guests import values
from labnode.guests.propstring import Format, parse
from labnode.machine.pci import place
from labnode.machine.places import Places

Log = Callable[[str], None]
Config = Mapping[str, str]
SERIALS, PARALLELS, USBS, PCIS = 4, 3, 14, 16
SYS_USB, SYS_PCI = Path("/sys/bus/usb/devices"), Path("/sys/bus/pci/devices")
OVMF = Path("/usr/share/OVMF")
VGA = {
    "std": "VGA",
    "cirrus": "cirrus-vga",
    "vmware": "vmware-svga",
    "virtio": "virtio-vga",
    "virtio-gl": "virtio-vga",
    "qxl": "qxl-vga",
}


def option(config: Config, key: str, default_key: str) -> dict[str, str]:
    """A property string of the configuration, empty when the key is not there."""
    return parse(config.get(key, ""), Format(default_key))


def display(config: Config, places: Places, warn: Log) -> list[str]:
    """The graphics card and its VNC socket, or none with vga=none and vga=serialN."""
    found = option(config, "vga", "type")
    kind = found.get("type", "std")
    if kind == "none" or kind.startswith("serial"):
        return ["-vga", "none", "-nographic", "-monitor", "none", "-serial", "none", "-parallel", "none"]
    heads = int(kind[3:]) if re.fullmatch(r"qxl[234]", kind) else 1
    driver = VGA[kind.rstrip("234")]
    if kind == "virtio-gl":
        warn("display 'virtio-gl' runs without 3D acceleration on this node")
    memory = ""
    if size := found.get("memory"):
        memory = f",max_hostmem={int(size) << 20}" if driver == "virtio-vga" else f",vgamem_mb={size}"
    args = ["-device", f"{driver},id=vga,{place('vga')}{memory}"]
    for head in range(1, heads):
        args += ["-device", f"qxl,id=vga{head},{place(f'vga{head}')}"]
    return [*args, "-vnc", f"unix:{places.socket('vnc')}", "-monitor", "none", "-serial", "none", "-parallel", "none"]


def serials(config: Config, places: Places) -> list[str]:
    """Serial and parallel ports. A socket port also writes all it hears into a log file."""
    args: list[str] = []
    for number in range(SERIALS):
        target = config.get(f"serial{number}")
        if target == "socket":
            log = places.serial_log(number)
            path = places.socket(f"serial{number}")
            args += ["-chardev", f"socket,id=serial{number},path={path},server=on,wait=off,logfile={log},logappend=on"]
        elif target:
            args += ["-chardev", f"serial,id=serial{number},path={_character_device(f'serial{number}', target)}"]
        if target:
            args += ["-device", f"isa-serial,chardev=serial{number}"]
    for number in range(PARALLELS):
        if target := config.get(f"parallel{number}"):
            kind = "serial" if target.startswith("/dev/usb/lp") else "parallel"
            args += ["-chardev", f"{kind},id=parallel{number},path={_character_device(f'parallel{number}', target)}"]
            args += ["-device", f"isa-parallel,chardev=parallel{number}"]
    return args


def _character_device(key: str, path: str) -> str:
    if not Path(path).is_char_device():
        raise ApiError(f"{key}: no such device '{path}' on this node")
    return path


def usb(config: Config, warn: Log) -> list[str]:
    """Controllers, tablet and passed-through devices."""
    args = ["-device", "piix3-usb-uhci,id=uhci,bus=pci.0,addr=0x1.0x2"]
    keys = [f"usb{n}" for n in range(USBS) if config.get(f"usb{n}")]
    if keys:
        args += ["-device", f"qemu-xhci,p2=15,p3=15,id=xhci,{place('xhci')}"]
    if config.get("tablet", "1") != "0" and not config.get("vga", "").startswith(("serial", "none")):
        args += ["-device", "usb-tablet,id=tablet,bus=uhci.0,port=1"]
    for key in keys:
        device = usb_device(key, config[key], warn)
        args += ["-device", device] if device else []
    return args


def usb_device(key: str, text: str, warn: Log) -> str | None:
    """`-device` value of one usbN; ApiError when this node has no such device; None for SPICE channels, which it has
    not."""
    found = parse(text, Format("host"))
    host = found.get("host", "")
    if host == "spice" or text == "spice":
        warn(f"{key}: SPICE redirection is left out - this node has no SPICE display")
        return None
    if "mapping" in found:
        raise ApiError(f"{key}: USB mapping '{found['mapping']}' is not defined on this node")
    if match := re.fullmatch(r"(?:0x)?([0-9a-fA-F]{4}):(?:0x)?([0-9a-fA-F]{4})", host):
        vendor, product = match[1].lower(), match[2].lower()
        if not any(
            _reads(path / "idVendor") == vendor and _reads(path / "idProduct") == product for path in SYS_USB.glob("*")
        ):
            raise ApiError(f"{key}: no USB device '{vendor}:{product}' on this node")
        return f"usb-host,bus=xhci.0,port={int(key[3:]) + 1},vendorid=0x{vendor},productid=0x{product},id={key}"
    if match := re.fullmatch(r"(\d+)-(\d+(?:\.\d+)*)", host):
        if not (SYS_USB / host).exists():
            raise ApiError(f"{key}: no USB device at port '{host}' on this node")
        return f"usb-host,bus=xhci.0,port={int(key[3:]) + 1},hostbus={match[1]},hostport={match[2]},id={key}"
    raise ApiError(f"{key}: unable to parse usb device '{host}'")


def _reads(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def passthrough(config: Config) -> list[str]:
    """PCI devices of the machine and shared directories; ApiError where this node has none such."""
    args: list[str] = []
    for key in (f"hostpci{n}" for n in range(PCIS)):
        if not config.get(key):
            continue
        found = parse(config[key], Format("host"))
        if "mapping" in found:
            raise ApiError(f"{key}: PCI device mapping '{found['mapping']}' is not defined on this node")
        address = found.get("host", "").split(";")[0]
        full = address if address.count(":") == 2 else f"0000:{address}"
        full = full if "." in full else f"{full}.0"
        if not (SYS_PCI / full).exists():
            raise ApiError(f"{key}: no PCI device found for '{full}' on this node")
        try:
            where = place(key)
        except ValueError:
            raise ApiError(f"{key}: this node passes through hostpci0 to hostpci3 only") from None
        args += ["-device", f"vfio-pci,host={full},id={key},{where}"]
    for number in range(10):
        if text := config.get(f"virtiofs{number}"):
            mapping = parse(text, Format("dirid")).get("dirid", text)
            raise ApiError(f"virtiofs{number}: directory mapping '{mapping}' is not defined on this node")
    return args


def audio(config: Config) -> list[str]:
    """The sound card; it plays to nowhere."""
    if not config.get("audio0"):
        return []
    kind = option(config, "audio0", "device")["device"]
    args = ["-audiodev", "none,id=audio0-backend0"]
    if kind == "AC97":
        return [*args, "-device", f"AC97,id=audio0,{place('audio0')},audiodev=audio0-backend0"]
    args += ["-device", f"{kind},id=audiodev0,{place('audio0')}"]
    for number, codec in enumerate(("hda-micro", "hda-duplex")):
        args += ["-device", f"{codec},id=audiodev0-codec{number},bus=audiodev0.0,cad={number},audiodev=audio0-backend0"]
    return args


def small(config: Config, places: Places) -> list[str]:
    """Balloon, guest agent channel, watchdog, random numbers, generation id."""
    args: list[str] = []
    if config.get("vmgenid"):
        args += ["-device", f"vmgenid,guid={config['vmgenid']}"]
    if config.get("balloon", "1") != "0":
        args += ["-device", f"virtio-balloon-pci,id=balloon0,{place('balloon0')},free-page-reporting=on"]
    agent = values.agent(config)
    if agent:
        args += ["-chardev", f"socket,id=qga0,path={places.socket('qga')},server=on,wait=off"]
        if agent.get("type", "virtio") == "isa":
            args += ["-device", "isa-serial,chardev=qga0"]
        else:
            args += ["-device", f"virtio-serial-pci,id=qga0,{place('qga0')}"]
            args += ["-device", "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0"]
    if config.get("watchdog"):
        found = option(config, "watchdog", "model")
        model = found.get("model", "i6300esb")
        where = f",{place('watchdog0')}" if model == "i6300esb" else ""
        args += ["-device", f"{model},id=watchdog0{where}"]
        args += ["-action", f"watchdog={found['action']}"] if found.get("action") else []
    if config.get("rng0"):
        args += _rng(option(config, "rng0", "source"))
    return args


def _rng(found: Mapping[str, str]) -> list[str]:
    source = found.get("source", "/dev/urandom")
    if not Path(source).exists():
        raise ApiError(f"rng0: source of entropy '{source}' does not exist on this node")
    limit, period = found.get("max_bytes", "1024"), found.get("period", "1000")
    rate = f",max-bytes={limit},period={period}" if limit != "0" else ""
    return [
        "-object",
        f"rng-random,filename={source},id=rng0",
        "-device",
        f"virtio-rng-pci,rng=rng0,id=rng0dev,{place('rng0')}{rate}",
    ]


def smbios(config: Config) -> list[str]:
    """Type 1 fields."""
    if not config.get("smbios1"):
        return []
    found = parse(config["smbios1"], values.SMBIOS)
    encoded = found.pop("base64", "0") == "1"
    parts = []
    for key, value in sorted(found.items()):
        text = base64.b64decode(value).decode("utf-8", "replace") if encoded and key != "uuid" else value
        parts.append(f"{key}={text.replace(',', ',,')}")
    return ["-smbios", ",".join(["type=1", *parts])]


def clock(config: Config) -> list[str]:
    """-rtc: UTC, local time for Windows and on request, or a given start."""
    windows = config.get("ostype", "").startswith(("w", "win"))
    base = "localtime" if config.get("localtime", "1" if windows else "0") == "1" else "utc"
    start = config.get("startdate", "now")
    return ["-rtc", f"base={start if start != 'now' else base},driftfix=slew"]


def firmware_code(kind: str, secure: bool) -> tuple[Path, Path, int]:
    """(code, template of variables, size of the variables) of the UEFI firmware; ApiError when it is not installed."""
    large = kind == "4m"
    stem = "_4M" if large else ""
    code = OVMF / f"OVMF_CODE{stem}{'.secboot' if secure else ''}.fd"
    variables = OVMF / f"OVMF_VARS{stem}{'.ms' if secure else ''}.fd"
    if not code.exists() or not variables.exists():
        raise ApiError(f"bios 'ovmf' needs the UEFI firmware '{code}', which is not installed - apt install ovmf")
    return code, variables, variables.stat().st_size
