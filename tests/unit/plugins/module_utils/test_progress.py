# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of progress, and what is shown of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.progress import Progress, Told, decode, encode
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.progress_view import (
    Running,
    View,
    choose,
    duration,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.progress import VARIABLE, Pipe, channel


def view(*tasks: Running, **told: Told) -> View:
    seen = View()
    for i, task in enumerate(tasks):
        seen.begin(i, task)
    for i, one in enumerate(told.values()):
        seen.heard(i, one)
    return seen


TASK = Running("Make them", "pve1", 10.0)
COUNTED = Told("guests", done=12, running=4, failed=1, total=26, text="vm 104: transferred 1 GiB")


@pytest.mark.parametrize(
    ("seen", "bar", "line"),
    [
        (View(), "", ""),
        (
            view(TASK),
            "1:05 Make them (pve1)",
            "progress: running for 1:05: Make them (pve1)",
        ),
        (
            view(TASK, told=COUNTED),
            "[##########..........] 1:05 12 of 26 done; 4 running; 1 failed; Make them (pve1); "
            "guests: vm 104: transferred 1 GiB",
            "progress: running for 1:05: Make them (pve1): 12 of 26 done; 4 running; 1 failed; "
            "guests: vm 104: transferred 1 GiB",
        ),
        (
            view(TASK, a=Told("vm a", done=1, total=2), b=Told("vm b", done=2, total=2)),
            "[###############.....] 1:05 3 of 4 done; Make them (pve1); vm b",
            "progress: running for 1:05: Make them (pve1): 3 of 4 done; vm b",
        ),
        (
            view(Running("Make them", "pve1", 10.0, quiet=True), told=COUNTED),
            "[##########..........] 1:05 12 of 26 done; 4 running; 1 failed; Make them (pve1)",
            "progress: running for 1:05: Make them (pve1): 12 of 26 done; 4 running; 1 failed",
        ),
        (
            view(*(Running("Upgrade", f"h{i}", 10.0 + i, note="tried 2 of 9 times") for i in range(5))),
            "1:05 Upgrade (h0, h1, h2 and 2 more); tried 2 of 9 times",
            "progress: running for 1:05: Upgrade (h0, h1, h2 and 2 more): tried 2 of 9 times",
        ),
        (
            view(Running("Loop", "h", 10.0, items=1)),
            "1:05 Loop (h); 1 item done",
            "progress: running for 1:05: Loop (h): 1 item done",
        ),
    ],
)
def test_what_is_shown(seen: View, bar: str, line: str) -> None:
    assert seen.drawn(75.0, 200) == bar
    assert seen.line(75.0) == line


def test_a_bar_fits_and_a_short_task_has_none() -> None:
    seen = view(TASK, told=COUNTED)
    assert seen.drawn(10.5, 200) == ""
    assert seen.drawn(75.0, 40) == "[##########..........] 1:05 12 of 26..."


def test_nothing_is_shown_while_somebody_is_asked() -> None:
    seen = view(TASK)
    seen.begin("pause", Running("Wait", "pve1", 20.0), prompts=True)
    assert (seen.drawn(75.0, 200), seen.line(75.0)) == ("", "")
    seen.end("pause")
    assert seen.drawn(75.0, 200) != ""


def test_what_has_ended_is_forgotten() -> None:
    seen = view(TASK, a=Told("a", total=2), b=Told("b", total=2))
    seen.heard(0, None)
    assert "0 of 2 done" in seen.drawn(75.0, 200)
    seen.forget(alive={7})
    assert "done" not in seen.drawn(75.0, 200)
    seen.heard(1, COUNTED)
    seen.end(0)
    assert seen.drawn(75.0, 200) == "" and seen.tellers == {}
    seen.heard(1, COUNTED)
    assert seen.tellers == {}, "it came after the end of its task"


@pytest.mark.parametrize(
    ("wanted", "callback", "terminal", "environment", "shown"),
    [
        ("auto", "default", True, {}, "bar"),
        ("auto", "ansible.builtin.default", False, {}, "lines"),
        ("auto", "default", True, {"CI": "true"}, "lines"),
        ("auto", "awx_display", True, {}, "lines"),
        ("auto", "ansible.posix.json", True, {}, "nothing"),
        ("auto", "json", False, {}, "nothing"),
        ("auto", "community.general.yaml", False, {}, "nothing"),
        ("lines", "ansible.posix.jsonl", False, {}, "nothing"),
        ("auto", "our.own.thing", False, {}, "nothing"),
        ("auto", "our.own.thing", False, {"CI": "1"}, "nothing"),
        ("auto", "our.own.thing", True, {}, "bar"),
        ("lines", "our.own.thing", False, {}, "lines"),
        ("bar", "default", False, {}, "lines"),
        ("bar", "default", True, {"CI": "true"}, "bar"),
        ("nothing", "default", True, {}, "nothing"),
    ],
)
def test_what_is_chosen(wanted: str, callback: str, terminal: bool, environment: Mapping[str, str], shown: str) -> None:
    assert choose(wanted, callback, terminal, environment) == shown


@pytest.mark.parametrize(("seconds", "text"), [(0.9, "0:00"), (65, "1:05"), (3700, "1:01:40")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.text(max_size=400), st.text(max_size=400), st.integers(0, 10**6))
def test_a_line_is_one_write_that_no_terminal_obeys(about: str, text: str, done: int) -> None:
    line = encode(7, Told(about, done=done, text=text))
    assert len(line) <= 4096 and line.count(b"\n") == 1
    heard = decode(line)
    assert heard is not None and heard[0] == 7 and heard[1] is not None
    assert heard[1].done == done
    assert all(c.isprintable() or c == " " or c.isspace() for c in heard[1].text + heard[1].about)
    assert "\x1b" not in heard[1].text and "\n" not in heard[1].text


def test_the_end_is_told_too() -> None:
    assert decode(encode(7, None)) == (7, None)


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"nonsense", b"[1]", b'{"pid":"7"}', b'{"pid":true}', b'{"pid":7,"told":3}', b"7"]
)
def test_what_is_no_line_of_ours(line: bytes) -> None:
    assert decode(line) is None


def test_fields_of_the_wrong_kind_are_left_out() -> None:
    line = json.dumps({"pid": 1, "told": {"done": "9", "total": 3, "text": 4, "about": "a\x1b[2K", "more": 1}}).encode()
    assert decode(line) == (1, Told(about="a [2K", total=3))


class Recorder:
    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[bytes] = []

    def told(self) -> list[Told | None]:
        return [heard[1] for heard in map(decode, self.lines) if heard]


def test_numbers_are_told_at_once_and_texts_not_too_often() -> None:
    out = Recorder()
    pipe = Pipe("vm web1", out.lines.append, lambda text: text.replace("s3cret", "***"), lambda: out.now)
    pipe.tell(text="one s3cret")
    pipe.tell(text="two")
    pipe.tell(done=1, total=2)
    pipe.tell(done=1)
    out.now = 1.0
    pipe.tell(text="three")
    pipe.end()
    assert out.told() == [
        Told("vm web1", text="one ***"),
        Told("vm web1", done=1, total=2, text="one ***"),
        Told("vm web1", done=1, total=2, text="three"),
        None,
    ]


def test_nobody_listens() -> None:
    Progress().tell(done=1, text="into the void")
    assert not Progress.listens


@pytest.mark.parametrize("place", ["", "/nowhere", "/dev/null", "a file"])
def test_only_a_pipe_is_written_to(place: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(file) if place == "a file" else place
    try:
        with channel("vm web1", str) as progress:
            progress.tell(text="something")
            assert not progress.listens
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before
    assert file.read_text() == "mine"


def test_a_pipe_is_found_by_its_place_and_a_full_one_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.environ[VARIABLE] = f"/proc/{os.getpid()}/fd/{writing}"
    try:
        with channel("vm web1", str) as progress:
            for i in range(5000):
                progress.tell(done=i, total=5000)
        first = os.read(reading, 4096).split(b"\n")[0]
    finally:
        os.environ.pop(VARIABLE)
        os.close(reading)
        os.close(writing)
    assert decode(first) == (os.getpid(), Told("vm web1", done=0, total=5000))
