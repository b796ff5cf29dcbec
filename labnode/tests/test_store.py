# SPDX-License-Identifier: GPL-3.0-or-later
"""Atomic files, locks and section files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labnode.errors import ApiError
from labnode.options import change_options, parse_options, render_options
from labnode.sections import SectionFile
from labnode.store import Section, Store, parse_sections, render_sections

words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)


@given(st.dictionaries(words, st.tuples(words, st.dictionaries(words, values))))
def test_sections_survive_a_round_trip(content: dict[str, tuple[str, dict[str, str]]]) -> None:
    sections = {ident: Section(kind, ident, options) for ident, (kind, options) in content.items()}
    assert parse_sections(render_sections(sections)) == sections


@given(st.dictionaries(words, values), st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20))
def test_options_survive_a_round_trip(options: dict[str, str], line: str) -> None:
    options.pop("description", None)
    if line:
        options["description"] = f"{line}\nsecond\n"
    assert parse_options(render_options(options)) == options


def test_a_write_replaces_the_whole_file_and_leaves_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("etc/a.cfg", "one\n")
    store.write("etc/a.cfg", "two\n", 0o600)
    assert store.read("etc/a.cfg") == "two\n"
    assert [path.name for path in (tmp_path / "etc").iterdir()] == ["a.cfg"]
    assert (tmp_path / "etc/a.cfg").stat().st_mode & 0o777 == 0o600


def test_a_write_that_fails_says_so_and_keeps_the_old_text(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "etc").write_text("in the way")
    with pytest.raises(ApiError, match=r"unable to write .*etc/a\.cfg"):
        store.write("etc/a.cfg", "x")
    assert (tmp_path / "etc").read_text() == "in the way"


def test_paths_stay_inside(tmp_path: Path) -> None:
    for rel in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(ValueError, match="leaves the state directory"):
            Store(tmp_path).path(rel)


def test_missing_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.read("none") == ""
    assert store.find("none") is None
    assert store.remove("none") is False
    assert store.names("none") == []


async def test_a_lock_excludes_and_times_out_in_proxmox_words(tmp_path: Path) -> None:
    store = Store(tmp_path)
    async with store.lock("qemu-server/lock-100.conf"):
        with pytest.raises(ApiError) as caught:
            async with store.lock("qemu-server/lock-100.conf", timeout=0.05):
                raise AssertionError("two hold one lock")
    assert caught.value.message == f"can't lock file '{tmp_path}/lock/qemu-server/lock-100.conf' - got timeout"


async def test_lock_holders_take_turns(tmp_path: Path) -> None:
    store, inside, most = Store(tmp_path), 0, 0

    async def hold() -> None:
        nonlocal inside, most
        async with store.lock("x"):
            inside += 1
            most = max(most, inside)
            await asyncio.to_thread(lambda: None)
            inside -= 1

    await asyncio.gather(*(hold() for _ in range(8)))
    assert most == 1


async def test_who_came_first_has_the_lock_first_and_who_gave_up_holds_nobody_up(tmp_path: Path) -> None:
    store, order = Store(tmp_path), []

    async def hold(number: int) -> None:
        async with store.lock("x"):
            order.append(number)

    async with store.lock("x"):
        waiting = [asyncio.create_task(hold(number)) for number in range(6)]
        await asyncio.sleep(0)
        waiting[2].cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == [0, 1, 3, 4, 5] and waiting[2].cancelled()


@pytest.mark.parametrize(
    ("mine", "theirs", "waits"), [(False, False, 1), (True, False, 1), (False, True, 1), (True, True, 0)]
)
async def test_another_process_is_waited_for_unless_both_share(
    tmp_path: Path, mine: bool, theirs: bool, waits: int
) -> None:
    async with Store(tmp_path).lock("x", shared=theirs):
        refused = 0
        try:
            async with Store(tmp_path).lock("x", timeout=0.05, shared=mine):
                pass
        except ApiError as error:
            assert "got timeout" in error.message
            refused = 1
    assert refused == waits


def test_section_files_guard_by_digest(tmp_path: Path) -> None:
    file = SectionFile(Store(tmp_path), "etc/ha/resources.cfg", "/cluster/ha/resources")
    file.create("vm", "100", {"state": "started", "max_restart": 2}, taken="taken", skip=set())
    with pytest.raises(ApiError, match="taken"):
        file.create("vm", "100", {}, taken="taken", skip=set())
    old = file.digest()
    file.update("100", {"state": "stopped", "digest": old, "delete": "max_restart"}, missing=ApiError("no"), skip=set())
    assert file.load()["100"].options == {"state": "stopped"}
    with pytest.raises(ApiError, match="detected modified configuration"):
        file.update("100", {"state": "started", "digest": old}, missing=ApiError("no"), skip=set())
    assert file.typed({"state": "started", "max_restart": "2"}) == {"state": "started", "max_restart": 2}


def test_options_are_set_and_unset(tmp_path: Path) -> None:
    store = Store(tmp_path)
    change_options(store, "dc.cfg", {"keyboard": "de", "description": "lab"})
    change_options(store, "dc.cfg", {"console": "vv", "delete": "keyboard"})
    assert parse_options(store.read("dc.cfg")) == {"console": "vv", "description": "lab\n"}
    with pytest.raises(ApiError, match="detected modified configuration"):
        change_options(store, "dc.cfg", {"console": "html5", "digest": "0" * 40})
