# SPDX-License-Identifier: GPL-3.0-or-later
"""A world for each drill of the catalogue: of a guest itself, of its shares, of its lock and of its backup."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from ansible_collections.pvelab.proxmox.tests.integration.drill_clock import DATE
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import RUN, Guest, soon
from ansible_collections.pvelab.proxmox.tests.integration.drill_world import OTHER, VICTIM, World

HOME = f"drills/{RUN}"
HOG = f"pvelab-hog-{RUN}.service"


class Hang(World):
    name = "guest_hang"

    def state(self, vmid: int) -> str:
        return "running"


class Crash(World):
    name = "guest_crash"


class Panic(World):
    """Its agent is told to crash the kernel; what is reset boots again."""

    name = "guest_panic"
    verbs = """ask)
    case $2 in
    */exec) : > "$W/held/103"; exit 1 ;;
    */ping) [ ! -e "$W/held/103" ] ;;
    */reset) rm -f "$W/held/103" ;;
    */resume) ;;
    *) exit 64 ;;
    esac ;;"""


# shares -----------------------------------------------------------------------------------------------------------


class Shares(World):
    """Each guest has a control group of its own, in a slice; what the kernel counts grows with the time."""

    files: ClassVar[dict[str, object]] = {}
    last = 0.0

    def make(self) -> None:
        self.groups = {vmid: self.folder / f"cgroup/qemu.slice/{vmid}.scope" for vmid in (VICTIM, OTHER)}
        for vmid in self.groups:
            self.put({f"cgroup/qemu.slice/{vmid}.scope/{name}": text for name, text in self.files.items()})
        self.have("site.CGROUPS", self.folder / "cgroup")
        self.have("site.cgroup", lambda _plan, vmid: self.groups[vmid])

    def passed(self) -> float:
        """What has passed since this was asked last, in seconds."""
        now = time.monotonic()
        passed, self.last = now - self.last, now
        return passed

    def share(self, name: str) -> str:
        """A file of the victim's group."""
        return self.read(f"cgroup/qemu.slice/{VICTIM}.scope/{name}")


class OutOfMemory(Shares):
    name = "guest_out_of_memory"
    files: ClassVar[dict[str, object]] = {"memory.max": "max", "memory.swap.max": "max"}

    def tick(self) -> None:
        if self.share("memory.max") not in ("max", "") and self.letter(VICTIM) == "S":
            number = self.pid(VICTIM)
            os.kill(number, signal.SIGKILL)
            self.says(f"Memory cgroup out of memory: Killed process {number} (kvm)")
            # A control group goes with its last process, and a new one has no limit.
            self.put({f"cgroup/qemu.slice/{VICTIM}.scope/{name}": text for name, text in self.files.items()})


class Starved(Shares):
    name = "guest_starved"
    files: ClassVar[dict[str, object]] = {"cpu.max": "max 100000", "cpu.stat": "nr_throttled 0"}

    def slow(self) -> bool:
        return not self.share("cpu.max").startswith("max")

    def tick(self) -> None:
        if self.slow():
            number = int(self.share("cpu.stat").split()[1]) + 1
            self.put({f"cgroup/qemu.slice/{VICTIM}.scope/cpu.stat": f"nr_throttled {number}"})


class Slow(Shares):
    name = "storage_slow"
    files: ClassVar[dict[str, object]] = {"io.max": "254:16 rbps=max wbps=max riops=max wiops=max"}
    swift: ClassVar[dict[str, float]] = {"faults.storage.WATCH_S": 0.3}

    def make(self) -> None:
        super().make()
        self.waited = 0
        self.have("site.held_by", lambda _path: "254:16")
        self.tick()

    def slow(self) -> bool:
        return "riops=3" in self.share("io.max")

    def tick(self) -> None:
        self.waited += int(500_000 * self.passed()) * self.slow()
        self.put({f"cgroup/qemu.slice/{VICTIM}.scope/io.pressure": f"some avg10=0.00 total={self.waited}"})


class Hogged(Shares):
    """A host whose kernel counts, and whose processes a hog can be beside."""

    files: ClassVar[dict[str, object]] = {"cpu.weight": "100"}
    swift: ClassVar[dict[str, float]] = {"faults.hogs.LEAST_S": 0.2, "faults.memory.ASK_EVERY_S": 0.1}
    where = "qemu.slice"

    def make(self) -> None:
        super().make()
        (self.folder / "cgroup/system.slice").mkdir()
        self.waited = self.pressed = 0
        self.began = time.monotonic()
        self.have("faults.hogs.PROC", self.folder / "proc")
        self.have("faults.sharing.KSM", self.folder / "ksm")
        self.have("faults.hogs.processors", lambda: 1)
        knobs = {"run": 1, "pages_to_scan": 200, "sleep_millisecs": 100, "pages_sharing": 0}
        self.put({f"ksm/{name}": value for name, value in knobs.items()})
        for name in ("panic_on_oom", "oom_kill_allocating_task", "overcommit_memory"):
            self.put({f"proc/sys/vm/{name}": 0})

    def hogs(self) -> bool:
        return (self.folder / "cgroup" / self.where / HOG / "memory.stat").exists()

    def tick(self) -> None:
        hogs = self.hogs()
        passed = self.passed()
        self.waited += int(900_000_000 * passed) * hogs
        self.pressed += int(950_000 * passed) * hogs
        number = self.pid(VICTIM)
        whole = {
            "proc/uptime": f"{100 + time.monotonic() - self.began:.2f} 1.00",
            "proc/pressure/cpu": f"some avg10=0.00 total={self.pressed}",
            f"proc/{number}/task/1/schedstat": f"1 {self.waited + 1} 1",
            "proc/meminfo": self.meminfo(),
        }
        # They are never seen half written, as those of a kernel are not.
        for name, text in whole.items():
            self.put({f"{name}.new": text})
            os.replace(self.folder / f"{name}.new", self.folder / name)

    def meminfo(self) -> str:
        available = self.available_mib() << 10
        return f"MemTotal:        2097152 kB\nMemAvailable:    {available} kB\nSwapTotal:  0 kB"

    def available_mib(self) -> int:
        return 1024

    def __enter__(self) -> World:
        super().__enter__()
        for vmid in (VICTIM, OTHER):
            self.put({f"proc/{self.pid(vmid)}/oom_score_adj": 0})
        soon((self.folder / "proc/meminfo").exists, "the kernel counts")
        return self


class Overcommit(Hogged):
    name = "cpu_overcommit"

    def slow(self) -> bool:
        return self.hogs() and self.share("cpu.weight") == "100"


class Exhaustion(Hogged):
    """What a balloon gives back, and what sharing saves, is there for others."""

    name = "memory_exhaustion"
    where = "system.slice"
    verbs = """ask)
    case $3 in
    "command=balloon "*) echo "${3#* }" > "$W/balloon" ;;
    *) exit 64 ;;
    esac ;;"""

    def available_mib(self) -> int:
        helped = 24 * (self.read("balloon") == "72") + 40 * (self.read("ksm/pages_to_scan") == "5000")
        return 90 + helped if self.hogs() else 1024

    def answer(self, path: str, _params: Mapping[str, Any]) -> Any:
        if path.endswith("103/status/current"):
            return {"balloon": int(self.read("balloon") or 96) << 20, "running-qemu": "10.1.2"}
        return None


class Killed(Hogged):
    name = "host_out_of_memory"
    where = "system.slice"

    def tick(self) -> None:
        super().tick()
        if self.hogs():
            self.says("Out of memory: Killed process 1 (pvelab-hog) total-vm:1kB")
            (self.systemd.state / HOG).unlink(missing_ok=True)
            group = self.folder / "cgroup" / self.where / HOG
            for path in group.iterdir():
                path.unlink()
            group.rmdir()


# a lock, and a backup ---------------------------------------------------------------------------------------------


class Lock(World):
    name = "stuck_lock"
    plan: ClassVar[dict[str, Any]] = {}
    swift: ClassVar[dict[str, float]] = {"faults.api.TRY_S": 0.1}
    verbs = f"""acts)
    [ "$1" = unlock ] || exit 64
    if [ -e "$W/{HOME}/locked-103" ]; then
        sed -i '/^lock: /d' "$W/103.conf"
        echo "no task and no process held it" > "$W/{HOME}/unlocked-103.txt"
        rm "$W/{HOME}/locked-103"
    fi ;;"""

    def make(self) -> None:
        self.put({"103.conf": "name: db1", "101.conf": "name: web1"})
        self.have("locks.shutil.which", lambda name: None if name == "qm" else f"/usr/bin/{name}")

    def wanted(self, **limits: float) -> dict[str, Any]:
        places = {"serial": f"{self.folder}/{{vmid}}.serial", "pid": f"{self.folder}/{{vmid}}.pid", "images": "images"}
        return {**super().wanted(**limits), "places": {**places, "conf": f"{self.folder}/{{vmid}}.conf"}}

    def lock(self) -> str:
        return "snapshot" if "lock: snapshot" in self.read("103.conf") else ""

    def answer(self, path: str, _params: Mapping[str, Any]) -> Any:
        if path.endswith("103/config") and self.lock():
            return {"scsi0": "local:103/disk.raw", "lock": "snapshot"}
        return [] if path == "/nodes/{node}/storage" else None

    def asked(self, _method: str, _path: str, _body: Any) -> Any:
        if self.lock():
            raise self.drill.node.Silent("answers 500 VM is locked (snapshot)")
        return None


class Backup(World):
    """A backup is a copy of the disk, and the guest that is made of it is there all the time, but silent."""

    name = "backup_restore"
    options: ClassVar[dict[str, Any]] = {"storage": "keeps"}
    copy = 9900
    verbs = f"""acts)
    here="$W/{HOME}"
    read -r now _idle < /proc/uptime
    case $1 in
    backup)
        echo '{{"vmid": 103, "storage": "keeps", "began": '$now'}}' > "$here/backup.json"
        cp "$W/images/103/disk.raw" "$W/backup"
        echo '{{"vmid": 103, "storage": "keeps", "volid": "keeps:one", "size": 9, "began": '$now', "ended": '$now'}}' \\
            > "$here/backup.json" ;;
    restore)
        cp "$W/backup" "$W/restored"
        echo '{{"vmid": 9900, "began": '$now', "restored": '$now', "started": '$now'}}' > "$here/restore.json" ;;
    discard) rm -f "$W/backup" "$W/restored" "$here/backup.json" "$here/restore.json" ;;
    *) exit 64 ;;
    esac ;;"""

    def make(self) -> None:
        self.guests[self.copy] = Guest(self.folder, self.copy, lambda: not (self.folder / "restored").exists())

    def answer(self, path: str, _params: Mapping[str, Any]) -> Any:
        there = (self.folder / "restored").exists()
        known = {
            "/nodes/{node}/qemu/103/config": {
                "scsi0": "local:103/disk.raw,size=2M",
                "serial0": "socket",
                "memory": "16",
            },
            "/nodes/{node}/qemu/9900/config": {"scsi0": "local:../restored"},
            "/nodes/{node}/storage": [{"storage": name, "content": "backup", "avail": 1 << 30} for name in STORES],
            "/nodes/{node}/storage/keeps/content": [{"volid": "keeps:one"}] * (self.folder / "backup").exists(),
            "/nodes/{node}/storage/local/content": [],
            "/cluster/resources": [{"vmid": vmid} for vmid in (101, 103, *((9900,) if there else ()))],
        }
        return known.get(path)


STORES = ("keeps", "local")


# services ---------------------------------------------------------------------------------------------------------


class Services(World):
    """The node answers as long as pvedaemon runs, and is not held."""

    name = "control_plane_down"
    restart: ClassVar[dict[str, str]] = {"pvestatd": "no", "pvedaemon": "on-failure", "pveproxy": "on-failure"}

    def make(self) -> None:
        self.have("site.cgroup", lambda _plan, _vmid: self.folder)
        for name, restart in self.restart.items():
            number = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600")
            with (self.folder / "started").open("a") as log:
                log.write(f"{number}\n")
            self.put({f"units/{name}": f"LoadState=loaded\nActiveState=active\nMainPID={number}\nRestart={restart}"})

    def silent(self) -> bool:
        text = self.read("units/pvedaemon")
        number = int(text.partition("MainPID=")[2].partition("\n")[0])
        return "ActiveState=active" not in text or self.drill.site.state(number) == "T"


class ServicesKilled(Services):
    name = "control_plane_killed"


class ServicesHung(Services):
    name = "control_plane_hung"


class Clock(World):
    name = "clock_skew"
    programs: ClassVar[dict[str, str]] = {"date": DATE.format(by="$W/by", date="/bin/date")}

    def make(self) -> None:
        self.put({"by": 0, "units/chrony": "LoadState=loaded\nActiveState=active"})
        self.have("faults.clock.ahead", lambda: time.time() - time.monotonic() + int(self.read("by") or 0) / 1e9)
        self.have("faults.clock.WATCHED", self.folder / "watched")
