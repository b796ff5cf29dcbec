# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of the kernel and the files that hold them for the boot: nothing of others in a file is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import ksm, memory, swap, tunables

HEAD = "Ours."
paths = st.from_regex(r"\A/sys/[a-z_]{1,8}/[a-z_]{1,8}\Z")
texts = st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,8}\Z")
keys = st.from_regex(r"\Avm\.[a-z_]{1,8}\Z")


@given(st.dictionaries(paths, texts, min_size=1))
def test_the_boot_writes_what_was_asked(values: dict[str, str]) -> None:
    text = tunables.with_boot_values(None, values, HEAD)
    assert text is not None and text.startswith(f"# {HEAD}\n")
    assert tunables.boot_values(text) == values
    assert tunables.with_boot_values(text, dict.fromkeys(values), HEAD) is None


@given(st.dictionaries(paths, texts), st.dictionaries(paths, texts))
def test_lines_of_others_for_the_boot_stay(before: dict[str, str], changes: dict[str, str]) -> None:
    others = "d /run/others 0755 root root -\n"
    text = tunables.with_boot_values(others, before, HEAD)
    text = tunables.with_boot_values(text, changes, HEAD)
    assert text is not None and text.startswith(others)
    assert tunables.boot_values(text) == {**before, **changes}


@given(st.dictionaries(keys, texts), st.dictionaries(keys, st.none() | texts))
def test_assignments_are_made_where_they_are(before: dict[str, str], changes: dict[str, str | None]) -> None:
    others = "# mine\n\nkernel.panic=10\n"
    text = tunables.with_assignments(others, before, HEAD, " = ")
    text = tunables.with_assignments(text, changes, HEAD, " = ")
    assert text is not None and text.startswith(others)
    left = {k: v for k, v in {**before, **changes}.items() if v is not None}
    assert tunables.assignments(text) == {"kernel.panic": "10", **left}
    assert tunables.with_assignments(text, changes, HEAD, " = ") == text


def test_a_file_of_ours_goes_with_its_last_assignment_and_one_of_others_stays() -> None:
    ours = tunables.with_assignments(None, {"vm.swappiness": "10"}, HEAD)
    assert ours == f"# {HEAD}\nvm.swappiness=10\n"
    assert tunables.with_assignments(ours, {"vm.swappiness": None}, HEAD) is None
    assert tunables.with_assignments("# mine\nvm.swappiness=10\n", {"vm.swappiness": None}, HEAD) == "# mine\n"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("advisor_mode", "[none] scan-time\n", "none"),
        ("advisor_mode", "none [scan-time]\n", "scan-time"),
        ("advisor_mode", "scan-time", "scan-time"),  # as the file for the boot has it
        ("smart_scan", "1\n", True),
        ("merge_across_nodes", "0\n", False),
        ("pages_to_scan", "100\n", 100),
    ],
)
def test_knobs_of_merging(name: str, text: str, value: Any) -> None:
    assert ksm.value(name, text) == value
    assert tunables.shown(True) == "1" and tunables.shown(False) == "0" and tunables.shown("none") == "none"


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (None, "options zfs zfs_arc_max=1\n"),
        (
            "# mine\noptions zfs zfs_txg_timeout=5\n",
            "# mine\noptions zfs zfs_txg_timeout=5\noptions zfs zfs_arc_max=1\n",
        ),
        ("options zfs zfs_arc_max=9 zfs_txg_timeout=5\n", "options zfs zfs_arc_max=1 zfs_txg_timeout=5\n"),
        ("options zfsy zfs_arc_max=9\n", "options zfsy zfs_arc_max=9\noptions zfs zfs_arc_max=1\n"),
    ],
)
def test_options_of_a_module(text: str | None, after: str) -> None:
    assert memory.module_options(text, "zfs", {"zfs_arc_max": 1}) == after
    assert memory.module_options(after, "zfs", {"zfs_arc_max": 1}) == after


def test_swap_areas_of_the_kernel() -> None:
    text = "Filename Type Size Used Priority\n/a\\040b file 4 0 -2\n/dev/dm-1 partition 8 4 5\n"
    assert swap.areas(text) == {"/a b": swap.Area(4096, 0, -2), "/dev/dm-1": swap.Area(8192, 4096, 5)}
    assert swap.areas("Filename\n") == swap.areas(None) == {}


@pytest.mark.parametrize(
    ("present", "priority", "options"),
    [
        ("", None, "defaults,nofail"),
        ("", 5, "defaults,nofail,pri=5"),
        ("sw,pri=3,discard", None, "sw,pri=3,discard"),
        ("sw,pri=3,discard", 5, "sw,discard,pri=5"),
    ],
)
def test_options_of_a_line_in_fstab(present: str, priority: int | None, options: str) -> None:
    assert swap.boot_options(present, priority) == options
    assert swap.boot_options(options, priority) == options
