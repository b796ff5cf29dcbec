# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/surveys.py: what becomes of each kind of option, what it refuses, and that it sees what was changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.integration import awx_rules as rules
from ansible_collections.pvelab.proxmox.tests.integration.awx_parts import DATA, loaded
from ansible_collections.pvelab.proxmox.tests.lab import ROOT

OPTIONS: dict[str, dict[str, Any]] = {
    "word": {"type": "str", "default": "", "description": "A word, such as V(this), of O(other)."},
    "kept": {"type": "str", "default": "something", "description": ["First. Second.", "Third."]},
    "needed": {"type": "str", "required": True, "description": "Needed."},
    "secret": {"type": "str", "default": "", "no_log": True, "description": "A secret."},
    "one": {"type": "str", "choices": ["a", "b"], "default": "a", "description": "One."},
    "some": {"type": "list", "elements": "str", "choices": ["a", "b"], "default": ["a", "b"], "description": "Some."},
    "lines": {"type": "list", "elements": "str", "default": ["it's", "b"], "description": "Lines."},
    "truth": {"type": "bool", "default": False, "description": "A truth."},
    "number": {"type": "int", "default": 5, "description": "A number."},
    "speed": {"type": "float", "default": 0.5, "description": "A speed."},
    "level": {"type": "int", "choices": [1, 2], "default": 2, "description": "A level."},
    "file": {"type": "path", "default": "/tmp/x", "description": "A file."},
    "bare": {"type": "str", "description": "Without a default."},
    "tree": {"type": "dict", "default": {}, "description": "A tree."},
    "mute": {"type": "str", "default": ""},
}


def run(folder: Path, ask: list[Any], *more: str) -> subprocess.CompletedProcess[str]:
    """The tool on a role of the test's own."""
    (folder / "roles/odd/meta").mkdir(parents=True, exist_ok=True)
    specs = {"argument_specs": {"main": {"short_description": "Odd", "options": OPTIONS}}}
    (folder / "roles/odd/meta/argument_specs.yml").write_text(yaml.safe_dump(specs), encoding="utf-8")
    (folder / "catalog.yml").write_text(yaml.safe_dump({"things": {"x": {}, "y": {}}}), encoding="utf-8")
    names = {entry if isinstance(entry, str) else entry["name"] for entry in ask}
    unasked = {"odd": sorted(set(OPTIONS) - names)}
    questions = {"awx_questions": {"odd": [{"role": "odd", "ask": ask}]}, "awx_not_asked": unasked}
    (folder / "questions.yml").write_text(yaml.safe_dump(questions), encoding="utf-8")
    return again(folder, *more)


def again(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "tools/surveys.py", folder, "--root", folder, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def made(folder: Path, ask: list[Any]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The questions by their variables, and the extra variables."""
    done = run(folder, ask)
    assert done.returncode == 0, done.stderr
    found = loaded(folder / "surveys.yml")
    assert rules.survey(found["awx_surveys"]["odd"]) == []
    return {q["variable"]: q for q in found["awx_surveys"]["odd"]["spec"]}, found["awx_survey_vars"]["odd"]


def test_each_kind_of_option_becomes_its_question(tmp_path: Path) -> None:
    asked = ["word", "kept", "needed", "secret", "one", "some", "number", "speed", "file"]
    questions, variables = made(tmp_path, asked)
    assert {name: q["type"] for name, q in questions.items()} == {
        "word": "text",
        "kept": "text",
        "needed": "text",
        "secret": "password",
        "one": "multiplechoice",
        "some": "multiselect",
        "number": "integer",
        "speed": "float",
        "file": "text",
    }
    assert variables == {}
    assert [name for name, q in questions.items() if q["required"]] == ["needed"]
    assert (questions["one"]["choices"], questions["one"]["default"]) == (["a", "b"], "a")
    assert [questions[name]["default"] for name in ("number", "speed", "secret")] == [5, 0.5, ""]
    assert questions["word"]["question_name"] == "A word, such as this, of other"
    assert (questions["kept"]["question_name"], questions["kept"]["min"]) == ("First", 1)
    assert questions["kept"]["question_description"] == "kept. Second. Third."


def test_what_awx_has_no_type_for_is_made_of_the_answer(tmp_path: Path) -> None:
    questions, variables = made(tmp_path, ["truth", "lines", "level"])
    assert set(questions) == {"survey_truth", "survey_lines", "survey_level"}
    assert questions["survey_truth"]["choices"] == ["true", "false"]
    answers = {"survey_truth": "true", "survey_lines": "one\n two \n\n", "survey_level": "1"}
    assert values(tmp_path, variables, answers) == {"truth": True, "lines": ["one", "two"], "level": 1}
    assert values(tmp_path, variables, {}) == {"truth": False, "lines": ["it's", "b"], "level": 2}
    assert values(tmp_path, variables, {**answers, "survey_lines": ""})["lines"] == []


def values(folder: Path, variables: dict[str, str], answers: dict[str, Any]) -> Any:
    """What the variables of a template come to, as extra variables of a play."""
    (folder / "extra.yml").write_text(yaml.safe_dump({**dict(variables), **answers}), encoding="utf-8")
    shown = {name: f"{{{{ {name} }}}}" for name in variables}
    task = {"ansible.builtin.copy": {"content": "{{ shown | to_json }}", "dest": str(folder / "out.json")}}
    play = {"hosts": "localhost", "gather_facts": False, "vars": {"shown": shown}, "tasks": [task]}
    (folder / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    command = [Path(sys.executable).with_name("ansible-playbook"), "play.yml", "-e", "@extra.yml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return yaml_load((folder / "out.json").read_text(encoding="utf-8"))


def test_what_an_argument_spec_cannot_say_stands_with_the_question(tmp_path: Path) -> None:
    things = {"file": "catalog.yml", "name": "things"}
    ask = [{"name": "number", "min": 1, "max": 9}, {"name": "bare", "required": True, "choices_from": things}]
    questions, _none = made(tmp_path, ask)
    assert (questions["number"]["min"], questions["number"]["max"]) == (1, 9)
    assert (questions["bare"]["choices"], questions["bare"]["required"]) == (["x", "y"], True)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        ("bare", "bare has no default"),
        ("tree", "tree is a dict"),
        ("mute", "mute has no description"),
        ("gone", "there is no option gone"),
        ({"name": "number", "min": 6}, "its default 5 is not between 6 and None"),
        ({"name": "number", "least": 6}, "number has least, which means nothing here"),
        ({"name": "one", "choices_from": {"file": "catalog.yml", "name": "things"}}, "is none of its choices x, y"),
        ({"name": "one", "choices_from": {"file": "catalog.yml", "name": "others"}}, "catalog.yml has no others"),
        (
            {"name": "one", "choices_from": {"file": "other.yml", "name": "others"}},
            "other.yml, which questions.yml names",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_reason(tmp_path: Path, ask: Any, said: str) -> None:
    done = run(tmp_path, [ask])
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "surveys.yml").exists()


def test_of_each_option_it_is_said_whether_it_is_asked(tmp_path: Path) -> None:
    """So that an option that a role gets is in the survey, or somebody has decided against it."""
    assert run(tmp_path, ["word"]).returncode == 0
    specs = tmp_path / "roles/odd/meta/argument_specs.yml"
    data = yaml_load(specs.read_text(encoding="utf-8"))
    data["argument_specs"]["main"]["options"]["fresh"] = {"type": "str", "default": "", "description": "New."}
    specs.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert "nobody has said whether fresh of odd is asked" in again(tmp_path).stderr
    del data["argument_specs"]["main"]["options"]["fresh"], data["argument_specs"]["main"]["options"]["mute"]
    specs.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert "awx_not_asked names mute of odd" in again(tmp_path).stderr


def test_twice_is_once_too_often(tmp_path: Path) -> None:
    assert "odd asks for word twice" in run(tmp_path, ["word", "word"]).stderr


def test_it_sees_what_has_changed_since(tmp_path: Path) -> None:
    assert run(tmp_path, ["word"]).returncode == 0
    assert run(tmp_path, ["word"], "--check").returncode == 0
    stale = run(tmp_path, ["word", "kept"], "--check")
    assert (stale.returncode, "Run tools/surveys.py" in stale.stderr) == (1, True)


def test_every_survey_of_ours_is_one_that_awx_takes() -> None:
    surveys = loaded(DATA / "surveys.yml")["awx_surveys"]
    assert len(surveys) >= 8
    assert {name: rules.survey(survey) for name, survey in surveys.items()} == {name: [] for name in surveys}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "number"}, "there is no type 'number'"),
        ({"required": "no"}, "'required' is missing or no bool"),
        ({"default": 0}, "0 is not between 1 and 9"),
        ({"default": "5"}, "the default '5' is no integer"),
        ({"default": True}, "the default True is no integer"),
        ({"min": "1"}, "'min' is no integer"),
        ({"type": "multiplechoice", "default": ""}, "has no choices"),
        ({"type": "multiselect", "choices": ["a"], "default": "a\nb"}, "'b' is none of its choices"),
        ({"question": "?"}, "'question' is no part of a question"),
    ],
)
def test_the_rules_find_what_awx_refuses(change: dict[str, Any], said: str) -> None:
    question = {"type": "integer", "question_name": "?", "variable": "n", "required": False, "min": 1, "max": 9}
    survey = {"name": "", "description": "", "spec": [{**question, "default": 5}]}
    assert rules.survey(survey) == []
    wrong = rules.survey({**survey, "spec": [{**question, "default": 5, **change}]})
    assert wrong and said in " ".join(wrong)
