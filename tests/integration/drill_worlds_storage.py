# SPDX-License-Identifier: GPL-3.0-or-later
"""A world for each drill of the catalogue: of what is below a guest's disk."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import RUN
from ansible_collections.pvelab.proxmox.tests.integration.drill_world import OTHER, VICTIM, World

HOME = f"drills/{RUN}"


class Full(World):
    """Storage on which a write of the victim finds no room as long as ``full`` says so; then it waits to be resumed."""

    called = "io-error"

    def full(self) -> bool:
        return (self.folder / "made").exists()

    def tick(self) -> None:
        if self.full():
            (self.held / str(VICTIM)).touch()


class Directory(Full):
    name = "storage_full"
    programs: ClassVar[dict[str, str]] = {
        "fallocate": ': > "$3"',
        "dd": 'for word in "$@"; do case $word in of=*) : > "${word#of=}" ;; esac; done; exit 1',
    }

    def make(self) -> None:
        # Nothing is filled that lies on the host's own root file system.
        self.place = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="pvelab-drill-"))

    def wanted(self, **limits: float) -> dict[str, Any]:
        found = super().wanted(**limits)
        found["fault"]["options"]["path"] = str(self.place)
        return found

    def full(self) -> bool:
        return any(self.place.glob("pvelab-filler*"))

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        shutil.rmtree(self.place)


class Thin(Full):
    """The kernel lets writes wait, and nobody is told."""

    name = "thin_pool_full"
    options: ClassVar[dict[str, Any]] = {"vg": "fast", "pool": "data"}
    called = "running"
    programs: ClassVar[dict[str, str]] = {
        "lvs": """case "$*" in
*lv_size*) echo 1073741824 25.01 monitored ;;
*full_name*) [ ! -e "$W/made" ] || echo fast/pvelab-filler ;;
*) [ -e "$W/made" ] ;;
esac""",
        # It takes whole sectors only, and zeroing belongs to pools.
        "lvcreate": 'echo "$*" | grep -v -e --zero | grep -q -e "--virtualsize [0-9]*s " && : > "$W/made"',
        "lvremove": 'rm -f "$W/made" "$W/held/103"',
        "lvchange": ":",
        "dmsetup": 'echo 0 1 thin-pool 1 2/3 4/4 - $([ -e "$W/made" ] && echo out_of_data_space || echo rw)',
        "pkill": "exit 1",
        "dd": "sleep 0.1",
    }

    def tick(self) -> None:
        if self.full() and not (self.held / str(VICTIM)).exists():
            self.says("device-mapper: thin: 253:5: switching pool to out-of-data-space (queue IO) mode")
        super().tick()


class Metadata(Thin):
    name = "thin_metadata_full"
    programs: ClassVar[dict[str, str]] = {
        "lvs": """case "$*" in
*seg_monitor*) echo monitored ;;
*pool_lv*) echo data ;;
*full_name*) [ ! -e "$W/made" ] || echo fast/pvelab-filler-103 ;;
*) [ -e "$W/made" ] ;;
esac""",
        "lvcreate": ': > "$W/made"',
        "lvremove": 'rm -f "$W/made"',
        "lvchange": ":",
        "dmsetup": """[ -e "$W/filled" ] && mode=ro || mode=rw
echo 0 1 thin-pool 7 300/4096 25/49152 - $mode discard_passdown queue_if_no_space - 1024""",
    }
    verbs = """thin)
    case $1 in
    fill) : > "$W/filled" ;;
    drain) rm -f "$W/filled" "$W/held/103" ;;
    esac ;;"""

    def full(self) -> bool:
        return (self.folder / "filled").exists()

    def tick(self) -> None:
        if self.full() and not (self.held / str(VICTIM)).exists():
            self.says("device-mapper: thin: 253:5: switching pool to read-only mode")
            (self.held / str(VICTIM)).touch()

    def answer(self, path: str, _params: Mapping[str, Any]) -> Any:
        return {"type": "lvmthin", "vgname": "fast"} if path == "/storage/fast" else None

    def make(self) -> None:
        self.have("faults.pools.site.disk", lambda _plan, _node, vmid: self.place(vmid))
        self.have("runner.canary.read_disk", self.read_disk)

    def place(self, vmid: int) -> Path:
        return Path(f"/dev/fast/vm-{vmid}-disk-0")

    def read_disk(self, path: Path, scratch: Path) -> Any:
        """What stands for the volume is a file."""
        del scratch
        return self.drill.canary._scan(self.folder / f"images/{path.name.split('-')[1]}/disk.raw")


class Zfs(Full):
    name = "zfs_full"
    options: ClassVar[dict[str, Any]] = {"pool": "tank/data"}
    programs: ClassVar[dict[str, str]] = {
        "zfs": """case "$*" in
*" used,available "*) echo 9 9 ;;
*" available "*) echo 1073741824 ;;
*" refreservation "*) cat "$W/kept" ;;
"list -H -o name") [ ! -e "$W/kept" ] || echo tank/data/pvelab-filler ;;
list*) [ -e "$W/kept" ] ;;
create*) echo 0 > "$W/kept" ;;
"set refreservation="*) s="${2#*=}"; echo "$s" > "$W/kept"; : > "$W/made" ;;
destroy*) rm -f "$W/kept" "$W/made" ;;
esac""",
        "zpool": ":",
    }


class Quota(Zfs):
    """A write fails, and is tried again by the guest itself."""

    name = "quota_full"
    options: ClassVar[dict[str, Any]] = {"dataset": "tank/guests"}
    called = "running"
    programs: ClassVar[dict[str, str]] = {
        "zfs": """case "$*" in
*" used,available "*) echo 9 9 ;;
*" used "*) echo 5000000 ;;
*" available "*) echo 0 ;;
*" quota "*) cat "$W/quota" ;;
*" refreservation "*) echo 0 ;;
"list -H -o name") [ ! -e "$W/kept" ] || echo tank/guests/pvelab-filler ;;
list*) [ -e "$W/kept" ] ;;
create*) : > "$W/kept" ;;
"set quota=none "*) echo 0 > "$W/quota"; rm -f "$W/made" "$W/held/103" ;;
"set quota="*) s="${2#*=}"; echo "$s" > "$W/quota"; : > "$W/made" ;;
destroy*) rm -f "$W/kept" ;;
esac""",
        "zpool": ":",
    }

    def make(self) -> None:
        self.put({"quota": 0})
        real = self.drill.canary.read_disk
        images = self.folder / "images"
        self.have("runner.canary.read_disk", lambda path, home: real(images / path.name / "disk.raw", home))
        places = {VICTIM: Path(f"/dev/zvol/tank/guests/{VICTIM}"), OTHER: Path(f"/srv/{OTHER}")}
        self.have("site.disk", lambda _plan, _node, vmid: places[vmid])


class Mirror(World):
    name = "disk_failure"
    options: ClassVar[dict[str, Any]] = {"pool": "tank"}
    programs: ClassVar[dict[str, str]] = {
        "zpool": """[ -e "$W/off" ] && leg=OFFLINE || leg=ONLINE
case "$1 $2" in
"status -P") printf '  tank ONLINE\\n   mirror-0 ONLINE\\n    /dev/sdb1  ONLINE  0\\n    /dev/sdc1  %s  0\\n' "$leg" ;;
"status tank") echo "errors: No known data errors" ;;
"list -H")
    [ "$leg" = ONLINE ] && health=ONLINE || health=DEGRADED
    case "$*" in *name,health*) printf 'tank\\t%s\\n' $health ;; *) echo $health ;; esac ;;
"offline tank") : > "$W/off" ;;
"online tank") rm -f "$W/off" ;;
esac"""
    }


class Corrupt(World):
    """What is wrong on the second disk is counted when it is read, and put right then."""

    name = "disk_corrupt"
    programs: ClassVar[dict[str, str]] = {
        "zpool": """errors=$(cat "$W/errors")
case "$1 $2" in
"scrub -w") [ ! -e "$W/wrong" ] || { rm "$W/wrong"; echo 8 > "$W/errors"; : > "$W/repaired"; } ;;
"clear tank") echo 0 > "$W/errors" ;;
"list -H") case "$*" in *name,health*) printf 'tank\\tONLINE\\n' ;; *) echo ONLINE ;; esac ;;
"status -x") [ "$errors" = 0 ] && echo "pool 'tank' is healthy" || echo "pool: tank" ;;
status*)
    [ -e "$W/repaired" ] && scan="scrub repaired 1M in 00:00:01 with 0 errors on Sun" || scan="none requested"
    echo "  scan: $scan"
    printf '\\ttank  ONLINE  0  0  0\\n\\t  mirror-0  ONLINE  0  0  0\\n'
    printf "\\t    $W/disk-%s  ONLINE  0  0  %s\\n" 1 0 2 "$errors" ;;
esac""",
        "dd": ': > "$W/wrong"',
    }
    options: ClassVar[dict[str, Any]] = {"pool": "tank", "amount_mib": 1}

    def make(self) -> None:
        self.put({"errors": 0})
        for name in ("disk-1", "disk-2"):
            with (self.folder / name).open("wb") as disk:
                disk.truncate(20 << 20)


class Chain(World):
    """Images without a format: the newest layer is all that is looked at."""

    name = "snapshot_chain"
    plan: ClassVar[dict[str, Any]] = {"victims": [], "bystanders": [OTHER]}
    programs: ClassVar[dict[str, str]] = {
        # convert … FROM TO, or check …
        "qemu-img": """[ "$1" = convert ] || exit 0
while [ $# -gt 2 ]; do shift; done
exec cp "$1" "$2" """,
    }
    verbs = """chain)
    verb=$1 place=$2
    shift 2
    case $verb in
    build) mkdir -p "$place/kept"; cp "$W/manifest.json" "$place"; cp "$W/layer" "$place/kept/$(cat "$W/newest")" ;;
    damage) for kind in "$@"; do mkdir -p "$place/$kind"; echo wrong > "$place/$kind/$(cat "$W/newest")"; done ;;
    restore) for kind in "$@"; do cp "$place"/kept/* "$place/$kind"; done ;;
    esac ;;"""

    def make(self) -> None:
        (self.folder / "files").mkdir()
        self.put({"newest": self.drill.chain.LAYERS[-1]})
        (self.folder / "layer").write_bytes(bytes(self.drill.chain.REGION))
        sums = [hashlib.sha256(bytes(self.drill.chain.REGION)).hexdigest()]
        self.put({"manifest.json": json.dumps({"region": self.drill.chain.REGION, "sha256": sums})})

    def wanted(self, **limits: float) -> dict[str, Any]:
        found = super().wanted(**limits)
        found["fault"]["options"]["path"] = str(self.folder / "files")
        return found
