# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill reads of guest_watch afterwards: an alert counts where it was raised while the fault was there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_host import Host
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, Stands, package, wanted

UNIT = "pvelab-guest-watch.service"
SAID = "raised: guest 103 (db1) is called running and stands still (io-error): free some space."
INJECT, RECOVER = 1000.0, 1060.0


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def stands(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stands:
    return Stands(drill, tmp_path, monkeypatch)


def entry(at: float, message: Any) -> str:
    """An entry as `journalctl --output=json` prints it."""
    head = {"__CURSOR": "s=1;i=2", "__REALTIME_TIMESTAMP": "1790000000000000", "_BOOT_ID": "0b9d7f0e6a554bb0"}
    return json.dumps({**head, "__MONOTONIC_TIMESTAMP": f"{at * 1e6:.0f}", "MESSAGE": message}) + "\n"


def watches(stands: Stands, *lines: str, active: str = "active", code: int = 0) -> None:
    """A host whose guest_watch is in this state, and has left these lines in the journal."""
    (stands.systemd.state / UNIT).write_text(f"LoadState=loaded\nActiveState={active}\n")
    (stands.folder / "journal").write_text("".join(lines))
    text = f'#!/bin/sh\necho "$*" >> {stands.folder}/asked\ncat {stands.folder}/journal\nexit {code}\n'
    stands.program("journalctl", text)


def asked(stands: Stands) -> list[str]:
    path = stands.folder / "asked"
    return path.read_text().splitlines() if path.exists() else []


def look(stands: Stands, inject: float | None = INJECT, recover: float | None = RECOVER, **more: Any) -> Any:
    plan = stands.drill.plan.from_json(wanted(stands.folder, **more))
    return stands.drill.watch.look(plan, inject, recover)


def test_an_alert_while_the_fault_is_there_is_when_it_told(stands: Stands) -> None:
    watches(stands, entry(INJECT + 7.25, SAID))
    events, mark = look(stands)
    assert events == [{"at": 1007.25, "source": "guest_watch", "guest": 103, "text": SAID}]
    assert mark == {"watch": 1007.25}
    (words,) = asked(stands)
    assert {f"--unit={UNIT}", "--boot", "--output=json", "--no-pager"} <= set(words.split())


def test_the_first_of_several_alerts_counts_whatever_their_order(stands: Stands) -> None:
    pool = "raised: thin pool fast/data: data is 95 % full."
    watches(stands, entry(INJECT + 9, SAID), entry(INJECT + 4, pool))
    events, mark = look(stands)
    assert [(row["at"], row["guest"]) for row in events] == [(1004.0, None), (1009.0, 103)]
    assert mark == {"watch": 1004.0}


@pytest.mark.parametrize(
    ("lines", "events"),
    [
        ([], []),
        ([(INJECT - 0.1, SAID)], []),
        ([(RECOVER + 0.1, SAID)], [SAID]),
        ([(INJECT + 5, SAID.replace("raised", "cleared"))], []),
        ([(INJECT + 5, SAID.replace("raised", "reminder"))], []),
        ([(INJECT + 5, SAID.replace("raised", "changed"))], [SAID.replace("raised", "changed")]),
        ([(INJECT + 5, "Started pvelab-guest-watch.service - Watch of guests and pools.")], []),
        ([(INJECT + 5, f"webhook: too much waits to be sent, so this is thrown away: {SAID}")], []),
        ([(INJECT + 5, None)], []),
    ],
    ids=["nothing", "before", "after", "cleared", "reminder", "changed", "systemd", "quoted", "too long"],
)
def test_what_is_no_new_alert_of_this_fault_is_no_telling(stands: Stands, lines: Any, events: list[str]) -> None:
    watches(stands, *(entry(at, message) for at, message in lines))
    found, mark = look(stands)
    assert [row["text"] for row in found] == events
    assert mark == {"watch": None}, "it was there, and said nothing in time"


def test_an_alert_counts_as_long_as_nothing_was_recovered(stands: Stands) -> None:
    watches(stands, entry(RECOVER + 100, SAID))
    assert look(stands, recover=None)[1] == {"watch": RECOVER + 100}


@pytest.mark.parametrize("active", ["inactive", "failed", "deactivating"])
def test_where_it_does_not_run_nothing_is_said_of_it(stands: Stands, active: str) -> None:
    watches(stands, entry(INJECT + 5, SAID), active=active)
    assert look(stands) == ([], {})
    assert asked(stands) == []


def test_one_that_systemd_starts_again_is_there(stands: Stands) -> None:
    watches(stands, entry(INJECT + 5, SAID), active="activating")
    assert look(stands)[1] == {"watch": INJECT + 5}


def test_without_its_unit_without_systemd_and_without_a_fault_nobody_is_asked(stands: Stands) -> None:
    stands.program("journalctl", f"#!/bin/sh\ntouch {stands.folder}/asked\n")
    assert look(stands) == ([], {}), "systemd knows no such unit"
    assert UNIT in stands.systemd.calls
    watches(stands, entry(INJECT + 5, SAID))
    (stands.systemd.state / "calls").unlink()
    assert look(stands, supervisor="process") == ([], {})
    assert look(stands, inject=None, recover=None) == ([], {})
    assert (stands.systemd.calls, asked(stands)) == ("", [])


def test_a_journal_that_cannot_be_read_is_told_and_nothing_is_claimed(stands: Stands) -> None:
    watches(stands, "Failed to open the journal\n", code=1)
    (row,), mark = look(stands)
    assert mark == {}
    assert (row["source"], row["guest"]) == ("runner", None)
    assert row["text"].startswith("what guest_watch has said cannot be read: journalctl --unit")
    assert row["text"].endswith("ended with 1: Failed to open the journal")


def test_bytes_are_read_and_what_is_no_entry_is_left_out(stands: Stands) -> None:
    said = "raised: guest 101 (wëb1)\tis called running and stands still"
    noise = ["-- No entries --\n", "[1]\n", "{}\n", '{"MESSAGE": "raised: x"}\n', entry(INJECT + 1, ["raised", "x"])]
    watches(stands, *noise, entry(INJECT + 2, list(said.encode())))
    events, mark = look(stands)
    assert [(row["at"], row["guest"], row["text"]) for row in events] == [(1002.0, 101, said)]
    assert mark == {"watch": 1002.0}


def test_a_guest_that_is_not_of_the_drill_is_not_named_as_one(stands: Stands) -> None:
    watches(stands, entry(INJECT + 2, SAID.replace("103", "999")))
    ((row,), _mark) = look(stands)
    assert row["guest"] is None


def test_after_a_reboot_its_times_are_on_the_clock_of_the_run(stands: Stands, monkeypatch: pytest.MonkeyPatch) -> None:
    watches(stands, entry(12.5, SAID))
    monkeypatch.setattr(stands.drill.clock._Lead, "s", 1000.0)
    assert look(stands)[1] == {"watch": 1012.5}


# a whole drill ----------------------------------------------------------------------------------------------------

_CONTROL = """#!/bin/sh
case "$*" in
*{unit}) printf 'LoadState=loaded\\nActiveState=active\\n' ;;
*) exec {real} "$@" ;;
esac
"""


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(drill, tmp_path, monkeypatch)
    control = made.systemd.programs / "systemctl"
    real = control.rename(control.with_name("systemctl.real"))
    stand = Stands.__new__(Stands)
    stand.systemd = made.systemd
    stand.program("systemctl", _CONTROL.format(unit=UNIT, real=real))
    answer = f"echo asked >> {tmp_path}/asked; cat {tmp_path}/journal"
    stand.program("journalctl", f"#!/bin/sh\ncase $* in *pvelab-guest-watch*) {answer} ;; esac\n")
    (tmp_path / "journal").write_text(entry(time.monotonic(), SAID.replace("guest 103", "before")))
    # The way back is rehearsed, so that what it says comes before the fault as well as after it.
    made.undo += f"; {says(tmp_path, SAID.replace('guest 103', 'undo'))}"
    with made.guests[101], made.guests[103]:
        yield made
    made.systemd.end()


def says(folder: Path, text: str) -> str:
    """A line of shell: guest_watch says something right now."""
    begins, ends = entry(0, text).split('"__MONOTONIC_TIMESTAMP": "0"')
    now = 'python3 -c "import time; print(time.monotonic_ns() // 1000, end=str())"'
    return (
        f"""printf '%s"__MONOTONIC_TIMESTAMP": "%s"%s\\n' '{begins}' "$({now})" '{ends.strip()}' >> {folder}/journal"""
    )


def test_a_drill_measures_how_long_it_took_to_tell(host: Host) -> None:
    host.inject += f"; {says(host.folder, SAID)}"
    data = host.run()
    marks, metrics = data["marks"], data["metrics"]
    assert data["verdict"] == "passed"
    assert [(row["text"], row["guest"]) for row in data["events"] if row["source"] == "guest_watch"] == [
        (SAID, 103),
        (SAID.replace("guest 103", "undo"), None),
    ]
    assert marks["inject"] < marks["watch"] < marks["recover"]
    assert metrics["watch_s"] == pytest.approx(marks["watch"] - marks["effect"], abs=0.0011)
    assert [row["at"] for row in data["events"]] == sorted(row["at"] for row in data["events"])
    assert (host.folder / "asked").read_text() == "asked\n", "it is read once"


def test_a_drill_says_that_it_said_nothing(host: Host) -> None:
    data = host.run()
    assert data["verdict"] == "passed"
    (row,) = [row for row in data["events"] if row["source"] == "guest_watch"]
    assert row["at"] >= data["marks"]["recover"], "only what was said of the fault is told"
    assert (data["marks"]["watch"], data["metrics"]["watch_s"]) == (None, None)


def test_a_drill_says_nothing_of_it_where_it_was_not_there(host: Host) -> None:
    host.inject += f"; {says(host.folder, SAID)}"
    (host.systemd.programs / "systemctl.real").replace(host.systemd.programs / "systemctl")
    data = host.run()
    assert data["verdict"] == "passed"
    assert "watch" not in data["marks"]
    assert "watch_s" not in data["metrics"]
    assert not [row for row in data["events"] if row["source"] == "guest_watch"]
