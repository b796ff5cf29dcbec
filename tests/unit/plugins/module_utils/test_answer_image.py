# SPDX-License-Identifier: GPL-3.0-or-later
"""The image that the installer finds by its label, read by others' programs; and the hashes of passwords."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import crypt_hash, fat
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure


def said(*argv: str) -> bytes:
    return subprocess.run(argv, check=True, capture_output=True).stdout


def tools() -> bool:
    """blkid (which udev asks for labels) and mtools are no parts of Ansible's own test environment."""
    return all(shutil.which(name, path="/usr/bin:/usr/sbin:/sbin") for name in ("blkid", "mcopy", "minfo"))


def test_the_same_content_is_the_same_image() -> None:
    one, two = (fat.image("proxmox-ais", "answer.toml", b"[global]\n") for _none in range(2))
    assert one == two
    assert len(one) == 1474560 and one[510:512] == b"\x55\xaa"
    assert fat.image("proxmox-ais", "answer.toml", b"[network]\n") != one


@pytest.mark.skipif(not tools(), reason="blkid or mtools are not on this machine")
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4096, 100_001, fat.CAPACITY])
def test_others_read_the_label_and_the_file(tmp_path: Path, size: int) -> None:
    content = bytes(i * 7 % 251 for i in range(size))
    path = tmp_path / "answer.img"
    path.write_bytes(fat.image("proxmox-ais", "answer.toml", content))
    blkid = shutil.which("blkid", path="/usr/sbin:/sbin:/usr/bin") or "blkid"
    found = said(blkid, "-p", "-o", "export", str(path)).decode()
    assert "\nLABEL=PROXMOX-AIS\n" in found and "\nTYPE=vfat\n" in found and "\nVERSION=FAT12\n" in found
    assert said("mcopy", "-n", "-i", str(path), "::answer.toml", "-") == content
    assert b"answer.toml" in said("mdir", "-b", "-i", str(path), "::")


@pytest.mark.parametrize("label", ["", "twelve-chars", "white space", "ä"])
def test_a_label_that_fat_cannot_keep_is_refused(label: str) -> None:
    with pytest.raises(Failure, match="should be 1 to 11 letters"):
        fat.image(label, "answer.toml", b"")


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(Failure, match="do not fit"):
        fat.image("x", "answer.toml", b"x" * (fat.CAPACITY + 1))
    with pytest.raises(Failure, match="1 to 13 characters"):
        fat.image("x", "a-name-too-long.toml", b"")


# Made by "openssl passwd -6 -salt SALT".
KNOWN = [
    (
        "Hello world!",
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ),
    (
        "x",
        "$6$a$AvQLBHPFSbE4d9QOBrglBdXuv.jRoEFLHgWJlsZ6XhNHrxkMbotj9kAr0GGhdZ5XM6DM29/LJ9jZin3Aj8Tph0",
    ),
    (
        "correct horse battery staple, and then some more words to pass the length of one digest of 64",
        "$6$ab./XY09$mjSXCaVKIDtJ7bOyjq3g199Tqci7ASQh35JEIO71dprlkyXo2VboLyq3IpUeR63Y05IMnsnexMAdvSu1waIZs.",
    ),
    (
        "Grüße, 世界",
        "$6$0123456789abcdef$91pXhl/ZMvN00e5aCF3RC4OYlClbNDT4A2zBz6echvzGTf.FWqMF1OXpZpaM1ed3tV2sBFANqbwHvZ.OK2u6Q.",
    ),
    (
        "pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp",
        "$6$./$17jKdRHCzp64wgaRf5.WQbMUKz69KEWREzDUhX5kOj/XlX1s8tfnw.ON3zmco06EU.VxUM3QY37drCXgtrxIB.",
    ),
]


@pytest.mark.parametrize(("password", "known"), KNOWN, ids=range(len(KNOWN)))
def test_hashes_are_those_of_another_program(password: str, known: str) -> None:
    assert crypt_hash.hashed(password, known.split("$")[2]) == known
    assert crypt_hash.fits(password, known)
    assert not crypt_hash.fits(f"{password}x", known)


@pytest.mark.parametrize("known", ["", "$y$j9T$x$y", "$6$rounds=100$a$b", "plain"])
def test_another_kind_of_hash_does_not_fit(known: str) -> None:
    assert not crypt_hash.fits("password", known)
