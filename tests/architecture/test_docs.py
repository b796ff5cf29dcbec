# SPDX-License-Identifier: GPL-3.0-or-later
"""The guides: each code block says what is done with it, what is made is current, and the table of moving is whole.

What the guides show is typed by `make docs`, which takes minutes.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.architecture.tree import ROOT

GUIDES = ROOT / "docs/guides"


@pytest.fixture(scope="module")
def tools() -> Iterator[None]:
    sys.path.insert(0, str(ROOT / "tools"))
    yield
    sys.path.remove(str(ROOT / "tools"))


@pytest.fixture
def docs(tools: None) -> ModuleType:
    return importlib.import_module("docs")


@pytest.fixture
def marks(tools: None) -> ModuleType:
    return importlib.import_module("docs_marks")


@pytest.fixture
def options(tools: None) -> ModuleType:
    return importlib.import_module("docs_options")


@pytest.fixture
def migration(tools: None) -> ModuleType:
    return importlib.import_module("docs_migration")


def test_every_block_says_what_is_done_with_it(marks: ModuleType) -> None:
    assert marks.complaints(marks.pages()) == []
    read = [snippet for page in marks.pages() for snippet in marks.read(page)]
    assert {snippet.kind for snippet in read} == {"run", "file", "output", "check", "as", "from", "skip"}


def test_what_is_made_is_current(docs: ModuleType) -> None:
    assert docs.stale() == []


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("```sh\ntrue\n```", "says not what is done with this block"),
        ("```\ntrue\n```", "says not what is done with this block"),
        ("words\n\n    indented\n", "says not what is done with this block"),
        ("```sh runs\ntrue\n```", "says not what is done with this block"),
        ("```sh skip:\ntrue\n```", "says not what is done with this block"),
        ("```sh skip: no\ntrue\n```", "'no' is no reason"),
        ("```sh skip: tests/nowhere.py does all of it\ntrue\n```", "tests/nowhere.py, which is not there"),
        ("```yaml run\n- a\n```", "`run` is not for yaml"),
        ("```text output\ndone\n```", "no block that is run right before"),
        ("```yaml file=play.yml\n- hosts: all\n```", "a saved file is called my-"),
        ("```yaml file=my-play.yml\n- hosts: all\n```", "no command further down uses my-play.yml"),
        ("```sh as in quick-start.md\nmake moonshine\n```", "quick-start.md runs no such block"),
        ("```python from ruff.toml\nimport this\n```", "ruff.toml has no such part"),
        ("```yaml check: it is only an example\nguest_list: []\n```", "no role has a variable guest_list"),
        ("```yaml check: it is only an example\n- a: [\n```", "it is no YAML"),
    ],
)
def test_a_block_that_is_wrong_is_found(marks: ModuleType, tmp_path: Path, block: str, said: str) -> None:
    found = complaints_of(marks, tmp_path, f"# A guide\n\n{block}\n")
    assert len([line for line in found if said in line]) == 1, found


def complaints_of(marks: ModuleType, folder: Path, text: str) -> list[str]:
    """What is said of a page of its own, which lies beside the guides' for its links."""
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    (folder / "quick-start.md").write_text("```sh run\nmake demo\n```\n", encoding="utf-8")
    found: list[str] = marks.complaints([page])
    return found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- pvelab.proxmox.vmm: {name: a}", "there is no module pvelab.proxmox.vmm"),
        ("- pvelab.proxmox.vm: {name: a, core: 2}", "pvelab.proxmox.vm: there is no option core"),
        ("- pvelab.proxmox.vm: {name: a, bios: bios}", "'bios' is none of seabios, ovmf"),
        ("- pvelab.proxmox.vm: {name: a, disks: [{slot: scsi0, sizes: 1G}]}", "there is no option sizes"),
        ("- pvelab.proxmox.vm: {name: a, disks: [{size: 1G}]}", "the option slot is missing"),
        ("- pvelab.proxmox.vm: {name: a, cores: two}", "'two' is no int"),
        ("- hosts: all\n  tasks:\n    - block:\n        - pvelab.proxmox.pool: {pool: a}", "there is no option pool"),
        ("- hosts: all\n  roles: [pvelab.proxmox.netwerk]", "there is no role pvelab.proxmox.netwerk"),
        ("- hosts: all\n  vars: {drill_allows: true}", "no role has a variable drill_allows"),
        ("all: {vars: {guests_listing: []}}", "no role has a variable guests_listing"),
        ("plugin: pvelab.proxmox.guests\nkeyd_groups: []", "there is no option keyd_groups"),
        ("42", "neither a playbook, nor tasks, nor variables"),
    ],
)
def test_yaml_that_does_not_keep_to_the_options_is_found(options: ModuleType, text: str, said: str) -> None:
    found = options.complaints(yaml_load(text))
    assert any(said in line for line in found), found


def test_yaml_that_is_right_is_left_alone(options: ModuleType) -> None:
    for name in ("playbooks/site.yml", "playbooks/teardown.yml", "tests/stories/play_of_everything.yml"):
        assert options.complaints(yaml_load((ROOT / name).read_text(encoding="utf-8"))) == []
    for path in ("inventories/example/group_vars/proxmox/lab.yml", "inventories/lab/group_vars/hypervisors/lab.yml"):
        data = yaml_load((ROOT / path).read_text(encoding="utf-8"))
        assert data and options.complaints(data) == []


def test_the_table_of_moving_names_all_of_theirs_and_only_ours(docs: ModuleType, migration: ModuleType) -> None:
    assert migration.wrong_here(migration.table()) == []
    assert docs.neighbours() == []


def test_what_is_missing_in_the_table_is_found(options: ModuleType, migration: ModuleType) -> None:
    version = migration.version_of(options.NEIGHBOUR)
    theirs = {name: dict(found) for name, found in options.modules(options.NEIGHBOUR).items()}
    theirs["proxmox_kvm"]["moons"] = {}
    theirs["proxmox_kvm"]["tpmstate0"] = {"suboptions": {"storage": {}, "version": {}, "moon": {}}}
    theirs["proxmox_moon"] = {}
    del theirs["proxmox_nic"]["tag"]
    assert migration.differences(theirs, version) == [
        "proxmox_moon: missing in the table",
        "proxmox_kvm.moons: missing in the table",
        "proxmox_kvm.tpmstate0.moon: missing in the table",
        f"proxmox_nic.tag: not in {version}",
    ]
    assert "not against 99.0.0" in migration.differences(theirs, "99.0.0")[0]


def test_every_version_that_is_installed_with_a_python_was_looked_at(migration: ModuleType) -> None:
    pins = re.findall(r"^ansible==", (ROOT / "requirements/bench.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(pins) == len(migration.table()["versions"])


def test_what_of_ours_does_not_exist_is_found(migration: ModuleType) -> None:
    entry: dict[str, Any] = {
        "here": ["vm", "vmm"],
        "same": ["name", "moons"],
        "options": {"a": "disks.moon", "b": "status=shining", "c": "pool.poolid", "d": "none"},
    }
    made = {"modules": {"proxmox_x": entry}, "everywhere": {"same": ["api_host", "api_moon"]}}
    assert migration.wrong_here(made) == [
        "proxmox_x: there is no module vmm",
        "proxmox_x.moons: there is no vm.moons",
        "proxmox_x.a: there is no vm.disks.moon",
        "proxmox_x.b: there is no vm.status=shining",
        "proxmox_x.d: none, and it is not said why",
        "everywhere: there is no api_moon",
    ]


def test_each_drill_has_a_page_and_each_page_a_drill(docs: ModuleType) -> None:
    catalog = yaml_load((ROOT / "roles/drill/vars/main/catalog.yml").read_text(encoding="utf-8"))["_drill_catalog"]
    pages = {path.stem for path in (GUIDES / "drills").glob("*.md")} - {"README"}
    assert pages == set(catalog)
    for name, drill in catalog.items():
        text = (GUIDES / f"drills/{name}.md").read_text(encoding="utf-8")
        report = (ROOT / f"docs/drills/{name}/report.md").exists()
        assert drill["hypothesis"] in text and drill["remedy"] in text
        assert ("There is no report of a real run" in text) is not report


def test_what_labnode_answers_is_what_it_has_handlers_for(docs: ModuleType) -> None:
    labnode = importlib.import_module("docs_labnode")
    assert labnode.answered() < set(labnode.known())
    text = (GUIDES / "what-labnode-answers.md").read_text(encoding="utf-8")
    assert {(path, verb) for verb, path in re.findall(r"^- `(\w+) (\S+)`$", text, re.MULTILINE)} == labnode.answered()
    assert "| `/nodes/ceph` | 40 | none |" in text


def test_the_guide_to_reports_explains_every_verdict_and_figure() -> None:
    schema = json.loads((ROOT / "docs/drills/journal.schema.json").read_text(encoding="utf-8"))["properties"]
    text = (GUIDES / "reading-a-report.md").read_text(encoding="utf-8")
    named = [*filter(None, schema["verdict"]["enum"]), *schema["metrics"]["properties"]]
    assert [name for name in named if f"| `{name}` |" not in text] == []


LINKED = """<html><body id="top"><a href="other.html#there">a</a><a href="other.html#gone">b</a>
<a href="gone.html">c</a>
<a href="#top">d</a><a href="#gone">e</a><img src="gone.svg"><a href="https://pve.proxmox.com/wiki">f</a>
<a href="https://pve example/">g</a><a href="javascript:go()">h</a></body></html>"""


def test_links_that_lead_nowhere_are_found(tools: None, tmp_path: Path) -> None:
    site = importlib.import_module("docs_site")
    (tmp_path / "page.html").write_text(LINKED, encoding="utf-8")
    (tmp_path / "other.html").write_text('<h1 id="there">x</h1>', encoding="utf-8")
    assert sorted(site.broken_links(tmp_path)) == [
        "page.html: #gone: there is no such place in that page",
        "page.html: gone.html: there is no such file",
        "page.html: gone.svg: there is no such file",
        "page.html: https://pve example/: this is no address",
        "page.html: javascript:go(): what is javascript?",
        "page.html: other.html#gone: there is no such place in that page",
    ]


def test_what_a_block_does_not_print_is_found(tools: None, marks: ModuleType, tmp_path: Path) -> None:
    run = importlib.import_module("docs_run")
    page = tmp_path / "page.md"
    text = "```sh run\nname=world\n```\n\n```sh run\necho hello; echo $name\n```\n\n```text output\n{}\n```\n"
    said = {}
    for shown in ("hello\n…ld", "hello\nmoon", "world\nhello"):
        page.write_text(text.format(shown), encoding="utf-8")
        snippets = marks.read(page)
        printed = run.in_shell([s for s in snippets if s.kind == "run"])
        said[shown] = [line for s in snippets for line in run.compared(snippets, s, printed)]
    assert said["hello\n…ld"] == []
    assert "did not print 'moon'" in said["hello\nmoon"][0]
    assert "did not print 'hello'" in said["world\nhello"][0]


def test_a_block_that_fails_is_named(tools: None, marks: ModuleType, tmp_path: Path) -> None:
    run = importlib.import_module("docs_run")
    page = tmp_path / "page.md"
    page.write_text("```sh run\ntrue\n```\n\n```sh run\necho moon; false\n```\n", encoding="utf-8")
    with pytest.raises(run.Wrong, match=r"page\.md:5: this block failed with status 1:\nmoon"):
        run.in_shell(marks.read(page))
