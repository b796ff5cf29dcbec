# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of the network as a transaction: the host goes back by itself unless somebody confirms in time. Pure.

Everything of one change lies in DIRECTORY/TOKEN: ``before`` (the old file), ``candidate``, the scripts, and one file
that says how things stand: ``armed`` → ``confirmed``, or ``armed`` → ``reverting`` → ``reverted``. The first move is a
rename, so that of a confirmation and a time-out that meet only one wins. The scripts are run through /bin/sh and do not
lie in /run, which Debian mounts noexec; a timer of systemd runs the undo, because that outlives every SSH session, and
a unit that is ordered before networking.service does it after a reboot, which transient timers do not survive.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .steps import Run, Step, Write

FILE = "/etc/network/interfaces"
DIRECTORY = "/var/lib/pvelab/network"
STATES = ("armed", "reverting", "reverted", "confirmed")
# So many changes are remembered, for people who look for what has happened.
_KEPT = 20
# Links by which guests hang on bridges; they come and go with the guests.
_GUESTS = ("tap", "veth", "fwbr", "fwln", "fwpr")
_UNITS = "/etc/systemd/system"
# A link is all that "systemctl enable" would make; nobody needs to know of it before the next boot.
_WANTS = f"{_UNITS}/sysinit.target.wants"
_HEAD = "#!/bin/sh\nPATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH\nhere={here}\n"

_UNDO = """\
exec 9>"$here/lock" && flock 9
case "${{1-}}" in
rehearse) ;;
*) [ -e "$here/reverting" ] || mv "$here/armed" "$here/reverting" 2>/dev/null || exit 0 ;;
esac
file={file}
if ! cmp -s "$here/before" "$file"; then
    cp -p "$here/before" "$file.{token}" && sync && mv "$file.{token}" "$file" || exit 1
fi
exec 9>&-
case "${{1-}}" in
rehearse) exit 0 ;;
boot) ;;
*)
    # A reload that hangs holds ifupdown2's lock; of two that meet, one ends with 89 and has done nothing.
    [ "${{1-}}" = failed ] || {{
        systemctl stop {reload}.timer
        systemctl kill --signal=KILL {reload}.service
    }} 2>/dev/null
    left=60
    while ifreload -a >"$here/undo.log" 2>&1; [ $? = 89 ] && [ $left -gt 0 ]; do left=$((left - 1)); sleep 1; done
    /bin/sh "$here/links.sh"
    /bin/sh "$here/ports.sh"
    ;;
esac
mv "$here/reverting" "$here/reverted"
rm -f {units}/{boot} {wants}/{boot}
"""

# From "armed" on the host goes back, whatever happens to this script; before, timer and unit find nothing to do. A
# timer that was faster than "armed" has undone nothing, and one that is due now waits for the lock.
_START = """\
mkdir -p {wants} && ln -sf ../{boot} {wants}/{boot} &&
    systemd-run --quiet --collect --unit={undo} --on-active={within_s}s --timer-property=AccuracySec=1s \\
        --property=OOMScoreAdjust=-1000 /bin/sh "$here/undo.sh" &&
    echo {within_s} >"$here/armed" && sync || exit 1
exec 9>"$here/lock" && flock 9
systemctl is-active --quiet {undo}.timer || {{ rm -f "$here/armed"; exit 1; }}
file={file}
if ! cmp -s "$here/candidate" "$file"; then
    cp -p "$file" "$file.{token}" && cat "$here/candidate" >"$file.{token}" && sync && mv "$file.{token}" "$file" ||
        exit 1
fi
systemd-run --quiet --collect --unit={reload} --on-active=1s --timer-property=AccuracySec=100ms \\
    /bin/sh "$here/reload.sh" $PPID
"""

# The module must be over, and its SSH session closed in good order, before the network goes.
_RELOAD = """\
left=60
while [ -d "/proc/$1" ] && [ $left -gt 0 ]; do left=$((left - 1)); sleep 0.5; done
sleep 1
[ -e "$here/armed" ] || exit 0
ifreload -a >"$here/reload.log" 2>&1
rc=$?
/bin/sh "$here/ports.sh"
echo "$rc" >"$here/reload.rc.new" && mv "$here/reload.rc.new" "$here/reload.rc"
[ "$rc" = 0 ] || exec /bin/sh "$here/undo.sh" failed
"""

# The exit code tells no mistake from a warning: ifupdown2 of Debian warns of "bridge-ports none", which is right.
_CHECK = """\
# A relative "source" counts from the directory of the file that has it: what is checked has to lie there.
seen=$(mktemp {directory}/.candidate.XXXXXX) || exit 1
cat "$1" >"$seen"
said=$(ifup -a -s -i "$seen" 2>&1)
rm -f "$seen"
case "$said" in
*error:*) echo "$said" | sed "s|$seen|{file}|g" >&2; exit 1 ;;
esac
"""

_PORTS = """\
plug() {{
    [ -d "/sys/class/net/$1" ] && [ -d "/sys/class/net/$2/bridge" ] && [ ! -e "/sys/class/net/$1/master" ] &&
        ip link set dev "$1" master "$2" up
}}
{lines}exit 0
"""

# A reload takes a card out of a bridge and leaves it up, and one that something else has taken down it leaves down.
_LINKS = """\
link() {{
    [ ! -d "/sys/class/net/$1" ] || ip link set dev "$1" "$2"
}}
{lines}exit 0
"""

_BOOT = """\
[Unit]
Description=Restore the network, because a change of it was not confirmed before the reboot
DefaultDependencies=no
RequiresMountsFor={here} /etc/network
After=local-fs.target
Before=network-pre.target networking.service
Wants=network-pre.target
ConditionPathExists=|{here}/armed
ConditionPathExists=|{here}/reverting

[Service]
Type=oneshot
ExecStart=/bin/sh {here}/undo.sh boot

[Install]
WantedBy=sysinit.target
"""


@dataclass(frozen=True)
class Running:
    """What the way back puts right by hand, because no file says it. ``links``: (name, up or down) of the host's own
    links; ``ports``: (port, bridge, VLANs as ``bridge vlan add`` takes them) of what guests have plugged into bridges.
    """

    links: Sequence[tuple[str, str]]
    ports: Sequence[tuple[str, str, Sequence[str]]]


def token_of(earlier: Sequence[str], before: str, after: str) -> str:
    """A name that no earlier change has: its number, and of what it changes a short hash."""
    last = max((int(n.split("-")[0]) for n in earlier if n.split("-")[0].isdecimal()), default=0)
    return f"{last + 1:04}-{hashlib.sha256(f'{before}|{after}'.encode()).hexdigest()[:8]}"


def timer(token: str) -> str:
    """The timer that undoes a change."""
    return f"pvelab-network-undo-{token}.timer"


def boot_unit(token: str) -> str:
    """The unit that undoes a change after a reboot."""
    return f"pvelab-network-boot-{token}.service"


def pruning(runs: Sequence[str]) -> list[Step]:
    """Forget the oldest changes, so that with the next one there are as many as are kept."""
    old = [f"{DIRECTORY}/{r}" for r in runs[: max(0, len(runs) - _KEPT + 1)]]
    return [Run(("rm", "-rf", *old), label="forget the oldest changes")] if old else []


def transaction(token: str, after: str, runs: Running, within_s: int) -> list[Step]:
    """Check the new file, arm the way back, put the file in place and reload it."""
    here = f"{DIRECTORY}/{token}"
    head = _HEAD.format(here=shlex.quote(here))
    words = {"file": FILE, "token": token, "boot": boot_unit(token), "wants": _WANTS}
    words["reload"] = f"pvelab-network-reload-{token}"
    undo = timer(token).removesuffix(".timer")
    scripts = {
        "check.sh": _CHECK.format(directory=FILE.rpartition("/")[0], **words),
        "start.sh": _START.format(undo=undo, within_s=within_s, **words),
        "undo.sh": _UNDO.format(units=_UNITS, **words),
        "reload.sh": _RELOAD,
        "links.sh": _LINKS.format(lines="".join(f"link {shlex.quote(n)} {s}\n" for n, s in runs.links)),
        "ports.sh": _PORTS.format(lines="".join(_plugged(*p) for p in runs.ports)),
    }
    check = ("/bin/sh", f"{here}/check.sh", "%s")
    rehearsal = f"--unit=pvelab-network-rehearse-{token}", "/bin/sh", f"{here}/undo.sh", "rehearse"
    return [
        Run(("install", "-d", "-m", "0700", here), label="make a place for the way back"),
        Run(("cp", "-p", FILE, f"{here}/before"), label=f"keep {FILE}"),
        *(Write(f"{here}/{n}", head + text, mode=0o700, backup=False) for n, text in scripts.items()),
        Write(f"{here}/candidate", after, "check the new file", validate=check, backup=False),
        Run(("systemd-run", "--quiet", "--collect", "--wait", *rehearsal), label="rehearse the way back"),
        Write(f"{_UNITS}/{boot_unit(token)}", _BOOT.format(here=here), backup=False),
        Run(("/bin/sh", f"{here}/start.sh"), label=f"change the network, and go back in {within_s} seconds"),
    ]


def confirmation(token: str) -> list[Step]:
    """Keep a change. The rename comes first: from then on neither the timer nor a reboot undoes it."""
    here, unit = f"{DIRECTORY}/{token}", boot_unit(token)
    return [
        Run(("mv", f"{here}/armed", f"{here}/confirmed"), label="keep the new network"),
        Run(("systemctl", "stop", timer(token)), label="disarm the timer", ok_rcs=(0, 5)),
        Run(("rm", "-f", f"{_UNITS}/{unit}", f"{_WANTS}/{unit}"), label="disarm the unit for a reboot"),
    ]


def running(links: Mapping[str, Any], vlans: Sequence[Mapping[str, Any]]) -> Running:
    """What runs now, from ``ip -j address`` by name and the rows of ``bridge -j vlan``."""
    tables = {row["ifname"]: row.get("vlans", []) for row in vlans}
    mine: list[tuple[str, str]] = []
    ports = []
    for name, link in sorted(links.items()):
        if not name.startswith(_GUESTS):
            mine += [(name, "up" if "UP" in link["flags"] else "down")] if "flags" in link else []
        elif link.get("master") and not name.startswith("fwln"):
            ports.append((name, str(link["master"]), [_vlan(v) for v in tables.get(name, [])]))
    return Running(mine, ports)


def _vlan(row: Mapping[str, Any]) -> str:
    vid = f"{row['vlan']}-{row['vlanEnd']}" if "vlanEnd" in row else str(row["vlan"])
    flags = {"PVID": "pvid", "Egress Untagged": "untagged"}
    return " ".join(["vid", vid, *(flags[f] for f in row.get("flags", []) if f in flags)])


def _plugged(port: str, bridge: str, vlans: Sequence[str]) -> str:
    port, bridge = shlex.quote(port), shlex.quote(bridge)
    fresh = "".join(f"    bridge vlan add dev {port} {v}\n" for v in vlans)
    clear = f"    bridge vlan del dev {port} vid 1 2>/dev/null\n" if vlans else ""
    return f"if plug {port} {bridge}; then\n    :\n{clear}{fresh}fi\n"
