# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX 24.6 refuses in surveys, answers, types of credentials, notifications and schedules.

The facts are those of its sources: awx/api/views (surveys), awx/main/models/mixins.py (answers), awx/main/fields.py
(types of credentials), awx/api/serializers.py (recurrence, notifications). Each function returns what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jsonschema import Draft4Validator

SURVEY_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("text", "textarea", "password", "multiplechoice", "multiselect"), (str,)),
    "integer": (int,),
    "float": (str, float, int),
}
QUESTION = {"type": str, "question_name": str, "variable": str, "required": bool}
MORE = {"question_description", "default", "choices", "min", "max", "new_question"}
VARIABLE = r"^[a-zA-Z_]+[a-zA-Z0-9_]*$"
CREDENTIAL_INPUTS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "required": {"type": "array", "items": {"type": "string"}},
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["id", "label"],
                "properties": {
                    "type": {"enum": ["string", "boolean"]},
                    "format": {"enum": ["ssh_private_key", "url"]},
                    "choices": {"type": "array", "minItems": 1, "items": {"type": "string"}, "uniqueItems": True},
                    "id": {"type": "string", "pattern": VARIABLE},
                    **{key: {"type": "string"} for key in ("label", "help_text")},
                    **{key: {"type": "boolean"} for key in ("multiline", "secret", "ask_at_runtime")},
                    "default": {},
                },
            },
        },
    },
}
CREDENTIAL_INJECTORS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "file": {"type": "object"},
        "env": {
            "type": "object",
            "patternProperties": {VARIABLE: {"type": "string", "pattern": "^[\x00-\x7f]*$"}},
            "additionalProperties": False,
        },
        "extra_vars": {"type": "object", "patternProperties": {VARIABLE: {}}, "additionalProperties": False},
    },
}
OFTEN = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY")
WEBHOOK: dict[str, tuple[type, Any]] = {
    "url": (str, None),
    "http_method": (str, "POST"),
    "disable_ssl_verification": (bool, False),
    "username": (str, ""),
    "password": (str, ""),
    "headers": (dict, None),
}


def survey(spec: Any) -> list[str]:
    """What is wrong with a survey. Stricter than AWX in one thing: a key that it does not know is wrong, too."""
    if not isinstance(spec, dict):
        return ["a survey is a dictionary"]
    wanted = {"name": str, "description": str, "spec": list}
    wrong = [f"'{key}' is missing or no {kind.__name__}" for key, kind in wanted.items() if not is_(spec, key, kind)]
    wrong += [f"'{key}' is no part of a survey" for key in set(spec) - set(wanted)]
    if wrong or not spec["spec"]:
        return wrong or ["'spec' has no question"]
    variables = [question.get("variable") for question in spec["spec"]]
    wrong += [f"'{name}' is asked for twice" for name in {v for v in variables if variables.count(v) > 1}]
    return wrong + [complaint for question in spec["spec"] for complaint in of_question(question)]


def is_(mapping: Mapping[str, Any], key: str, kind: type) -> bool:
    return key in mapping and isinstance(mapping[key], kind)


def of_question(question: Mapping[str, Any]) -> list[str]:
    name = question.get("variable")
    wrong = [f"{name}: '{k}' is missing or no {t.__name__}" for k, t in QUESTION.items() if not is_(question, k, t)]
    wrong += [f"{name}: '{key}' is no part of a question" for key in set(question) - set(QUESTION) - MORE]
    if wrong:
        return wrong
    if not re.match(VARIABLE, question["variable"]):
        wrong.append(f"{name} is no name of a variable")
    if question["type"] not in SURVEY_TYPES:
        return [*wrong, f"{name}: there is no type '{question['type']}'"]
    wrong += [
        f"{name}: '{limit}' is no integer"
        for limit in ("min", "max")
        if question.get(limit) is not None and type(question[limit]) is not int
    ]
    choosing = question["type"] in ("multiplechoice", "multiselect")
    if choosing and not chosen_from(question):
        wrong.append(f"{name}: has no choices")
    return wrong or of_default(question)


def chosen_from(question: Mapping[str, Any]) -> list[str]:
    choices = question.get("choices") or []
    return [line for line in choices.splitlines() if line.strip()] if isinstance(choices, str) else list(choices)


def of_default(question: Mapping[str, Any]) -> list[str]:
    name, kind, default = question["variable"], question["type"], question.get("default", "")
    if default == "":
        return []
    if isinstance(default, bool) or not isinstance(default, SURVEY_TYPES[kind]):
        return [f"{name}: the default {default!r} is no {kind}"]
    if isinstance(default, str) and default.startswith("$encrypted$"):
        return [f"{name}: $encrypted$ is a reserved word"]
    answers: Any = default.splitlines() if kind == "multiselect" else default
    return answer(question, {name: answers})


def answer(question: Mapping[str, Any], given: Mapping[str, Any], *, required: bool = True) -> list[str]:
    """What is wrong with the answer to one question. ``required``: whether one has to be given."""
    name, kind = question["variable"], question["type"]
    if name not in given:
        return [f"'{name}' value missing"] if question["required"] and required else []
    value = given[name]
    if kind in ("text", "textarea", "password"):
        return [f"{name}: {value!r} is no text"] if not isinstance(value, str) else between(question, len(value))
    if kind in ("integer", "float"):
        numbers = (int,) if kind == "integer" else (int, float)
        return between(question, value) if type(value) in numbers else [f"{name}: {value!r} is no {kind}"]
    if kind == "multiselect" and not isinstance(value, list):
        return [f"{name}: {value!r} is no list"]
    picked = value if kind == "multiselect" else [value]
    return [f"{name}: {one!r} is none of its choices" for one in picked if one not in chosen_from(question)]


def between(question: Mapping[str, Any], size: float) -> list[str]:
    low, high = question.get("min"), question.get("max")
    small, large = low is not None and size < low, high is not None and size > high
    return [f"{question['variable']}: {size} is not between {low} and {high}"] if small or large else []


def answers(spec: Mapping[str, Any] | None, given: Mapping[str, Any], *, required: bool, asks: bool) -> list[str]:
    """What is wrong with variables for a launch. ``asks``: the template takes any variable."""
    questions = (spec or {}).get("spec", [])
    wrong = [text for question in questions for text in answer(question, given, required=required)]
    unknown = set(given) - {question["variable"] for question in questions}
    return wrong if asks else wrong + [f"Variables {name} are not allowed on launch" for name in sorted(unknown)]


def credential_type(inputs: Mapping[str, Any], injectors: Mapping[str, Any]) -> list[str]:
    wrong = [error.message for error in Draft4Validator(CREDENTIAL_INPUTS).iter_errors(inputs)]
    wrong += [error.message for error in Draft4Validator(CREDENTIAL_INJECTORS).iter_errors(injectors)]
    if wrong:
        return wrong
    fields = [field["id"] for field in inputs.get("fields", [])]
    if len(set(fields)) != len(fields) or "tower" in fields:
        wrong.append("ids of fields are unique, and 'tower' is none")
    wrong += [f"there is no field {name} to be required" for name in set(inputs.get("required", [])) - set(fields)]
    for place in ("env", "extra_vars"):
        for variable, template in injectors.get(place, {}).items():
            if place == "env" and variable.startswith("ANSIBLE_"):
                wrong.append(f"{variable} is not allowed in credentials")
            wrong += rendered(template, dict.fromkeys(fields, "EXAMPLE"))[1]
    return wrong


def rendered(template: str, names: Mapping[str, str], *, strict: bool = True) -> tuple[str, list[str]]:
    """A template of an injector as AWX fills it in, and what is wrong. At a launch it is not ``strict``."""
    try:
        undefined = {"undefined": StrictUndefined} if strict else {}
        return ImmutableSandboxedEnvironment(**undefined).from_string(template).render(**names), []
    except TemplateError as error:
        return "", [f"{template}: {error}"]


def notification(kind: str, configuration: Mapping[str, Any]) -> list[str]:
    if kind != "webhook":
        return [f"what a notification of the type {kind} is made of is not known here"]
    wrong = [f"'{key}' is no part of a webhook" for key in set(configuration) - set(WEBHOOK)]
    for key, (expected, default) in WEBHOOK.items():
        value = configuration.get(key, default)
        if value is None or not isinstance(value, expected):
            wrong.append(f"'{key}' is missing or no {expected.__name__}")
    return wrong


def recurrence(rule: str) -> list[str]:
    wrong = []
    if len(re.findall(r"DTSTART(?:;[^:]+)?:\d+T\d+Z?", rule)) != 1:
        wrong.append("one DTSTART is needed")
    if re.search(r"DTSTART:\d+T\d+ ", rule):
        wrong.append("DTSTART needs a zone")
    rules: Sequence[str] = re.findall(r"RULE:([^\s]*)", rule)
    if not rules:
        wrong.append("at least one RRULE is needed")
    for one in rules:
        parts = dict(part.split("=", 1) for part in one.split(";"))
        if "INTERVAL" not in parts or parts.get("FREQ") not in OFTEN:
            wrong.append(f"{one}: INTERVAL and a FREQ above SECONDLY are needed")
        if re.search(r"\d[A-Z]{2}", parts.get("BYDAY", "")) or {"COUNT", "UNTIL"} <= set(parts):
            wrong.append(f"{one}: BYDAY has no number, and COUNT and UNTIL exclude each other")
    return wrong
