# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a drill in Markdown, and the module that writes it: the same each time, also where text is strange."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_history import history
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_journal import Journal, read_journal
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_markdown import code, literal, markdown
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_render import FILES
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_samples import Samples
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import reconcile
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.modules.drill_report import FORMATS, RESOURCE
from ansible_collections.pvelab.proxmox.tests.unit import drill_journals as made


def read(data: Any) -> Journal:
    return read_journal(json.dumps(data), "journal.json")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("<b>&", r"\<b\>\&"),
        ("# no head", r"\# no head"),
        ("1. no list", r"1\. no list"),
        ("0.9 s", "0.9 s"),
        ("- no item", r"\- no item"),
        ("-0.4 s", "-0.4 s"),
        ("two\nlines", "two lines"),
        ("[x](y) `z` *s* _u_", r"\[x\](y) \`z\` \*s\* \_u\_"),
    ],
)
def test_markdown_takes_nothing_as_markup(text: str, shown: str) -> None:
    assert literal(text) == shown


def test_code_in_markdown_cannot_end_early() -> None:
    assert code("a`b``c") == "```a`b``c```"
    assert code("`") == "`` ` ``"
    text = markdown(read(made.cut(made.storage_full(), "plan/inject", "echo\n```\n# not a heading")), Samples())
    assert "````sh\necho\n```\n# not a heading\n````" in text


def test_the_settings_to_run_it_again_are_yaml_and_the_command_cannot_be_turned() -> None:
    data = made.cut(made.storage_full(), "drill/name", "x; reboot #")
    text = markdown(read(data), Samples())
    assert "-e 'drill_name=x; reboot #' --check" in text
    settings = yaml_load(text.partition("```yaml\n")[2].partition("\n```")[0])["drill_targets"]["x; reboot #"]
    plan = data["plan"]
    assert settings["options"] == plan["fault"]["options"]
    assert (settings["victims"], settings["bystanders"], settings["limits"]) == ([103], [101, 102], plan["limits"])


def test_markdown_tables_have_as_many_cells_in_each_row() -> None:
    data = {**made.hostile(made.storage_full()), "run": "20261122T021500Z-x"}
    data["drill"]["name"] = "storage_full"
    text = markdown(read(data), Samples(), history(read(data), [read(made.refuted())]))
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) > 8
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block}) == 1
    outside = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"(?<!\\)<", outside)


def given(folder: Path, **more: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "journal.json").write_text(json.dumps(made.storage_full()), encoding="utf-8")
    base = {"journal": str(folder / "journal.json"), "path": str(folder / "new" / "report")}
    return {**base, "formats": FORMATS, "history": [], **more}


def test_the_same_journal_changes_nothing_a_second_time(tmp_path: Path) -> None:
    params = given(tmp_path)
    (tmp_path / "samples.jsonl").write_text(made.samples(stalled=True), encoding="utf-8")
    first = reconcile(RESOURCE, Host(), params)
    texts = {path: path.read_bytes() for path in (tmp_path / "new" / "report").iterdir()}
    second = reconcile(RESOURCE, Host(), params)
    assert (first.changed, second.changed) == (True, False)
    assert {path.name for path in texts} == set(FILES.values())
    assert {path: path.read_bytes() for path in texts} == texts
    assert second.object is not None
    assert (second.object["verdict"], second.object["metrics"]["outage_s"]) == ("passed", 19.2)
    assert {Path(path) for path in second.object["paths"].values()} == set(texts)


def test_a_report_that_was_changed_is_written_anew_without_a_copy(tmp_path: Path) -> None:
    params = given(tmp_path, formats=["junit"])
    reconcile(RESOURCE, Host(), params)
    (tmp_path / "new" / "report" / "junit.xml").write_text("by hand", encoding="utf-8")
    assert reconcile(RESOURCE, Host(), params).changed
    assert [path.name for path in (tmp_path / "new" / "report").iterdir()] == ["junit.xml"]


def test_text_that_files_change_still_converges(tmp_path: Path) -> None:
    params = given(tmp_path)
    strange = made.cut(made.storage_full(), "plan/inject", "a\r\nb\rc \x00 \ud800 \u2028 d")
    (tmp_path / "journal.json").write_text(json.dumps(strange), encoding="utf-8")
    assert reconcile(RESOURCE, Host(), params).changed
    assert not reconcile(RESOURCE, Host(), params).changed


def test_check_mode_writes_nothing_and_says_the_verdict(tmp_path: Path) -> None:
    outcome = reconcile(RESOURCE, Host(read_only=True), given(tmp_path), check=True)
    assert outcome.changed and not (tmp_path / "new").exists()
    assert outcome.object is not None and outcome.object["verdict"] == "passed"
    assert set(outcome.diff["after"]["sha256"]) == set(FORMATS)


def test_history_of_another_drill_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(made.cut(made.aborted(), "drill/name", "oom")), encoding="utf-8")
    with pytest.raises(Failure, match="is of the drill oom, and this report is of storage_full"):
        reconcile(RESOURCE, Host(), given(tmp_path, history=[str(other)]))
