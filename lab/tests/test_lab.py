# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's own logic: names, keys, ports, command lines, the partition table. No machine is started here."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import uuid
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from labvm import bootable, build, cli, machine, recipe, remote
from labvm.errors import LabError, Panic
from labvm.machine import Hardware
from labvm.places import Endpoint, Lab

HARDWARE = Hardware(kvm=False, qemu="7.2.0", memory_mib=4096, cpus=2)
ENDPOINT = Endpoint("one", "127.0.0.1", 2201, 8001, "config", "key", "known", "password", "AA:BB")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab("one", tmp_path)


@pytest.mark.parametrize("name", ["", "-a", "../x", "A", "a" * 40, "a/b"])
def test_name_of_a_lab_is_a_plain_word(name: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="lab name"):
        Lab(name, tmp_path)


def test_path_that_no_socket_fits_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="PVELAB_CACHE"):
        Lab("one", tmp_path / ("x" * 100))


def test_endpoint_is_read_as_written(lab: Lab) -> None:
    lab.directory.mkdir(parents=True)
    lab.write_endpoint(ENDPOINT)
    assert lab.endpoint() == ENDPOINT


def test_lab_that_is_not_up_says_how_to_start_it(lab: Lab) -> None:
    with pytest.raises(LabError, match="lab/lab --name one up"):
        lab.endpoint()


def test_process_of_somebody_else_is_not_the_lab(lab: Lab) -> None:
    lab.directory.mkdir(parents=True)
    lab.pid_file.write_text(str(os.getpid()))
    assert lab.pid() is None
    machine.kill(lab)
    os.kill(os.getpid(), 0)


def test_remove_ends_the_process_and_leaves_no_file(lab: Lab) -> None:
    lab.directory.mkdir(parents=True)
    code = "import sys; print('runs', flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code, str(lab.qmp)], stdin=-1, stdout=-1, text=True)
    assert process.stdout and process.stdout.readline() == "runs\n"
    lab.pid_file.write_text(str(process.pid))
    assert lab.pid() == process.pid
    machine.remove(lab)
    assert process.wait(10) != 0
    assert not lab.directory.exists()
    machine.remove(lab)


def test_every_key_changes_with_what_it_stands_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    image = tmp_path / "image-1"
    keys = {HARDWARE.key(image), HARDWARE.key(tmp_path / "image-2")}
    keys |= {replace(HARDWARE, **change).key(image) for change in ({"kvm": True}, {"memory_mib": 2048}, {"qemu": "8"})}
    assert len(keys) == 5
    before = recipe.image_key()
    assert before == recipe.image_key()
    monkeypatch.setattr(recipe, "ROOTFS", tmp_path)
    assert recipe.image_key() != before


def test_command_line_shuts_the_machine_in_unless_asked(lab: Lab) -> None:
    closed = machine.argv(lab, HARDWARE, (2201, 8001), internet=False, incoming=None)
    user = closed[closed.index("-netdev") + 1]
    assert user == (
        "user,id=eno1,restrict=on,hostfwd=tcp:127.0.0.1:2201-10.0.2.15:22,hostfwd=tcp:127.0.0.1:8001-10.0.2.15:8006"
    )
    opened = machine.argv(lab, HARDWARE, (2201, 8001), internet=True, incoming=None)
    assert [a for a, b in zip(closed, opened, strict=True) if a != b] == [user]


def test_only_a_restored_machine_waits_for_memory(lab: Lab) -> None:
    cold = machine.argv(lab, HARDWARE, (1, 2), internet=False, incoming=None)
    warm = machine.argv(lab, HARDWARE, (1, 2), internet=False, incoming=Path("/m"))
    assert warm == [*cold, "-incoming", "exec:cat /m"]


def test_extra_nics_share_no_cable(lab: Lab) -> None:
    args = machine.argv(lab, HARDWARE, (1, 2), internet=False, incoming=None)
    hubs = [text for text in args if text.startswith("hubport")]
    assert [text for text in hubs if "=eno" in text] == ["hubport,id=eno2,hubid=1", "hubport,id=eno3,hubid=2"]
    assert [text.rpartition("=")[2] for text in hubs] == ["1", "1", "2", "2"], "each hub has a second port"


def test_ports_are_two_and_free() -> None:
    ports = machine.free_ports()
    assert len(set(ports)) == 2
    for port in ports:
        with socket.socket() as link:
            link.bind(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("sources.list", "# deb http://old/debian x\ndeb http://near.example.test/debian/ trixie main\n", "near"),
        ("sources.list.d/a.sources", "Types: deb\nURIs: http://near.example.test/debian\nSuites: trixie\n", "near"),
        ("sources.list.d/a.sources", "Types: deb\nURIs: http://near.example.test/debian-security\n", None),
        ("sources.list", "deb http://near.example.test/ubuntu noble main\n", None),
    ],
)
def test_mirror_is_the_one_of_this_machine(
    name: str, text: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PVELAB_MIRROR", raising=False)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert build.mirror(tmp_path) == ("http://near.example.test/debian" if expected else recipe.MIRROR)


def test_partition_table_is_one_that_others_read(tmp_path: Path) -> None:
    sectors = 65536
    pieces = bootable.partition_table(sectors, uuid.UUID(int=7))
    header = pieces[1]
    blank = header[:16] + bytes(4) + header[20:92]
    assert struct.unpack_from("<I", header, 16)[0] == zlib.crc32(blank)
    assert struct.unpack_from("<I", header, 88)[0] == zlib.crc32(pieces[2])
    assert struct.unpack_from("<QQQQ", header, 24) == (1, sectors - 1, 34, sectors - 34)
    assert struct.unpack_from("<Q", pieces[sectors - 1], 72)[0] == sectors - 33
    assert pieces[0][446 + 4] == 0xEE
    first, last = struct.unpack_from("<QQ", pieces[2], 128 + 32)
    assert (first, last) == (bootable.ROOT_START, sectors - 2049)


def test_boot_code_knows_where_the_core_image_is() -> None:
    first, core = bootable.boot_sectors(bytes(512), bytes(2048))
    assert len(first) == 440
    assert struct.unpack_from("<Q", first, 0x5C)[0] == bootable.BIOS_START
    assert struct.unpack_from("<Q", core, 500)[0] == bootable.BIOS_START + 1


def test_core_image_that_does_not_fit_is_refused() -> None:
    with pytest.raises(LabError, match="more than its partition holds"):
        bootable.boot_sectors(bytes(512), bytes(2 << 20))


def test_failing_program_is_named_with_its_last_words() -> None:
    with pytest.raises(LabError, match=r"'sh -c .*' failed \(3\): alas"):
        build.run(["sh", "-c", "echo alas; exit 3"])


def test_code_archive_depends_on_the_files_alone() -> None:
    assert remote.code_archive()[0] == remote.code_archive()[0]


@pytest.mark.parametrize(
    ("argv", "line"), [(["echo a; echo b"], "echo a; echo b"), (["ls", "a b"], "ls 'a b'"), (["uptime"], "uptime")]
)
def test_one_word_is_a_command_line_and_several_are_words(argv: list[str], line: str) -> None:
    assert cli.command_line(argv) == line


def test_machine_whose_kernel_panicked_is_not_waited_for(lab: Lab) -> None:
    lab.directory.mkdir(parents=True)
    lab.serial_log.write_text("[   82.4] Kernel panic - not syncing: Fatal exception in interrupt")
    lab.ssh_config.write_text("Host lab\n  ProxyCommand false\n")
    with pytest.raises(Panic, match="panicked"):
        remote.wait_for_ssh(lab, 600)
