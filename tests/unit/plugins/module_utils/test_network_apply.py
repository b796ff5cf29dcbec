# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of a change are run by a real shell, in a directory of the test and with stand-ins for ifreload."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.network_apply import (
    DIRECTORY,
    FILE,
    Running,
    boot_unit,
    confirmation,
    pruning,
    running,
    token_of,
    transaction,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Run, Step, Write

BEFORE = "auto lo\r\niface lo inet loopback\n\t# tab, end without a line break"
AFTER = "auto lo\niface lo inet loopback\n"
TOKEN = "0001-abcdef01"
# No process has this number.
GONE = "0"
PATH = "PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


class Sandbox:
    """A host's files below one directory; the commands that would touch the real host are stand-ins that keep a log."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.here = root / DIRECTORY.lstrip("/") / TOKEN
        self.file = root / FILE.lstrip("/")
        self.unit = root / "etc/systemd/system" / boot_unit(TOKEN)
        self.log = root / "log"

    def local(self, text: str) -> str:
        text = text.replace(PATH, f"PATH={self.root}/bin:/usr/bin:/bin").replace("/sys/class/net", f"{self.root}/net")
        for path in (DIRECTORY, "/etc/network", "/etc/systemd/system"):
            text = text.replace(path, f"{self.root}{path}")
        return text

    def prepare(self, ifreload_rc: int = 0) -> None:
        for directory in (self.here, self.file.parent, self.unit.parent / "sysinit.target.wants", self.root / "bin"):
            directory.mkdir(parents=True)
        self.file.write_bytes(BEFORE.encode())
        for name, rc in {
            "ifreload": ifreload_rc,
            "ifup": 1,
            "systemctl": 0,
            "systemd-run": 0,
            "ip": 0,
            "bridge": 0,
        }.items():
            self.command(name, f'echo "words of {name}"\nexit {rc}')

    def command(self, name: str, script: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.log}\n{script}\n')
        path.chmod(0o755)

    def do(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Write):
                path = Path(self.local(step.path))
                if step.content is None:
                    path.unlink(missing_ok=True)
                else:
                    path.write_bytes(self.local(step.content).encode() if path != self.file else step.content.encode())
            elif isinstance(step, Run):
                self.run([self.local(a) for a in step.argv])

    def run(self, argv: list[str]) -> int:
        environment = {**os.environ, "PATH": f"{self.root}/bin:/usr/bin:/bin"}
        return subprocess.run(argv, env=environment, check=False, capture_output=True, timeout=30).returncode

    def script(self, name: str, *words: str) -> int:
        return self.run(["/bin/sh", str(self.here / name), *words])

    def states(self) -> set[str]:
        return {p.name for p in self.here.iterdir()} & {"armed", "reverting", "reverted", "confirmed"}


@pytest.fixture
def host(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def changed(host: Sandbox, ifreload_rc: int = 0) -> None:
    host.prepare(ifreload_rc)
    now = Running([("eno1", "up"), ("eno3", "down")], [("tap104i0", "vmbr0", ["vid 10 pvid untagged"])])
    host.do(transaction(TOKEN, AFTER, now, 60))


def test_the_timer_puts_the_old_file_back_byte_for_byte_and_leaves_no_unit(host: Sandbox) -> None:
    changed(host)
    assert host.file.read_bytes() == AFTER.encode() and host.states() == {"armed"} and host.unit.exists()
    assert host.script("undo.sh") == 0
    assert host.file.read_bytes() == BEFORE.encode() and host.states() == {"reverted"} and not host.unit.exists()
    assert "ifreload -a\n" in host.log.read_text()
    host.file.write_bytes(b"the next change")
    assert host.script("undo.sh") == 0
    assert host.file.read_bytes() == b"the next change", "it goes back once only"


def test_after_a_confirmation_neither_the_timer_nor_a_reboot_goes_back(host: Sandbox) -> None:
    changed(host)
    host.do(confirmation(TOKEN))
    assert host.states() == {"confirmed"} and not host.unit.exists()
    assert host.script("undo.sh") == 0 and host.script("undo.sh", "boot") == 0
    assert host.file.read_bytes() == AFTER.encode() and host.states() == {"confirmed"}


def test_a_reboot_in_between_goes_back_without_a_reload(host: Sandbox) -> None:
    changed(host)
    host.log.write_text("")
    assert host.script("undo.sh", "boot") == 0
    assert host.file.read_bytes() == BEFORE.encode() and host.states() == {"reverted"} and not host.unit.exists()
    assert host.log.read_text() == "", "networking.service comes later and reads the old file"


def test_a_reboot_in_the_middle_of_going_back_finishes_it(host: Sandbox) -> None:
    changed(host)
    (host.here / "armed").rename(host.here / "reverting")
    assert host.script("undo.sh", "boot") == 0
    assert host.file.read_bytes() == BEFORE.encode() and host.states() == {"reverted"}


def test_going_back_puts_cards_up_and_down_as_they_were(host: Sandbox) -> None:
    changed(host)
    for name in ("eno1", "eno3"):
        (host.root / "net" / name).mkdir(parents=True)
    host.log.write_text("")
    host.script("undo.sh")
    said = host.log.read_text().splitlines()
    assert said[said.index("ifreload -a") + 1 :] == ["ip link set dev eno1 up", "ip link set dev eno3 down"]


def test_a_reload_that_fails_goes_back_at_once(host: Sandbox) -> None:
    changed(host, ifreload_rc=1)
    host.script("reload.sh", GONE)
    assert host.file.read_bytes() == BEFORE.encode() and host.states() == {"reverted"}
    assert (host.here / "reload.rc").read_text() == "1\n" and "words of ifreload" in (
        host.here / "reload.log"
    ).read_text()


def test_going_back_waits_for_the_lock_of_ifupdown2(host: Sandbox) -> None:
    changed(host)
    host.command("ifreload", f"[ -e {host.root}/free ] || {{ : >{host.root}/free; exit 89; }}")
    host.log.write_text("")
    assert host.script("undo.sh") == 0
    said = host.log.read_text().splitlines()
    assert (
        said.count("ifreload -a") == 2 and f"systemctl kill --signal=KILL pvelab-network-reload-{TOKEN}.service" in said
    )
    assert host.states() == {"reverted"}


def test_a_rehearsal_checks_and_changes_nothing(host: Sandbox) -> None:
    changed(host)
    host.file.write_bytes(BEFORE.encode())
    host.log.write_text("")
    assert host.script("undo.sh", "rehearse") == 0
    assert host.file.read_bytes() == BEFORE.encode() and host.states() == {"armed"} and host.unit.exists()
    assert host.log.read_text() == ""


def test_where_the_timer_does_not_run_nothing_is_changed(host: Sandbox) -> None:
    host.prepare()
    host.command("systemctl", '[ "$1" != is-active ]')
    host.do(transaction(TOKEN, AFTER, Running([], []), 60))
    assert host.file.read_bytes() == BEFORE.encode() and host.states() == set()
    assert "reload.sh" not in host.log.read_text()


def test_a_reload_that_comes_too_late_does_nothing(host: Sandbox) -> None:
    changed(host)
    host.script("undo.sh")
    host.log.write_text("")
    assert host.script("reload.sh", GONE) == 0
    assert host.log.read_text() == ""


def test_a_check_tells_mistakes_from_warnings(host: Sandbox) -> None:
    changed(host)
    candidate = str(host.here / "candidate")
    assert host.script("check.sh", candidate) == 0, "ifup ended with 1 and has no error to tell"
    assert os.listdir(host.file.parent) == ["interfaces"]
    host.command("ifup", 'echo "error: $4: line3: iface x: invalid syntax" >&2; exit 1')
    assert host.script("check.sh", candidate) == 1


def test_a_relative_source_is_looked_for_beside_the_file(host: Sandbox) -> None:
    changed(host)
    (host.file.parent / "interfaces.d").mkdir()
    (host.file.parent / "interfaces.d" / "lab").touch()
    host.command("ifup", 'cd "$(dirname "$4")" && [ -e interfaces.d/lab ] || echo "error: no such file"')
    assert host.script("check.sh", str(host.here / "candidate")) == 0


def test_a_guest_that_a_reload_unplugs_is_plugged_in_again_with_its_vlan(host: Sandbox) -> None:
    changed(host)
    (host.root / "net/tap104i0").mkdir(parents=True)
    (host.root / "net/vmbr0/bridge").mkdir(parents=True)
    assert host.script("reload.sh", GONE) == 0
    said = host.log.read_text()
    assert "ip link set dev tap104i0 master vmbr0 up\n" in said
    assert "bridge vlan add dev tap104i0 vid 10 pvid untagged\n" in said


def test_a_guest_that_is_plugged_in_is_left_alone(host: Sandbox) -> None:
    changed(host)
    (host.root / "net/tap104i0/master").mkdir(parents=True)
    (host.root / "net/vmbr0/bridge").mkdir(parents=True)
    assert host.script("reload.sh", GONE) == 0 and "tap104i0" not in host.log.read_text()


def test_the_oldest_changes_are_forgotten() -> None:
    runs = [f"{n:04}-ffffffff" for n in range(1, 23)]
    assert pruning(runs[:19]) == []
    assert [s.argv for s in pruning(runs) if isinstance(s, Run)] == [
        ("rm", "-rf", *(f"{DIRECTORY}/{r}" for r in ("0001-ffffffff", "0002-ffffffff", "0003-ffffffff")))
    ]


def test_tokens_go_up_and_tell_changes_apart() -> None:
    assert token_of([], "a", "b")[:5] == "0001-" and token_of(["0009-ffffffff"], "a", "b")[:5] == "0010-"
    assert token_of([], "a", "b") != token_of([], "a", "c")


def test_what_runs_are_links_up_or_down_and_ports_of_guests_with_their_vlans() -> None:
    links = {
        "tap1i0": {"master": "vmbr0", "flags": ["UP"]},
        "fwln3i0": {"master": "fwbr3i0", "flags": ["UP"]},
        "eno1": {"master": "vmbr0", "flags": ["BROADCAST", "UP"]},
        "eno2": {"flags": ["BROADCAST"]},
        "veth2i0": {},
    }
    rows = [
        {"ifname": "tap1i0", "vlans": [{"vlan": 5, "flags": ["PVID", "Egress Untagged"]}, {"vlan": 7, "vlanEnd": 9}]}
    ]
    now = running(links, rows)
    assert now.links == [("eno1", "up"), ("eno2", "down")]
    assert now.ports == [("tap1i0", "vmbr0", ["vid 5 pvid untagged", "vid 7-9"])]
