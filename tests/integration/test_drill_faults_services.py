# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that die or hang, and a clock that is wrong: what each text does to stand-ins of the host's programs."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_clock import DATE
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    RUN,
    Package,
    Stands,
    package,
    soon,
    wanted,
)

# Units as files: NAME has its properties, one a line; a signal goes to the process that it names.
_CONTROL = """#!/bin/sh
cd {state} || exit 1
[ "$1" != --quiet ] || shift
verb=$1
shift
echo "$verb $*" >> calls
case $verb in
show) cat "$2" 2>/dev/null || printf 'ActiveState=inactive\\nId=%s\\nMainPID=0\\n' "$2" ;;
is-failed) grep -q ActiveState=failed "$1" ;;
reset-failed) sed -i s/=failed/=inactive/ "$1" ;;
stop) for unit in "$@"; do sed -i s/=active/=inactive/ "$unit"; done ;;
start) sed -i s/ActiveState=.*/ActiveState=active/ "$1" ;;
kill)
    [ ! -e deaf ] || exit 0
    pid=$(sed -n s/MainPID=//p "$2")
    kill -"${{1#--signal=}}" "$pid" || exit 1
    [ "$1" = --signal=KILL ] || exit 0
    if grep -q Restart=on-failure "$2"; then sed -i "s/MainPID=.*/MainPID=$$/" "$2"
    else sed -i 's/MainPID=.*/MainPID=0/; s/=active/=failed/' "$2"; fi ;;
*) exit 64 ;;
esac
"""


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stands:
    made = Stands(drill, tmp_path, monkeypatch)
    made.program("systemctl", _CONTROL.format(state=made.systemd.state))
    (tmp_path / "drills" / RUN).mkdir(parents=True)
    monkeypatch.setattr(drill.site, "cgroup", lambda _plan, _vmid: tmp_path)
    return made


@pytest.fixture
def processes() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    made = {name: subprocess.Popen(["sleep", "600"]) for name in ("pvestatd", "pvedaemon")}
    yield made
    for process in made.values():
        process.kill()
        process.wait()


def unit(host: Stands, name: str, pid: int = 1, **more: str) -> Path:
    """A service that runs."""
    path: Path = host.systemd.state / name
    properties = {"ActiveState": "active", "Id": f"{name}.service", "MainPID": str(pid), "Restart": "no", **more}
    path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    return path


def says(host: Stands, name: str, what: str) -> str:
    return str(host.drill.shell.unit(name, what)[what])


def calls(host: Stands, verb: str) -> list[str]:
    """What systemctl was asked with one verb."""
    lines = (host.systemd.state / "calls").read_text().splitlines()
    return [line.partition(" ")[2] for line in lines if line.split()[0] == verb]


# services ---------------------------------------------------------------------------------------------------------


def test_services_that_are_killed_come_back_where_their_units_say_so(
    host: Stands, processes: dict[str, subprocess.Popen[bytes]]
) -> None:
    unit(host, "pvestatd", processes["pvestatd"].pid)
    unit(host, "pvedaemon", processes["pvedaemon"].pid, Restart="on-failure")
    fault = host.fault("control_plane_down", how="kill")
    assert fault.targets == (
        f"service pvestatd, process {processes['pvestatd'].pid}, Restart=no",
        f"service pvedaemon, process {processes['pvedaemon'].pid}, Restart=on-failure",
    )
    dead, back = fault.signs
    host.do(fault.undo)
    assert [sign.test(None, 0.0) for sign in fault.signs] == [None, None], "nothing is killed, nothing is seen"
    host.do(fault.inject)
    assert [process.wait(10) for process in processes.values()] == [-signal.SIGKILL] * 2
    assert dead.name == "pvestatd is dead, and systemd leaves it so"
    assert dead.test(None, 0.0) == "it is failed, Restart=no"
    assert back.name == "systemd starts pvedaemon again by itself"
    seen = re.fullmatch(r"process (\d+) is gone, (\d+) is there, Restart=on-failure", back.test(None, 0.0))
    assert seen and seen[1] == str(processes["pvedaemon"].pid) != seen[2]
    for _time in range(2):
        host.do(fault.undo)
        assert [says(host, name, "ActiveState") for name in processes] == ["active", "active"]
    assert calls(host, "reset-failed") == ["pvestatd"], "only what has failed is forgotten"


def test_services_that_hang(host: Stands, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    for name, process in processes.items():
        unit(host, name, process.pid)
    fault = host.fault("control_plane_down", how="hang")
    *held, silent = fault.signs
    host.do(fault.undo)
    assert [sign.test(None, 0.0) for sign in held] == [None, None]
    (host.systemd.state / "deaf").touch()
    host.do(fault.inject)
    assert [sign.test(None, 0.0) for sign in held] == [None, None], "a signal that nobody got is no fault"
    (host.systemd.state / "deaf").unlink()
    before = fault.looks["held services"]()
    host.do(fault.inject)
    for sign, process in zip(held, processes.values(), strict=True):
        assert soon(lambda sign=sign: sign.test(None, 0.0), "it is held") == (
            f"process {process.pid} is in state T, systemd calls it active"
        )
    assert silent.name == "the node's API is silent"
    assert fault.looks["held services"]() == ["pvestatd held", "pvedaemon held"] != before
    for _time in range(2):
        host.do(fault.undo)
        soon(lambda: fault.looks["held services"]() == before, "they go on")


def test_two_names_of_one_service_are_one(host: Stands, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    for name in ("pvedaemon", "pveproxy"):
        unit(host, name, processes["pvedaemon"].pid, Id="labnode.service")
    assert host.fault("control_plane_down", how="kill").inject == "systemctl kill --signal=KILL pvedaemon"


def test_services_are_not_signalled_where_a_guest_is_among_them(host: Stands, monkeypatch: pytest.MonkeyPatch) -> None:
    unit(host, "pvedaemon")

    def among(_plan: Any, vmid: int) -> Path:
        raise host.drill.shell.Trouble(f"guest {vmid} has no control group of its own")

    monkeypatch.setattr(host.drill.site, "cgroup", among)
    for how in ("kill", "hang"):
        with pytest.raises(host.drill.shell.Trouble, match="guest 103 has no control group of its own"):
            host.fault("control_plane_down", how=how)
    assert host.fault("control_plane_down").inject == "systemctl stop pvedaemon"


@pytest.mark.parametrize("how", ["stop", "kill", "hang"])
def test_services_that_do_not_run_and_a_way_that_there_is_not(host: Stands, how: str) -> None:
    with pytest.raises(host.drill.faults.fault.Skip, match="none of pvestatd, pvedaemon, pveproxy runs"):
        host.fault("control_plane_down", how=how)
    with pytest.raises(host.drill.shell.Trouble, match=r"how .* is burn, and none of stop, kill, hang"):
        host.fault("control_plane_down", how="burn")


def test_a_guest_that_goes_on_is_heard_three_times(drill: Package) -> None:
    sign = drill.faults.services.goes_on(103)
    seen = heard(drill, [9.0, 11.0, 12.0])
    assert sign.test(seen, 10.0) is None
    seen = heard(drill, [9.0, 11.0, 12.0, 13.5])
    assert sign.test(seen, 10.0) == "3 acknowledgements in 3.5 s, the longest gap 1.5 s"


def heard(drill: Package, times: list[float], status: str = "running") -> Any:
    """A recorder that has heard guest 103 at these times."""
    made = drill.recorder.Recorder(drill.plan.from_json(wanted(Path("/none"))))
    made.heard[103].acks = [drill.canary.Ack(at, number, "0a1b2c3d", 1.0, 7, 0) for number, at in enumerate(times)]
    made.status[103] = status
    return made


# the clock --------------------------------------------------------------------------------------------------------


@pytest.fixture
def by(host: Stands, monkeypatch: pytest.MonkeyPatch, drill: Package) -> Path:
    """A file with the nanoseconds that the host's wall clock is ahead; what the package sees of it is the same."""
    path = host.folder / "by"
    path.write_text("0\n")
    real = next(str(folder / "date") for folder in (Path("/bin"), Path("/usr/bin")) if (folder / "date").exists())
    host.program("date", "#!/bin/sh\n" + DATE.format(by=path, date=real))
    monkeypatch.setattr(drill.faults.clock, "ahead", lambda: time.time() - time.monotonic() + off(path))
    monkeypatch.setattr(drill.faults.clock, "WATCHED", host.folder / "watched")
    return path


def off(by: Path) -> float:
    """By how many seconds it is ahead."""
    return int(by.read_text()) / 1e9


def test_a_clock_that_is_ahead_and_is_put_right(host: Stands, by: Path) -> None:
    unit(host, "chrony")
    fault = host.fault("clock_skew", seconds=30)
    assert fault.targets == ("the host's wall clock, 30 s forward", "service chrony")
    skewed = fault.signs[0]
    before = {name: look() for name, look in fault.looks.items()}
    assert before == {"clock": ["0 s off"], "time daemons": ["chrony active"]}
    host.do(fault.undo)
    assert off(by) == 0 and skewed.test(None, 0.0) is None
    host.do(fault.inject)
    assert off(by) == pytest.approx(30, abs=0.5)
    assert says(host, "chrony", "ActiveState") == "inactive", "nothing puts it right meanwhile"
    assert re.fullmatch(r"(29|30)\.\d s ahead of the monotonic clock", skewed.test(None, 0.0))
    assert fault.looks["clock"]() == ["30 s off"]
    for _time in range(2):
        host.do(fault.undo)
        assert off(by) == pytest.approx(0, abs=0.5)
        assert {name: look() for name, look in fault.looks.items()} == before
    by.write_text(f"{7 * 10**9}\n")
    host.do(fault.undo)
    assert off(by) == 7, "a step that is not the drill's is not its to take back"


def test_a_clock_that_was_put_right_by_somebody_else_is_left_alone(host: Stands, by: Path) -> None:
    fault = host.fault("clock_skew")
    host.do(fault.inject)
    assert off(by) == pytest.approx(45, abs=0.5)
    by.write_text("-300000000\n")
    host.do(fault.undo)
    assert off(by) == -0.3


def test_what_was_right_before_a_boot_is_not_so_after_it(host: Stands, by: Path) -> None:
    unit(host, "chrony")
    fault = host.fault("clock_skew")
    host.do(fault.inject)
    kept = host.folder / "drills" / RUN / "clock"
    kept.write_text(f"{kept.read_text().split()[0]} another-boot\n")
    was = off(by)
    host.do(fault.undo)
    assert off(by) == was and not kept.exists()
    assert says(host, "chrony", "ActiveState") == "active"


def test_a_clock_that_cannot_be_set_is_tried_again(host: Stands, by: Path) -> None:
    unit(host, "chrony")
    fault = host.fault("clock_skew")
    host.do(fault.inject)
    refuses = Path(f"{by}.refuses")
    refuses.touch()
    assert subprocess.run(["/bin/sh", "-c", fault.undo], check=False).returncode == 1
    assert off(by) > 40 and says(host, "chrony", "ActiveState") == "active"
    refuses.unlink()
    host.do(fault.undo)
    assert off(by) == pytest.approx(0, abs=0.5)


def test_the_same_text_finds_the_clock_right_on_this_very_host(host: Stands, drill: Package) -> None:
    """With the real date: what is read of it agrees with what Python reads."""
    out = subprocess.run(
        ["/bin/sh", "-ec", f'{drill.faults.clock.AHEAD}\necho "$ahead"'], capture_output=True, text=True, check=True
    ).stdout
    with open("/proc/uptime", encoding="ascii") as file:
        assert int(out) / 1e9 == pytest.approx(time.time() - float(file.read().split()[0]), abs=0.2)


@pytest.mark.parametrize("step", [45_000_000_000, -45_123_456_789, -1_000_000_005])
def test_a_step_is_exact(host: Stands, by: Path, step: int) -> None:
    host.do(f"step={step}\n{host.drill.faults.clock.STEP}")
    assert int(by.read_text()) == step


@pytest.mark.usefixtures("by")
def test_a_clock_that_is_not_touched(host: Stands) -> None:
    for seconds in (1, 60, -45):
        with pytest.raises(host.drill.shell.Trouble, match="stepped forward by 2 to 59 s"):
            host.fault("clock_skew", seconds=seconds)
    unit(host, "corosync")
    with pytest.raises(host.drill.faults.fault.Skip, match="one of a cluster"):
        host.fault("clock_skew")
    unit(host, "corosync", ActiveState="inactive")
    (host.folder / "watched").mkdir()
    with pytest.raises(host.drill.shell.Trouble, match=r"watchdog of high availability is armed .* disarm it"):
        host.fault("clock_skew")
