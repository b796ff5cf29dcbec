# SPDX-License-Identifier: GPL-3.0-or-later
"""A world for each drill of the catalogue: of a guest's line, and of the host itself."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

from ansible_collections.pvelab.proxmox.tests.integration.drill_net import BRIDGE, IP, TC
from ansible_collections.pvelab.proxmox.tests.integration.drill_world import OTHER, VICTIM, World

# lines ------------------------------------------------------------------------------------------------------------


class Vlan(World):
    """Guest 103 is reached where its port is on VLAN 10 of a bridge, by what its port takes."""

    name = "network_isolation"
    reach: ClassVar[list[dict[str, Any]]] = [{"from": OTHER, "to": "10.0.0.3"}]
    plan: ClassVar[dict[str, Any]] = {"reach": reach}

    def make(self) -> None:
        net = self.folder / "net"
        tap = net / f"tap{VICTIM}i0"
        tap.mkdir(parents=True)
        self.put({"bridges/vmbr1/bridge/default_pvid": 1, "bridges/vmbr1/bridge/vlan_filtering": 1})
        self.put({f"net/{tap.name}/queue": "noqueue", f"net/{tap.name}/mtu": 1500, "bridges/vmbr1/mtu": 1500})
        self.put({f"net/{tap.name}/vlans": json.dumps({"10": ["PVID", "Egress Untagged"]})})
        (tap / "master").symlink_to("../../bridges/vmbr1")
        self.have("site.NET", net)
        values = {"python": sys.executable, "net": str(net)}
        for name, text in {"bridge": BRIDGE, "ip": IP, "tc": TC, "modprobe": "#!/bin/sh\n"}.items():
            path = self.systemd.programs / name
            path.write_text(text.format(**values))
            path.chmod(0o755)

    def vlans(self) -> dict[str, list[str]]:
        with suppress(ValueError):  # it is just being written
            found: dict[str, list[str]] = json.loads(self.read(f"net/tap{VICTIM}i0/vlans"))
            return found
        return {}

    def ping(self, command: list[str]) -> float | None:
        tap = f"net/tap{VICTIM}i0"
        on = (self.folder / tap / "master").exists() and "PVID" in self.vlans().get("10", [])
        size = int(command[command.index("-s") + 1]) if "-s" in command else 56
        if not on or size + 28 > int(self.read(f"{tap}/mtu")):
            return None
        return 201.0 if "netem" in self.read(f"{tap}/queue") else 1.0


class PortLost(Vlan):
    name = "network_port_lost"


class Mtu(Vlan):
    name = "network_mtu"
    plan: ClassVar[dict[str, Any]] = {"reach": [*Vlan.reach, {**Vlan.reach[0], "size": 1400}]}


class Far(Vlan):
    name = "network_slow"


class Bond(World):
    """A bond of two legs, which sees at once whether one is up."""

    name = "network_bond_member"
    plan: ClassVar[dict[str, Any]] = {"victims": [], "bystanders": [OTHER, VICTIM]}
    programs: ClassVar[dict[str, str]] = {
        "ip": """case "$*" in
"link set dev eno2 down")
    cd "$W/net"
    echo down > eno2/bonding_slave/mii_status
    echo 1 > eno2/bonding_slave/link_failure_count
    echo eno3 > bond0/bonding/active_slave ;;
"link set dev eno2 up") echo up > "$W/net/eno2/bonding_slave/mii_status" ;;
*) exit 64 ;;
esac"""
    }

    def make(self) -> None:
        self.have("site.NET", self.folder / "net")
        self.put({"net/bond0/operstate": "up"})
        self.put({"net/bond0/bonding/slaves": "eno2 eno3", "net/bond0/bonding/active_slave": "eno2"})
        self.put({"net/bond0/bonding/miimon": 100, "net/bond0/bonding/arp_interval": 0})
        for leg in ("eno2", "eno3"):
            self.put({f"net/{leg}/bonding_slave/mii_status": "up", f"net/{leg}/bonding_slave/link_failure_count": 0})


class Management(World):
    """An address takes its routes along."""

    name = "network_management"
    plan: ClassVar[dict[str, Any]] = {"victims": [], "bystanders": [OTHER, VICTIM]}
    programs: ClassVar[dict[str, str]] = {
        "ip": """case "$*" in
"-4 -j route show default") echo '[{"dst": "default", "dev": "vmbr0"}]' ;;
"-4 -j addr show dev vmbr0")
    row='{"family": "inet", "local": "192.0.2.5", "prefixlen": 24, "broadcast": "192.0.2.255", "scope": "global"}'
    [ -e "$W/address" ] || row=
    echo "[{\\"addr_info\\": [$row]}]" ;;
"-4 -o addr show dev vmbr0") [ ! -e "$W/address" ] || echo "2: vmbr0    inet 192.0.2.5/24 brd 192.0.2.255" ;;
"-4 route show dev vmbr0") cat "$W/routes" ;;
"addr del 192.0.2.5/24 dev vmbr0") rm "$W/address"; : > "$W/routes" ;;
"addr add 192.0.2.5/24 brd 192.0.2.255 dev vmbr0")
    : > "$W/address"
    echo "192.0.2.0/24 proto kernel scope link src 192.0.2.5 linkdown" > "$W/routes" ;;
"-4 route replace default via 192.0.2.1 proto kernel onlink dev vmbr0")
    echo "default via 192.0.2.1 proto kernel onlink" >> "$W/routes" ;;
*) exit 64 ;;
esac"""
    }

    def make(self) -> None:
        self.have("site.NET", self.folder / "net")
        (self.folder / "net/vmbr0").mkdir(parents=True)
        lines = (
            "192.0.2.0/24 proto kernel scope link src 192.0.2.5 linkdown",
            "default via 192.0.2.1 proto kernel onlink",
        )
        self.put({"address": "", "routes": "\n".join(lines)})


class ReadOnly(World):
    """What is mounted, and how, is a file; the node writes where it may."""

    name = "control_plane_readonly"
    plan: ClassVar[dict[str, Any]] = {"victims": [], "bystanders": [OTHER, VICTIM]}
    swift: ClassVar[dict[str, float]] = {"faults.api.TRY_S": 0.1}
    programs: ClassVar[dict[str, str]] = {
        "mount": """case "$*" in
"--bind $W/etc-of-a-node $W/etc-of-a-node")
    echo "50 20 8:1 /x $W/etc-of-a-node rw,relatime - ext4 /dev/sda1 rw" > "$W/mounts" ;;
"-o remount,bind,ro $W/etc-of-a-node") sed -i 's/ rw,rel/ ro,rel/' "$W/mounts" ;;
*) exit 64 ;;
esac""",
        "umount": ': > "$W/mounts"',
    }

    def make(self) -> None:
        (self.folder / "etc-of-a-node").mkdir()
        (self.folder / "mounts").touch()
        self.have("faults.config.MOUNTS", self.folder / "mounts")

    def wanted(self, **limits: float) -> dict[str, Any]:
        found = super().wanted(**limits)
        found["fault"]["options"]["path"] = str(self.folder / "etc-of-a-node")
        return found

    def asked(self, _method: str, _path: str, _body: Any) -> Any:
        if " ro," in self.read("mounts"):
            raise self.drill.node.Silent("answers 500 unable to write '103.conf' - Read-only file system")
        return None


# the host ---------------------------------------------------------------------------------------------------------


# A boot takes longer than a guest may stand still.
BOOT_S = 0.8


class Reboot(World):
    """A host that goes down, with the runner and all guests, and comes up with those that start with it."""

    name = "hypervisor_reboot"
    plan: ClassVar[dict[str, Any]] = {"victims": [VICTIM, OTHER], "bystanders": []}
    onboot: ClassVar[tuple[int, ...]] = (VICTIM,)
    back = 0.0

    def make(self) -> None:
        self.put({"boot-id": "the-first", "sysrq": ""})
        self.node.guests[0]["tags"] = "drill-ok"
        self.have("faults.reboot.BOOT_ID", self.folder / "boot-id")
        self.have("faults.reboot.SYSRQ", self.folder / "sysrq")

    def answer(self, path: str, _params: Mapping[str, Any]) -> Any:
        return {"scsi0": "local:103/disk.raw", "onboot": 1} if path.endswith("103/config") else None

    def down(self) -> bool:
        return (self.folder / "down").exists() or self.read("sysrq") == "b"

    def tick(self) -> None:
        if self.down() and self.read("boot-id") == "the-first":
            if not self.back:
                self.goes_down()
                self.back = time.monotonic() + BOOT_S
            elif time.monotonic() > self.back:
                self.comes_up()

    def goes_down(self) -> None:
        for word in (self.read("runner"), *(str(self.pid(vmid)) for vmid in self.guests)):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(word), signal.SIGKILL)
        for path in (*self.systemd.state.glob("pvelab*.timer"), *self.systemd.state.glob("pvelab*.service")):
            path.unlink()

    def comes_up(self) -> None:
        self.says("EXT4-fs (sda1): recovery complete")
        for vmid in self.onboot:
            number = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600")
            with (self.folder / "started").open("a") as log:
                log.write(f"{number}\n")
            self.put({f"{vmid}.pid": number})
        self.put({"boot-id": "the-second"})


class PowerFailure(Reboot):
    name = "hypervisor_crash"
