# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: what its script does, and that nothing is broken where it is not armed as it should be."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    RUN,
    Package,
    Systemd,
    package,
    soon,
    takes,
    wanted,
)

UNIT = f"pvelab-undo-{RUN}"
# When a timer of these tests would be due.
SOON = f"{time.monotonic() + 55:.0f}s"


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture(autouse=True)
def systemd(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    made = Systemd(tmp_path, monkeypatch)
    monkeypatch.setattr(drill.deadman, "UNITS", tmp_path / "etc")
    (tmp_path / "etc").mkdir()
    yield made
    made.end()


def dead_man(drill: Package, folder: Path, undo: str = "", **limits: float) -> Any:
    plan = drill.plan.from_json(wanted(folder, limits=limits))
    plan.home.mkdir(parents=True)
    made = drill.deadman.DeadMan(plan, undo or f"rm -f {folder}/broken")
    made.write()
    return made


def log(made: Any) -> list[list[str]]:
    """Each line of the log, without its time."""
    lines = [line.split() for line in made.log.read_text().splitlines()]
    return [[words[0], words[-1]] if words[0] in ("began", "ended") else words for words in lines]


# the script -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h 2min 3.5s", 3723.5),
        ("16h 50min 41.708485s", 60641.708485),
        ("1month 2w 3d", 2629800.0 + 2 * 604800 + 3 * 86400),
        ("250ms 10us", 0.25001),
        ("5y", 5 * 31557600.0),
        ("5123200000", 5123.2),
        ("0", 0.0),
        ("", 0.0),
        ("infinity", 0.0),
        ("n/a", 0.0),
        ("3 parsecs", 0.0),
    ],
)
def test_time_spans_as_systemd_writes_them(drill: Package, text: str, seconds: float) -> None:
    assert drill.supervisor.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "undo", ["rm -f x", "\n  if true; then\n    :\n  fi\n", "a=1\n# a comment", "", "cat <<X\nx\nX"]
)
def test_the_shell_takes_the_script(drill: Package, tmp_path: Path, undo: str) -> None:
    made = drill.deadman.DeadMan(drill.plan.from_json(wanted(tmp_path)), undo)
    takes(made.text)


def test_a_script_that_the_shell_does_not_take_is_trouble(drill: Package, tmp_path: Path) -> None:
    with pytest.raises(drill.shell.Trouble, match="-n"):
        dead_man(drill, tmp_path, "if true; then")


def test_the_script_runs_twice_and_says_who_ran_it(drill: Package, tmp_path: Path) -> None:
    made = dead_man(drill, tmp_path, f"echo putting back\nrm -f '{tmp_path}/broken'")
    (tmp_path / "broken").touch()
    made.go_back("runner")
    assert not (tmp_path / "broken").exists()
    made.go_back("abort")
    subprocess.run(["/bin/sh", str(made.script)], check=True, timeout=30)
    said = [[["began", who], ["putting", "back"], ["ended", who]] for who in ("runner", "abort", "hand")]
    assert log(made) == [row for rows in said for row in rows]
    began = float(made.log.read_text().split()[1])
    assert 0 < began <= time.clock_gettime(time.CLOCK_BOOTTIME) + 0.01
    assert not made.fired(), "neither the timer nor a boot was it"
    assert made.script.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("who", ["timer", "boot"])
def test_it_has_fired_when_the_timer_or_a_boot_ran_it(drill: Package, tmp_path: Path, who: str) -> None:
    made = dead_man(drill, tmp_path)
    assert not made.fired()
    made.go_back(who)
    assert made.fired()


@pytest.mark.parametrize("undo", ["false", "exit 3", "no-such-command-here"])
def test_a_script_that_fails_says_so_and_comes_to_its_end(drill: Package, tmp_path: Path, undo: str) -> None:
    made = dead_man(drill, tmp_path, undo)
    with pytest.raises(drill.shell.Trouble, match=r"the way back ended with \d+.*undo\.log"):
        made.go_back("runner")
    assert log(made)[-1] == ["ended", "runner"]


def test_one_step_that_fails_does_not_keep_the_next_from_being_done(drill: Package, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    dead_man(drill, tmp_path, f"false\nrm -f '{tmp_path}/broken'").go_back("runner")
    assert not (tmp_path / "broken").exists()


def test_a_script_that_hangs_is_trouble(drill: Package, tmp_path: Path) -> None:
    with pytest.raises(drill.shell.Trouble, match=r"was not done after 0\.3 s"):
        dead_man(drill, tmp_path, "exec sleep 5", recover_s=0.3).go_back("runner")


def test_what_hangs_is_ended_with_all_that_it_has_started(drill: Package, tmp_path: Path) -> None:
    text = f"sleep 60 & echo $! > {tmp_path}/child; wait"
    with pytest.raises(drill.shell.Trouble, match=r"was not done after 0\.5 s"):
        drill.shell.attempt(["/bin/sh", "-c", text], timeout_s=0.5)
    child = int((tmp_path / "child").read_text())
    soon(lambda: drill.site.state(child) in (None, "Z"), "what it has started is gone, too")


# rehearsed --------------------------------------------------------------------------------------------------------


def test_a_rehearsal(drill: Package, tmp_path: Path, systemd: Systemd) -> None:
    made = dead_man(drill, tmp_path)
    made.rehearse()
    assert made.rehearsed
    assert log(made) == [["began", "rehearsal"], ["ended", "rehearsal"]]
    assert (made.fired(), systemd.units()) == (False, [])


@pytest.mark.parametrize("undo", ["exit 3", "false"])
def test_a_rehearsal_that_fails(drill: Package, tmp_path: Path, undo: str) -> None:
    made = dead_man(drill, tmp_path, undo)
    with pytest.raises(drill.shell.Trouble, match=r"ended with \d when it was rehearsed, so nothing was broken"):
        made.rehearse()
    assert not made.rehearsed


def test_a_rehearsal_that_says_nothing_is_none(drill: Package, tmp_path: Path) -> None:
    made = dead_man(drill, tmp_path)
    made.script.write_text("exit 0\n")
    with pytest.raises(drill.shell.Trouble, match="did not come to its end"):
        made.rehearse()
    assert not made.rehearsed


# armed ------------------------------------------------------------------------------------------------------------


def test_armed_proved_and_disarmed_twice(drill: Package, tmp_path: Path, systemd: Systemd) -> None:
    made = dead_man(drill, tmp_path)
    due = made.arm()
    assert due == pytest.approx(made.armed + 60, abs=5)
    assert made.prove() == due
    boot = f"pvelab-undo-at-boot-{RUN}.service"
    assert systemd.units() == [f"enabled.{boot}", f"{UNIT}.service", f"{UNIT}.timer"]
    text = (tmp_path / "etc" / boot).read_text()
    assert f" /bin/sh {made.script} boot && " in text
    assert f"ConditionPathExists={made.armed_file}\n" in text
    assert made.armed_file.read_text() == f"{RUN}\n"
    for _time in range(2):
        made.disarm()
        assert systemd.units() == []
        assert list((tmp_path / "etc").iterdir()) == []
        assert not made.armed_file.exists()
    assert made.script.exists(), "it may be run by hand still"


def test_disarm_without_arm_does_nothing(drill: Package, tmp_path: Path, systemd: Systemd) -> None:
    dead_man(drill, tmp_path).disarm()
    assert systemd.units() == []
    assert "disable" not in systemd.calls


def test_the_timer_undoes_it_by_itself(drill: Package, tmp_path: Path, systemd: Systemd) -> None:
    made = dead_man(drill, tmp_path, undo_after_s=0.5)
    (tmp_path / "broken").touch()
    made.arm()
    soon(lambda: not (tmp_path / "broken").exists(), "the timer has run the script")
    assert made.fired()
    soon(lambda: f"{UNIT}.service" not in systemd.units(), "the unit has ended")


@pytest.mark.parametrize(
    ("lie", "trouble"),
    [
        (("timer", {"ActiveState": "failed", "NextElapseUSecMonotonic": SOON}), "so nothing was broken"),
        (("timer", {"ActiveState": "active", "NextElapseUSecMonotonic": "infinity"}), "so nothing was broken"),
        (("timer", {"ActiveState": "active", "NextElapseUSecMonotonic": "1s"}), "so nothing was broken"),
        (("timer", {"ActiveState": "active", "NextElapseUSecMonotonic": "90y"}), "so nothing was broken"),
        (("timer", {}), "so nothing was broken"),
        (("service", {"ExecStart": "{ path=/bin/true }"}), "would run something else than"),
    ],
    ids=["failed", "never", "long ago", "too late", "unknown", "another command"],
)
def test_what_is_not_armed_as_it_should_be(
    drill: Package, tmp_path: Path, systemd: Systemd, lie: tuple[str, dict[str, str]], trouble: str
) -> None:
    systemd.lie(lie[0], **lie[1])
    with pytest.raises(drill.shell.Trouble, match=trouble):
        dead_man(drill, tmp_path).arm()


def test_a_boot_unit_that_is_not_enabled(drill: Package, tmp_path: Path, systemd: Systemd) -> None:
    made = dead_man(drill, tmp_path)
    made.arm()
    (systemd.state / f"enabled.pvelab-undo-at-boot-{RUN}.service").unlink()
    with pytest.raises(drill.shell.Trouble, match="a reboot would lose the way back"):
        made.prove()


@pytest.mark.parametrize("left", [f"{UNIT}.timer", f"{UNIT}.service"])
def test_a_unit_of_the_same_name(drill: Package, tmp_path: Path, systemd: Systemd, left: str) -> None:
    (systemd.state / left).write_text("LoadState=loaded\nActiveState=failed\n")
    made = dead_man(drill, tmp_path)
    with pytest.raises(drill.shell.Trouble, match="already loaded"):
        made.arm()
    assert made.armed is None


def test_a_rehearsal_beside_one_of_the_same_name(drill: Package, tmp_path: Path, systemd: Systemd) -> None:
    (systemd.state / f"pvelab-rehearsal-{RUN}.service").touch()
    made = dead_man(drill, tmp_path)
    with pytest.raises(drill.shell.Trouble, match="already loaded"):
        made.rehearse()
    assert not made.log.exists()


def test_a_host_without_systemd(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dead_man(drill, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(drill.shell.Trouble, match="systemd-run is not on this host"):
        made.rehearse()
