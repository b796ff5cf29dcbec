# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the surveys of AWX's templates out of argument specs: what questions.yml asks, in the words of the specs.

tools/surveys.py          writes surveys.yml beside questions.yml
tools/surveys.py --check  only says whether it is up to date
tools/surveys.py FOLDER   does so for a questions.yml of your own, with roles/ and the rest below FOLDER (--root)

A tool and no plugin: AWX, infra.aap_configuration and our playbook all read data, and a file that is committed can be
looked at before it is loaded. Answers of a type that AWX does not have (truths, lists of lines) come under a name of
their own, "survey_OPTION", and `awx_survey_vars` makes of them what the role takes, as extra variables of the template.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.yaml import yaml_load

ROOT = Path(__file__).resolve().parents[1]
HERE = Path("playbooks/vars/awx")
KEYS = {"name", "required", "min", "max", "choices_from"}
HEAD = """\
# SPDX-License-Identifier: GPL-3.0-or-later
---
# Made by tools/surveys.py of questions.yml and of the argument specs that it names. Change those, and run it again.
"""
MARKUP = re.compile(r"\b(?:[BCEIMOPUV]|RV)\(([^()]*)\)")
TRUTHS = ["true", "false"]


class Refused(Exception):
    """An option cannot be asked for; the text says which, why, and what to do."""


class Unsafe(str):
    """Text with braces that nobody is to fill in before AWX does."""


@dataclass(frozen=True)
class Kind:
    """How AWX asks for an option. ``back`` makes the role's value of the answer: "bool", "int", "float" or "lines";
    "" where the answer is that value already.
    """

    type: str
    choices: Sequence[str] = ()
    back: str = ""


@dataclass
class Survey:
    """A survey as AWX has it (name, description, spec), and extra variables for the template that carries it."""

    name: str
    description: str = ""
    spec: list[dict[str, Any]] = field(default_factory=list)
    variables: dict[str, Unsafe] = field(default_factory=dict)


def plain(text: str) -> str:
    """A description without Ansible's markup."""
    return MARKUP.sub(r"\1", text).strip()


def kind_of(name: str, option: Mapping[str, Any], choices: Sequence[str]) -> Kind:
    """Raises Refused where AWX has no question whose answer could become such a value."""
    given = str(option.get("type", "str"))
    if given == "bool":
        return Kind("multiplechoice", TRUTHS, "bool")
    if choices and given == "list":
        return Kind("multiselect", choices)
    if choices:
        return Kind("multiplechoice", choices, given if given in ("int", "float") else "")
    if option.get("no_log"):
        return Kind("password")
    simple = {"str": "text", "path": "text", "int": "integer", "float": "float"}
    if given in simple:
        return Kind(simple[given])
    if given == "list" and option.get("elements", "str") in ("str", "path"):
        return Kind("textarea", (), "lines")
    raise Refused(f"{name} is a {given}, which no question of AWX asks for. Leave it to the inventory.")


def shown(kind: Kind, name: str, option: Mapping[str, Any]) -> int | float | str:
    """The default in the form of an answer; "" is none."""
    default = option.get("default", "")
    if kind.type == "password":
        return ""
    if isinstance(default, bool):
        return TRUTHS[0] if default else TRUTHS[1]
    if isinstance(default, list):
        return "\n".join(str(entry) for entry in default)
    if isinstance(default, int | float | str):
        return str(default) if kind.choices else default
    raise Refused(f"{name} has the default {default!r}, which is no answer. Leave it to the inventory.")


def fitting(name: str, asked: Mapping[str, Any], kind: Kind, default: int | float | str) -> None:
    """Raises Refused where the default would not be accepted as an answer, or an empty answer would be no value."""
    if default == "" and not asked["required"] and not asked["empty"]:
        raise Refused(
            f"{name} has no default, and AWX hands over an empty text for a question that is not answered. "
            "Give it a default in the argument spec, or say required: true in questions.yml."
        )
    lines = str(default).splitlines() if kind.choices else []
    if [line for line in lines if line not in kind.choices]:
        raise Refused(f"{name}: its default {default!r} is none of its choices {', '.join(kind.choices)}.")
    numbers = kind.type in ("integer", "float") and isinstance(default, int | float)
    low, high = asked.get("min"), asked.get("max")
    if numbers and ((low is not None and float(default) < low) or (high is not None and float(default) > high)):
        raise Refused(f"{name}: its default {default} is not between {low} and {high}.")


def question(
    asked: Mapping[str, Any], option: Mapping[str, Any], choices: Sequence[str]
) -> tuple[dict[str, Any], Kind]:
    """One question, and how its answer becomes the option's value. Raises Refused."""
    name = str(asked["name"])
    kind = kind_of(name, option, choices)
    default = shown(kind, name, option)
    required = bool(asked.get("required", option.get("required", False)))
    fitting(name, {**asked, "required": required, "empty": option.get("default") in ("", [])}, kind, default)
    first, *more = [plain(part) for part in texts(name, option)]
    least = 1 if kind.type == "text" and default else None
    made = {
        "question_name": first.rstrip("."),
        "question_description": " ".join([f"{name}.", *more]),
        "required": required,
        "type": kind.type,
        "variable": f"survey_{name}" if kind.back else name,
        "min": asked.get("min", least),
        "max": asked.get("max"),
        "default": default,
    }
    return ({**made, "choices": list(kind.choices)} if kind.choices else made), kind


def texts(name: str, option: Mapping[str, Any]) -> list[str]:
    """The sentence that asks, and those that explain. Raises Refused."""
    said = option.get("description") or []
    lines = [said] if isinstance(said, str) else [str(line) for line in said]
    if not lines:
        raise Refused(f"{name} has no description, so there is nothing to ask with.")
    first, _dot, rest = lines[0].partition(". ")
    return [first, *([rest] if rest else []), *lines[1:]]


def back(name: str, kind: Kind, default: object) -> Unsafe:
    """The extra variable that makes the role's value of an answer, and of none. Raises Refused.

    Ansible and Jinja do not agree on what a backslash means, so there is none.
    """
    answer = f"survey_{name}"
    value = (
        f"{answer}.splitlines() | map('trim') | select | list" if kind.back == "lines" else f"{answer} | {kind.back}"
    )
    if default is None:
        return Unsafe(f"{{{{ {value} }}}}")
    literal = json.dumps(default, ensure_ascii=False)
    if "\\" in literal or "{" in literal:
        raise Refused(f"{name} has the default {default!r}, which cannot be written into a template. Leave it away.")
    answer = f"survey_{name}"
    value = (
        f"{answer}.splitlines() | map('trim') | select | list" if kind.back == "lines" else f"{answer} | {kind.back}"
    )
    return Unsafe(f"{{{{ {value} if {answer} is defined else {literal} }}}}")


def load(path: Path) -> Any:
    """Raises Refused where there is no such file."""
    if not path.is_file():
        raise Refused(f"there is no {path}, which questions.yml names.")
    return yaml_load(path.read_text(encoding="utf-8"))


def spec_of(root: Path, source: Mapping[str, Any]) -> Mapping[str, Any]:
    """The argument spec that a part of questions.yml names: a role's entry, or a playbook's. Raises Refused."""
    role, playbook = source.get("role"), source.get("playbook")
    place = f"roles/{role}/meta" if role else "playbooks/meta"
    entry = str(source.get("entry", "main") if role else playbook)
    specs = load(root / place / "argument_specs.yml")["argument_specs"]
    if entry not in specs:
        raise Refused(f"{place}/argument_specs.yml has no entry {entry}; it has {', '.join(specs)}.")
    found: Mapping[str, Any] = specs[entry]
    return found


def choices_of(root: Path, asked: Mapping[str, Any], option: Mapping[str, Any]) -> list[str]:
    """What may be chosen: by the argument spec, or by the names of a dictionary elsewhere. Raises Refused."""
    if "choices_from" not in asked:
        return [str(choice) for choice in option.get("choices") or []]
    where = asked["choices_from"]
    found = load(root / where["file"]).get(where["name"])
    if not found:
        raise Refused(f"{where['file']} has no {where['name']}, from which {asked['name']} is to be chosen.")
    return [str(choice) for choice in found]


def survey(root: Path, name: str, sources: Sequence[Mapping[str, Any]]) -> Survey:
    """Raises Refused."""
    made = Survey(name)
    for source in sources:
        spec = spec_of(root, source)
        made.description = made.description or plain(spec.get("short_description", ""))
        for entry in source["ask"]:
            asked = {"name": entry} if isinstance(entry, str) else entry
            if set(asked) - KEYS:
                raise Refused(f"{name}: {asked['name']} has {', '.join(set(asked) - KEYS)}, which means nothing here.")
            option = spec.get("options", {}).get(asked["name"])
            if option is None:
                raise Refused(f"{name}: there is no option {asked['name']} in the argument spec that is named for it.")
            item, kind = question(asked, option, choices_of(root, asked, option))
            if item["variable"] in [other["variable"] for other in made.spec]:
                raise Refused(f"{name} asks for {asked['name']} twice.")
            made.spec.append(item)
            if kind.back:
                made.variables[asked["name"]] = back(asked["name"], kind, option.get("default"))
    return made


def decided(root: Path, asked: Mapping[str, Any], unasked: Mapping[str, Sequence[str]]) -> None:
    """Raises Refused where nobody has said of an option whether it is asked, as of one that is new."""
    options: dict[str, set[str]] = {}
    names: dict[str, set[str]] = {}
    for source in [part for sources in asked.values() for part in sources]:
        owner = str(source.get("role") or source.get("playbook"))
        options.setdefault(owner, set()).update(spec_of(root, source).get("options", {}))
        names.setdefault(owner, set()).update(e if isinstance(e, str) else e["name"] for e in source["ask"])
    for owner, there in options.items():
        left = set(unasked.get(owner, []))
        if new := sorted(there - names[owner] - left):
            raise Refused(
                f"nobody has said whether {', '.join(new)} of {owner} is asked. Name it under a survey, or under "
                "awx_not_asked where it belongs to the inventory."
            )
        if wrong := sorted((left - there) | (left & names[owner])):
            raise Refused(f"awx_not_asked names {', '.join(wrong)} of {owner}, which is asked, or which is no option.")
    if strange := sorted(set(unasked) - set(options)):
        raise Refused(f"awx_not_asked names {', '.join(strange)}, from which nothing is asked.")


def surveys(root: Path, folder: Path) -> str:
    """The text of surveys.yml. Raises Refused."""
    said = load(folder / "questions.yml")
    asked = said["awx_questions"]
    decided(root, asked, said.get("awx_not_asked") or {})
    made = [survey(root, name, sources) for name, sources in asked.items()]
    data = {
        "awx_surveys": {s.name: {"name": s.name, "description": s.description, "spec": s.spec} for s in made},
        "awx_survey_vars": {s.name: s.variables for s in made},
    }
    return HEAD + yaml.dump(data, Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)


class Dumper(yaml.SafeDumper):
    """Lists are indented, as .yamllint wants it, and nothing is written as a reference to something else."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


Dumper.add_representer(Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text), style=">"))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help=f"where questions.yml is ({HERE})")
    parser.add_argument("--root", type=Path, default=ROOT, help="where roles/ and playbooks/ are")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if surveys.yml is not up to date")
    given = parser.parse_args(arguments)
    folder = given.folder or given.root / HERE
    out = folder / "surveys.yml"
    try:
        text = surveys(given.root, folder)
    except Refused as refused:
        print(f"{folder / 'questions.yml'}: {refused}", file=sys.stderr)
        return 2
    if out.is_file() and out.read_text(encoding="utf-8") == text:
        return 0
    if given.check:
        print(f"{out} is not what its sources make. Run tools/surveys.py and commit it.", file=sys.stderr)
        return 1
    out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
