# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo shows of the lab it has made: a table of guests, with what their agents and canaries say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from demo_node import Node
from proxmoxer import ProxmoxAPI, ResourceException

from labnode import canary

COLUMNS = ("guest", "id", "state", "size", "bridge", "address, as its agent says", "snapshots", "heartbeat")


def summary(node: Node) -> str:
    """The table, ready to print."""
    return table(COLUMNS, rows(node))


def rows(node: Node) -> Iterable[tuple[str, ...]]:
    """One row a guest, by its id; asked of the API with a client that is not the collection's own."""
    pve = client(node).nodes(node.endpoint["node"])
    for guest in sorted(pve.qemu.get(), key=lambda one: int(one["vmid"])):
        vmid = int(guest["vmid"])
        config = pve.qemu(vmid).config.get()
        template = bool(config.get("template"))
        yield (
            str(guest.get("name", "")),
            str(vmid),
            "template" if template else str(guest["status"]),
            f"{config.get('cores', 1)} core, {config.get('memory')} MiB",
            bridge(config),
            "" if template else address(pve.qemu(vmid)),
            ", ".join(snap["name"] for snap in pve.qemu(vmid).snapshot.get() if snap["name"] != "current"),
            "" if template else heartbeat(node, vmid),
        )


def client(node: Node) -> ProxmoxAPI:
    """Somebody else's client, logged in."""
    host, _, port = node.url.removeprefix("https://").rpartition(":")
    return ProxmoxAPI(
        host, port=int(port), user="root@pam", password=node.password, verify_ssl=str(node.certificate), timeout=30
    )


def bridge(config: dict[str, Any]) -> str:
    """`vmbr0, VLAN 10`."""
    parts = dict(part.partition("=")[::2] for part in str(config.get("net0", "")).split(","))
    return f"{parts['bridge']}, VLAN {parts['tag']}" if "tag" in parts else parts.get("bridge", "")


def address(guest: Any) -> str:
    """What the agent inside says, not what was asked for."""
    try:
        nics = guest.agent("network-get-interfaces").get()["result"]
    except ResourceException as error:
        return f"({str(error.content).strip()})"
    found = [
        f"{entry['ip-address']}/{entry['prefix']}"
        for nic in nics
        if nic["name"] != "lo"
        for entry in nic.get("ip-addresses", [])
        if entry["ip-address-type"] == "ipv4"
    ]
    return ", ".join(found)


def heartbeat(node: Node, vmid: int) -> str:
    """The newest acknowledged write of the canary."""
    acks = acknowledged(node, vmid)
    if not acks:
        return "none yet"
    middle = sorted(ack.lat_us for ack in acks)[len(acks) // 2]
    return f"#{acks[-1].seq}, writes take {middle / 1000:.1f} ms"


def acknowledged(node: Node, vmid: int) -> list[canary.Ack]:
    log = node.state / "run" / str(vmid) / "serial.log"
    return canary.parse_serial(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else []


def heartbeats_on_disk(node: Node) -> str:
    """Hold every stopped guest's disk against what its canary acknowledged: one sentence."""
    total, unsound = 0, []
    for disk in sorted(node.state.glob("storage/*/images/*/vm-*-disk-0.qcow2")):
        vmid = int(disk.parent.name)
        if acknowledged(node, vmid):
            verdict = canary.check(disk, node.state / "run" / str(vmid) / "serial.log")
            total += verdict.acked
            if not verdict.sound:
                unsound.append(str(vmid))
    if unsound:
        return f"guests stopped; DATA LOST OR DAMAGED in {', '.join(unsound)}"
    return f"guests stopped; all {total} acknowledged heartbeats are on their disks"


def table(head: tuple[str, ...], body: Iterable[tuple[str, ...]]) -> str:
    """Columns as wide as they have to be."""
    lines = [head, *body]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join(["", f"  {text[0]}", f"  {rule}", *(f"  {line}" for line in text[1:]), ""])
