# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: an embedded node, the example lab on it, twice, a look at it, two failure drills, and away with it.

Everything it makes is below LAB (.lab). The node runs in a session of its own, so Ctrl-C reaches this program alone,
which then takes everything down in order. A node that was up before is used and left up.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import demo_drills
from demo_node import Node, NodeError, Note, Show, processes_below
from demo_summary import heartbeats_on_disk, summary

ROOT = Path(__file__).resolve().parent.parent
LAB = Path(os.environ.get("LAB_STATE") or ROOT / ".lab")
LOGS = Path(os.environ.get("LAB_LOGS") or ROOT / ".cache" / "demo")  # outlive the lab: a failure can be looked at
INVENTORY = Path(os.environ.get("LAB_INVENTORY") or ROOT / "inventories" / "embedded")
BIN = Path(sys.executable).parent
PLAYBOOK = ROOT / "playbooks" / "site.yml"
DRILL = ROOT / "playbooks" / "drill.yml"
REPORTS = LOGS / "drills"
RECAP = re.compile(r"^\S+\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
ITEM = re.compile(r"^(changed|ok|failed): \[[^]]+\](?: => \(item=(.*?)\))?")


class DemoError(Exception):
    """One sentence for the person at the terminal."""


class Interrupted(BaseException):
    """Ctrl-C, or somebody ended this program; not an error, and nothing should swallow it."""


def main(argv: list[str]) -> int:
    show = Show(sys.stdout)
    keep = os.environ.get("KEEP", "") not in ("", "0", "no")
    listen_for_signals()
    try:
        with only_one():
            if argv == ["up"]:
                return up(show, keep=keep)
            if argv == ["down"]:
                return down(show)
    except Interrupted:
        up_still = Node(LAB, BIN / "labnode", LOGS).running()
        show.line(f"\nStopped. {'The node is up, as it was before.' if up_still else 'Nothing is left running.'}")
        return 130
    except (DemoError, NodeError) as error:
        show.line(f"\nerror: {error}")
        return 1
    print("usage: tools/demo.py up|down", file=sys.stderr)
    return 2


def listen_for_signals() -> None:
    def stop(_number: int, _frame: object) -> None:
        ignore_signals()  # the second Ctrl-C does not disturb the clearing up
        with suppress(OSError):
            os.write(sys.stdout.fileno(), "\nStopping …\n".encode())
        raise Interrupted

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def only_one() -> Iterator[None]:
    """One demo at a time in this tree."""
    lock = LOGS / "lock"
    LOGS.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"another demo is running in {ROOT}; wait for it, or stop it with Ctrl-C there") from None
        yield


def up(show: Show, *, keep: bool) -> int:
    begun = time.monotonic()
    node = Node(LAB, BIN / "labnode", LOGS)
    image = build_image(show)
    mine = False
    try:
        with show.step("Embedded node") as note:
            mine = not node.running()
            note(node.start() if mine else f"already up at {node.url}; it is used, and stays up")
        provision(show, node, image, "First run of playbooks/site.yml", LOGS / "site-1.log", expect_changes=mine)
        again = "Second run: nothing may change"
        changed = provision(show, node, image, again, LOGS / "site-2.log", expect_changes=False)
        if changed:
            raise DemoError(f"the second run changed {changed} thing(s); look at {LOGS}/site-2.log")
        show.text(summary(node))
        reports = drills(show, node, image)
    except BaseException as error:
        if mine:
            clear(show, node, error)
        else:
            ignore_signals()
            demo_drills.abort(node)
        raise
    if keep or not mine:
        show.line(f"\nDone in {time.monotonic() - begun:.0f} s. The node is up.")
        show.text(how_to_talk(node))
    else:
        take_down(show, node)
        show.line(f"\nDone in {time.monotonic() - begun:.0f} s. Two things to try next:")
        show.text(next_things())
    show_reports(show, reports)
    return 0


def build_image(show: Show) -> Path:
    with show.step("Guest image") as note:
        with output_of([str(ROOT / "labnode/image/build")]) as process:
            out, err = process.communicate()
        if process.returncode:
            raise DemoError(err.strip().removeprefix("make image: ") or "the guest image could not be built")
        note(err.strip().removeprefix("guest image: ") or "as built before")
        return Path(out.strip())


def provision(show: Show, node: Node, image: Path, title: str, log: Path, *, expect_changes: bool) -> int:
    """Run the playbook; the number of changes. What it says goes to `log`, what it changes to the terminal."""
    command = [str(BIN / "ansible-playbook"), "-i", str(INVENTORY), str(PLAYBOOK)]
    with show.step(title) as note, log.open("w", encoding="utf-8") as record:
        with output_of(command, stderr=subprocess.STDOUT, env=environment(node, image)) as process:
            assert process.stdout is not None
            report(process.stdout, record, show if expect_changes else None)
            process.wait()
        text = log.read_text(encoding="utf-8")
        found = RECAP.search(text)
        if process.returncode or found is None:
            raise DemoError(f"the playbook failed: {failure_in(text)} The whole log: {log}")
        note(f"changed={found[2]} failed={found[4]}")
        return int(found[2])


def drills(show: Show, node: Node, image: Path) -> list[Path]:
    """Break one of the guests, in each way that the inventory has a target for; the reports. What a drill proves, or
    does not, on a machine that has other things to do, is no error of the demo's."""
    command = [str(BIN / "ansible-inventory"), "-i", str(INVENTORY), "--list"]
    with output_of(command, env=environment(node, image)) as process:
        out, err = process.communicate()
    if process.returncode:
        raise DemoError(f"the inventory cannot be read: {err.strip()}")
    names = demo_drills.wanted(json.loads(out))
    if names:
        demo_drills.allow(node)
    found = []
    for name in names:
        with show.step(f"Failure drill {name}") as note:
            found += drill(note, node, image, name)
    return found


def drill(note: Note, node: Node, image: Path, name: str) -> list[Path]:
    """One of them; what it has left to read."""
    log, before = LOGS / f"{name}.log", set(REPORTS.glob("*"))
    command = [str(BIN / "ansible-playbook"), "-i", str(INVENTORY), "--limit", demo_drills.GROUP, str(DRILL)]
    command += ["-e", json.dumps({"drill_name": name, "drill_reports": str(REPORTS)})]
    play = output_of(command, stderr=subprocess.STDOUT, env=environment(node, image))
    with log.open("w", encoding="utf-8") as record, play as process:
        assert process.stdout is not None
        report(process.stdout, record, None)
        process.wait()
    kept = demo_drills.report_of(name, REPORTS, before)
    if kept is None:
        note(f"it did not run: {failure_in(log.read_text(encoding='utf-8'))} The whole log: {log}", well=False)
        return []
    journal = demo_drills.journal(kept)
    note(demo_drills.told(journal), well=journal["verdict"] == "passed")
    return [kept / "report.html"]


def show_reports(show: Show, reports: list[Path]) -> None:
    if reports:
        show.line("\n  What the drills have proved, to open in a browser:")
    for path in reports:
        show.line(f"    {demo_drills.shown(path, ROOT)}")


def report(lines: IO[str], record: IO[str], show: Show | None) -> None:
    """Copy what the playbook says to the log, and tell what it changes as it goes."""
    task = ""
    for line in lines:
        record.write(line)
        record.flush()
        if line.startswith("TASK ["):
            task = line.removeprefix("TASK [").split("]")[0].rpartition(" : ")[2]
        match = ITEM.match(line)
        if show is not None and match and match[1] == "changed":
            show.detail(task, match[2] or "")


def failure_in(text: str) -> str:
    """The first message of a failed task, as one sentence."""
    match = re.search(r'"msg": "((?:[^"\\]|\\.)*)"', text)
    return (
        match[1].rstrip(".") + "." if match else text.strip().splitlines()[-1] if text.strip() else "it said nothing."
    )


@contextmanager
def output_of(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command in a session of its own, ended with all it started when this program is interrupted."""
    options = {"stderr": subprocess.PIPE, **options}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=ROOT,
        **options,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process)


def end(process: subprocess.Popen[str], patience_s: float = 3.0) -> None:
    """First the polite way, which lets it clear up; then whatever of it is left, wherever it went.

    A playbook goes on until its loop is through, which may take long: what it leaves is what the next run takes up.
    """
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=patience_s)
    family = processes_below(process.pid)
    process.kill()
    process.wait()
    for member in family:
        member.kill_if_alive()


def environment(node: Node, image: Path) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PROXMOX_", "ANSIBLE_", "PYTHON", "MAKE"))}
    return {
        **inherited,
        "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(node.state / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
        "LAB_STATE": str(node.state),
        "LAB_IMAGE": str(image),
        "LC_ALL": "C.UTF-8",
    }


def take_down(show: Show, node: Node) -> None:
    """Stop the node, hold the guests' disks against what they acknowledged, and remove everything.

    Nothing is gained by interrupting this, so nothing can.
    """
    ignore_signals()
    try:
        with show.step("Taking it down") as note:
            demo_drills.abort(node)
            node.stop()
            note(heartbeats_on_disk(node))
    finally:
        node.remove()


def clear(show: Show, node: Node, reason: BaseException) -> None:
    """After an interruption or a failure. What went wrong first is what is told in the end."""
    ignore_signals()
    show.line("Clearing up …")
    try:
        node.stop(gently=False)
    except NodeError as error:
        show.line(f"  {error}")
        reason.add_note(str(error))
    node.remove()


def down(show: Show) -> int:
    node = Node(LAB, BIN / "labnode", LOGS)
    if not node.exists():
        show.line("Nothing is up.")
        return 0
    take_down(show, node)
    return 0


def how_to_talk(node: Node) -> str:
    lab = os.path.relpath(node.state, ROOT)
    return f"""
  curl --cacert {os.path.relpath(node.certificate, ROOT)} {node.url}/api2/json/access/ticket \\
      -d username=root@pam -d password="$(cat {lab}/demo/password)"
  .venv/bin/ansible-playbook -i inventories/embedded playbooks/site.yml --check --diff
  .venv/bin/ansible-playbook -i inventories/embedded playbooks/drill.yml -e drill_name=guest_crash --check
  tail -f {lab}/run/101/serial.log     # the heartbeat of web1
  make demo-down                   # stop the guests and the node, and remove everything they have
"""


def next_things() -> str:
    return """
  1. Keep it up and play with it:             make demo KEEP=1
     (change a guest in inventories/embedded/group_vars/proxmox/lab.yml and run the playbook with --check --diff)
  2. See what it would do on your own node:   edit inventories/example, then
     .venv/bin/ansible-playbook -i inventories/example playbooks/site.yml --check --diff
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
