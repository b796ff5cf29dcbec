# SPDX-License-Identifier: GPL-3.0-or-later
"""The host seam, on the machine that runs the tests: real commands, real files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure, Run, Write
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import BACKUP_SUFFIX, Host

HOST = Host.from_params({}, read_only=False)


def test_a_command_speaks_c_and_sees_its_input() -> None:
    assert HOST.query(["sh", "-c", "printf %s $LC_ALL"]) == "C"
    assert HOST.do(Run(("cat",), stdin="through")) == "through"
    assert HOST.query(["cat"], stdin="through") == "through"
    assert HOST.query(["cat"]) == "", "nobody types anything"
    assert HOST.query(["sh", "-c", "echo out; exit 3"], ok_rcs=(0, 3)) == "out\n"


def test_a_failed_command_tells_its_rc_and_complaint() -> None:
    with pytest.raises(Failure) as caught:
        HOST.query(["sh", "-c", "echo no such pool >&2; exit 5"])
    result = caught.value.result()
    assert (result["rc"], result["msg"]) == (5, "sh ended with 5: no such pool")
    with pytest.raises(Failure, match=r"/no/such/tool cannot be run: No such file or directory\."):
        HOST.query(["/no/such/tool"])


def test_a_command_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/child; wait"
    with pytest.raises(Failure, match=r"did not finish within 0\.5 seconds"):
        HOST.query(["sh", "-c", script], timeout_s=0.5)
    child = (tmp_path / "child").read_text().strip()
    deadline = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < deadline, f"{child} outlived its parent"


def alive(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_file_is_replaced_whole_with_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "interfaces"
    assert HOST.read(str(path)) is None
    HOST.do(Write(str(path), "one\n", mode=0o600))
    HOST.do(Write(str(path), "two\n"))
    assert HOST.read(str(path)) == "two\n"
    assert Path(f"{path}{BACKUP_SUFFIX}").read_text() == "one\n"
    assert path.stat().st_mode & 0o777 == 0o644
    HOST.do(Write(str(path), None, backup=False))
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"interfaces{BACKUP_SUFFIX}"]


def test_what_is_no_text_is_written_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "image"
    HOST.do(Write(str(path), b"\xff\x00\r\n", mode=0o600))
    assert path.read_bytes() == b"\xff\x00\r\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_candidate_that_does_not_validate_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("good\n")
    with pytest.raises(Failure, match="grep ended with 1"):
        HOST.do(Write(str(path), "bad\n", validate=("grep", "-q", "good", "%s"), backup=False))
    assert path.read_text() == "good\n"
    assert [p.name for p in tmp_path.iterdir()] == ["conf"]


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"cannot be read: Is a directory\."):
        HOST.read(str(tmp_path))
    with pytest.raises(Failure, match=r"cannot be written: No such file or directory\."):
        HOST.do(Write(str(tmp_path / "none" / "x"), "x"))


def test_a_file_of_the_kernel_is_written_in_place_and_never_made(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("100\n")
    inode = path.stat().st_ino
    HOST.do(Write(str(path), "1\n", in_place=True))
    assert (path.read_text(), path.stat().st_ino, [p.name for p in tmp_path.iterdir()]) == ("1\n", inode, ["run"])
    with pytest.raises(Failure, match=r"smart_scan cannot be written: No such file or directory\."):
        HOST.do(Write(str(tmp_path / "smart_scan"), "1\n", in_place=True))
    assert Write("/sys/x", "1\n", in_place=True).describe() == {"path": "/sys/x", "in_place": True}


def test_read_only_refuses_every_write(tmp_path: Path) -> None:
    careful = Host.from_params({}, read_only=True)
    with careful as host, pytest.raises(Failure, match="attempted in check mode"):
        host.do(Write(str(tmp_path / "x"), "x"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Failure, match="cannot carry out an API request"):
        HOST.do(Call("GET", "/version"))  # type: ignore[arg-type]


def test_directories_links_and_programs(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("")
    (tmp_path / "a").symlink_to("b")
    assert HOST.names(str(tmp_path)) == ["a", "b"]
    assert HOST.names(str(tmp_path / "none")) == []
    assert HOST.link(str(tmp_path / "a")) == str(tmp_path.resolve() / "b")
    assert HOST.link(str(tmp_path / "none")) is None
    with pytest.raises(Failure, match="/a cannot be listed: Not a directory"):
        HOST.names(str(tmp_path / "a"))
    assert (HOST.which("sh") or "").endswith("/sh")
    assert HOST.which("no-such-program") is None
