# SPDX-License-Identifier: GPL-3.0-or-later
"""The cloud-init drive: data from the guest's options, on an ISO image in the volume vm-ID-cloudinit.

Facts (keys, file names, labels, default type by system) from PVE::QemuServer::Cloudinit.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import pycdlib

from labnode.errors import ApiError
from labnode.guests.drive import drives as config_drives
from labnode.guests.propstring import Format, parse
from labnode.machine.command import nics
from labnode.machine.nics import Nic
from labnode.storage import StorageService
from labnode.storage.run import run

Config = Mapping[str, str]
MOST = 3 << 20  # the volume has 4 MiB, the file system needs some of it
VOLUME_SIZE = 4 << 20
# type: (label, file of each role)
LAYOUT = {
    "nocloud": (
        "cidata",
        {"user": "/user-data", "network": "/network-config", "meta": "/meta-data", "vendor": "/vendor-data"},
    ),
    "configdrive2": (
        "config-2",
        {
            "user": "/openstack/latest/user_data",
            "network": "/openstack/content/0000",
            "meta": "/openstack/latest/meta_data.json",
            "vendor": "/openstack/latest/vendor_data.json",
        },
    ),
    "opennebula": ("CONTEXT", {"user": "/context.sh"}),
}


def drive(config: Config) -> str | None:
    """The option that holds the cloud-init drive, None when there is none."""
    return next((item.key for item in config_drives(config) if item.is_cloudinit), None)


def kind(config: Config) -> str:
    """nocloud, configdrive2 or opennebula; Windows only knows configdrive2."""
    windows = config.get("ostype", "").startswith(("win", "w2k", "wxp", "wvista"))
    return config.get("citype") or ("configdrive2" if windows else "nocloud")


def files(vmid: int, config: Config, storage: StorageService) -> dict[str, str]:
    """Text by role; `cicustom` replaces what it names by snippets. ApiError when a snippet is missing or all is too
    big."""
    if kind(config) == "opennebula":
        return {"user": _opennebula(vmid, config)}
    own = parse(config.get("cicustom", ""), Format())
    user = _snippet(own.get("user"), storage) or user_data(vmid, config)
    nocloud = kind(config) == "nocloud"
    network = _snippet(own.get("network"), storage) or (network_v1(config) if nocloud else network_eni(config))
    ident = hashlib.sha1((user + network).encode(), usedforsecurity=False).hexdigest()
    plain = f"instance-id: {ident}\n" if nocloud else _configdrive_meta(ident)
    meta = _snippet(own.get("meta"), storage) or plain
    found = {"user": user, "network": network, "meta": meta, "vendor": _snippet(own.get("vendor"), storage) or ""}
    if sum(len(text.encode()) for text in found.values()) > MOST:
        raise ApiError("Cloud-Init sum of snippets too big (> 3 MiB)")
    return found


def _snippet(volid: str | None, storage: StorageService) -> str | None:
    if volid is None:
        return None
    if storage.parse(volid).kind != "snippets":
        raise ApiError(f"{volid} is not in the snippets directory")
    try:
        return storage.path(volid).read_text(encoding="utf-8")
    except OSError:
        raise ApiError(f"volume '{volid}' does not exist") from None


def _names(vmid: int, config: Config) -> tuple[str, str]:
    name = config.get("name") or f"VM{vmid}"
    if "." in name:
        return name.partition(".")[0], name
    domain = config.get("searchdomain")
    return name, f"{name}.{domain}" if domain else name


def _keys(config: Config) -> list[str]:
    return [line.strip() for line in unquote(config.get("sshkeys", "")).splitlines() if line.strip()]


def user_data(vmid: int, config: Config, *, mask: bool = False) -> str:
    """#cloud-config; the password masked for people's eyes."""
    host, fqdn = _names(vmid, config)
    user, password = config.get("ciuser"), config.get("cipassword")
    lines = ["#cloud-config", f"hostname: {host}", "manage_etc_hosts: true", f"fqdn: {fqdn}"]
    lines += [f"user: {user}"] if user else []
    lines += ["disable_root: False"] if user == "root" else []
    lines += [f"password: {'**********' if mask else password}"] if password else []
    if keys := _keys(config):
        lines += ["ssh_authorized_keys:", *(f"  - {key}" for key in keys)]
    lines += ["chpasswd:", "  expire: False"]
    lines += ["users:", "  - default"] if user != "root" else []
    lines += ["package_upgrade: true"] if config.get("ciupgrade", "1") != "0" else []
    return "\n".join(lines) + "\n"


def _addresses(config: Config) -> list[tuple[Nic, dict[str, str]]]:
    """NICs that have an ipconfig, with it."""
    found = []
    for nic in sorted(nics(config), key=lambda item: item.key):
        if text := config.get(f"ipconfig{nic.number}"):
            found.append((nic, parse(text, Format())))
    return found


def _names_of_hosts(config: Config) -> tuple[list[str], list[str]]:
    """(name servers, search domains): the guest's own, else those of this machine."""
    host: dict[str, list[str]] = {"nameserver": [], "search": []}
    resolv = Path("/etc/resolv.conf")
    for line in resolv.read_text(encoding="utf-8").splitlines() if resolv.exists() else []:
        word, *rest = line.split() or [""]
        if word in host:
            host[word] += rest
    servers = config["nameserver"].split() if config.get("nameserver") else host["nameserver"][:3]
    domains = config["searchdomain"].split() if config.get("searchdomain") else host["search"]
    return servers, domains


def network_v1(config: Config) -> str:
    """network-config of NoCloud, which Proxmox VE writes in cloud-init's first version of it: interfaces found by
    MAC."""
    lines = ["version: 1", "config:"]
    for nic, ip in _addresses(config):
        lines += [
            "    - type: physical",
            f"      name: eth{nic.number}",
            f"      mac_address: '{nic.mac.lower()}'",
            "      subnets:",
        ]
        lines += _subnet4(ip) + _subnet6(ip)
    servers, domains = _names_of_hosts(config)
    if servers or domains:
        lines.append("    - type: nameserver")
        lines += ["      address:", *(f"      - '{item}'" for item in servers)] if servers else []
        lines += ["      search:", *(f"      - '{item}'" for item in domains)] if domains else []
    return "\n".join(lines) + "\n"


def _subnet4(ip: Mapping[str, str]) -> list[str]:
    if "ip" not in ip:
        return []
    if ip["ip"] == "dhcp":
        return ["      - type: dhcp4"]
    address, mask = _split4(ip["ip"])
    gateway = [f"        gateway: '{ip['gw']}'"] if ip.get("gw") else []
    return ["      - type: static", f"        address: '{address}'", f"        netmask: '{mask}'", *gateway]


def _subnet6(ip: Mapping[str, str]) -> list[str]:
    if "ip6" not in ip:
        return []
    if ip["ip6"] in ("dhcp", "auto"):
        return [f"      - type: {'dhcp6' if ip['ip6'] == 'dhcp' else 'ipv6_slaac'}"]
    gateway = [f"        gateway: '{ip['gw6']}'"] if ip.get("gw6") else []
    return ["      - type: static6", f"        address: '{ip['ip6']}'", *gateway]


def _split4(text: str) -> tuple[str, str]:
    try:
        found = ipaddress.IPv4Interface(text)
    except ValueError:
        raise ApiError(f"ipconfig: '{text}' is no IPv4 address with a prefix length") from None
    return str(found.ip), str(found.netmask)


def network_eni(config: Config) -> str:
    """The network of configdrive2: an /etc/network/interfaces."""
    lines = ["auto lo", "iface lo inet loopback", ""]
    servers, domains = _names_of_hosts(config)
    lines += [f"        dns_nameservers {' '.join(servers)}"] if servers else []
    lines += [f"        dns_search {' '.join(domains)}"] if domains else []
    for nic, ip in _addresses(config):
        name = f"eth{nic.number}"
        lines.append(f"auto {name}")
        if ip.get("ip") == "dhcp":
            lines.append(f"iface {name} inet dhcp")
        elif ip.get("ip"):
            address, mask = _split4(ip["ip"])
            lines += [f"iface {name} inet static", f"        address {address}", f"        netmask {mask}"]
            lines += [f"        gateway {ip['gw']}"] if ip.get("gw") else []
        if ip.get("ip6") in ("dhcp", "auto"):
            lines.append(f"iface {name} inet6 {ip['ip6']}")
        elif ip.get("ip6"):
            address, _, prefix = ip["ip6"].partition("/")
            lines += [f"iface {name} inet6 static", f"        address {address}", f"        netmask {prefix}"]
            lines += [f"        gateway {ip['gw6']}"] if ip.get("gw6") else []
    return "\n".join(lines) + "\n"


def _configdrive_meta(ident: str) -> str:
    return json.dumps({"uuid": ident, "network_config": {"content_path": "/content/0000"}}, indent=5) + "\n"


def _opennebula(vmid: int, config: Config) -> str:
    host, _fqdn = _names(vmid, config)
    lines = [f"USERNAME={config.get('ciuser') or 'root'}"]
    if password := config.get("cipassword"):
        lines.append(f"CRYPTED_PASSWORD_BASE64={base64.b64encode(password.encode()).decode()}")
    if keys := _keys(config):
        lines.append('SSH_PUBLIC_KEY="' + "\n".join(keys) + '"')
    servers, domains = _names_of_hosts(config)
    lines += [f"SET_HOSTNAME={host}"]
    lines += [f'DNS="{" ".join(servers)}"'] if servers else []
    lines += [f'SEARCH_DOMAIN="{" ".join(domains)}"'] if domains else []
    for nic, ip in _addresses(config):
        name = f"ETH{nic.number}"
        if ip.get("ip") == "dhcp":
            lines.append(f"{name}_DHCP=YES")
        elif ip.get("ip"):
            address, mask = _split4(ip["ip"])
            lines += [f"{name}_IP={address}", f"{name}_MASK={mask}", f"{name}_MAC={nic.mac.lower()}"]
            lines += [f"{name}_GATEWAY={ip['gw']}"] if ip.get("gw") else []
    return "\n".join([*lines, *(["NETWORK=YES"] if _addresses(config) else [])]) + "\n"


def iso(label: str, content: Mapping[str, str]) -> bytes:
    """An ISO 9660 image with Joliet and Rock Ridge names holding text files by path."""
    disc = pycdlib.PyCdlib()
    disc.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=label)
    made: set[str] = set()
    for number, (path, text) in enumerate(sorted(content.items())):
        short = ""
        for part in path.strip("/").split("/")[:-1]:
            above, short = short, f"{short}/{part.upper()[:8]}"
            full = f"{'' if not above else path[: path.index(part) - 1]}/{part}"
            if short not in made:
                disc.add_directory(short, rr_name=part, joliet_path=full)
                made.add(short)
        data = text.encode()
        name = path.rpartition("/")[2]
        disc.add_fp(io.BytesIO(data), len(data), f"{short}/FILE{number}.;1", rr_name=name, joliet_path=path)
    out = io.BytesIO()
    disc.write_fp(out)
    disc.close()
    return out.getvalue()


def opened(fmt: str, path: Path) -> str:
    """A volume as an option of qemu-img. Not locked: a running guest has it open, for reading only."""
    driver = "host_device" if path.is_block_device() else "file"
    return f"driver={fmt},file.driver={driver},file.locking=off,file.filename={str(path).replace(',', ',,')}"


async def write(vmid: int, config: Config, storage: StorageService) -> None:
    """Put fresh data on the guest's cloud-init volume, making the volume when it is missing."""
    key = drive(config)
    if key is None:
        return
    volid = parse(config[key], Format("file")).get("file", "")
    volume = storage.parse(volid)
    label, places = LAYOUT[kind(config)]
    texts = files(vmid, config, storage)
    image = await asyncio.to_thread(iso, label, {places[role]: text for role, text in texts.items() if role in places})
    if not await storage.exists(volid):
        name = volume.name.rpartition("/")[2]
        await storage.alloc(volume.storeid, vmid, volume.fmt, VOLUME_SIZE, name=name)
    await storage.activate_volume(volid)
    path = storage.path(volid)
    if volume.fmt == "raw" and path.is_file():
        work = path.with_name(f".{path.name}.unfinished")
        work.write_bytes(image + bytes(max(0, VOLUME_SIZE - len(image))))
        work.replace(path)
        return
    scratch = storage.store.path(f"run/{vmid}/cloudinit.iso")
    scratch.parent.mkdir(parents=True, exist_ok=True)
    scratch.write_bytes(image)
    try:
        argv = ["qemu-img", "convert", "-n", "-f", "raw", "--target-image-opts", str(scratch), opened(volume.fmt, path)]
        await run(argv, error=f"cloud-init drive '{volid}' was not written", package="qemu-utils")
    finally:
        scratch.unlink(missing_ok=True)
