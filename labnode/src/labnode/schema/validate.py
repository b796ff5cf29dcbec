# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of request parameters against the facts of the schema table, with Proxmox VE's answers.

The order of checks and the texts are those of PVE::JSONSchema (check_object, check_prop, parse_property_string).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from labnode.errors import ParamError
from labnode.schema.formats import check_named, split_list
from labnode.schema.subformats import SUBFORMATS

Facts = Mapping[str, Any]
UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"
MISSING = "property is missing and it is not optional"
_BOOLEAN = re.compile(r"[01]")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.[0-9]+|[0-9]+\.|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?")


def check_params(schema: Mapping[str, Facts], values: Mapping[str, Any]) -> dict[str, Any]:
    """Check raw values (text, or a list of texts) and return them typed: int for integers, bool for booleans.

    Lists stay text, except parameters of type array, which become lists. Raises ParamError naming every bad one.
    """
    prepared = {name: _as_array(schema[name], value) if name in schema else value for name, value in values.items()}
    errors: dict[str, str] = {}
    prepared = check_object(schema, prepared, "", errors)
    if errors:
        raise ParamError(errors)
    return {name: _typed(schema[name], value) for name, value in prepared.items()}


def check_object(
    schema: Mapping[str, Facts], values: Mapping[str, Any], path: str, errors: dict[str, str]
) -> dict[str, Any]:
    """Check a set of named values; aliases come back under their real names. Refusals go to ``errors`` by path."""
    known = _unaliased(schema, values, path, errors)
    for name, facts in schema.items():
        # A method may take several hundred parameters, of which a request gives a handful.
        if facts.get("optional") and known.get(name) is None:
            continue
        refusal = _check_prop(facts, known.get(name), _join(path, name))
        if refusal:
            errors[_join(path, name)] = refusal
    for name in known:
        if name not in schema:
            errors[_join(path, name)] = UNKNOWN
        elif (needed := schema[name].get("requires")) and needed not in known:
            errors[_join(path, needed)] = f"missing property required by '{_join(path, name)}'"
    return known


def parse_property_string(schema: Mapping[str, Facts], text: str, path: str) -> tuple[dict[str, str], str | None]:
    """The keys of a ``value,key=value`` text and the refusal, if any (several lines where keys are wrong)."""
    found: dict[str, str] = {}
    bare = False
    for part in text.split(","):
        if not part.strip():
            continue
        key, equals, value = part.partition("=")
        if equals and not (key and value):
            return found, "missing key in comma-separated list property"
        if not equals:
            refusal = _bare_value(schema, part, found, bare)
            bare = True
        else:
            refusal = _keyed_value(schema, key, value, found)
        if refusal:
            return found, refusal
    errors: dict[str, str] = {}
    found = check_object(schema, found, path, errors)
    lines = [f"{name}: {error}" for name, error in sorted(errors.items())]
    return found, "\n".join(["format error", *lines]) if errors else None


def _bare_value(schema: Mapping[str, Facts], value: str, found: dict[str, str], again: bool) -> str | None:
    default = next((key for key, facts in schema.items() if facts.get("default_key")), None)
    if default is None:
        return "value without key, but schema does not define a default key"
    if again or default in found:
        return f"duplicate key in comma-separated list property: {default}"
    found[default] = _plain_bool(schema[default], value)
    return None


def _keyed_value(schema: Mapping[str, Facts], key: str, value: str, found: dict[str, str]) -> str | None:
    if key in found:
        return f"duplicate key in comma-separated list property: {key}"
    facts = schema.get(key)
    if facts is not None and "alias" in facts:
        group = facts.get("keyAlias")
        if group:
            if group in found:
                return f"key alias '{group}' is already defined"
            found[group] = key
        key = facts["alias"]
        if key in found:
            return f"key '{key}' is already defined (via alias)"
        facts = schema.get(key)
    if facts is None:
        return f"invalid key in comma-separated list property: {key}"
    found[key] = _plain_bool(facts, value)
    return None


def _plain_bool(facts: Facts, value: str) -> str:
    """Property strings, unlike parameters, may say yes and no in words."""
    if facts.get("type") != "boolean":
        return value
    if re.fullmatch(r"1|on|yes|true", value, re.IGNORECASE):
        return "1"
    return "0" if re.fullmatch(r"0|off|no|false", value, re.IGNORECASE) else value


def _unaliased(
    schema: Mapping[str, Facts], values: Mapping[str, Any], path: str, errors: dict[str, str]
) -> dict[str, Any]:
    known = dict(values)
    for name in values:
        alias = schema.get(name, {}).get("alias")
        if alias is None:
            continue
        if alias in known:
            errors[_join(path, name)] = f"cannot set both '{name}' and its alias target '{alias}'"
        else:
            known[alias] = known.pop(name)
    return known


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _check_prop(facts: Facts, value: Any, path: str) -> str | None:
    if "alias" in facts:
        return None
    if value is None:
        return None if facts.get("optional") or facts.get("type") == "null" else MISSING
    if isinstance(value, list):
        return _check_items(facts, value, path)
    return check_type(facts.get("type"), value) or check_value(facts, value, path)


def _check_items(facts: Facts, values: list[Any], path: str) -> str | None:
    kind = facts.get("type")
    if kind != "array":
        return f"type check ('{kind}') failed - got ARRAY"
    for index, item in enumerate(values):
        refusal = _check_prop(facts.get("items", {}), item, f"{path}[{index}]")
        if refusal:
            return refusal
    return None


def check_type(kind: str | None, value: str) -> str | None:
    """The refusal of a text that is not of the type, else None."""
    shape = {"boolean": _BOOLEAN, "integer": _INTEGER, "number": _NUMBER}.get(kind or "")
    return f"type check ('{kind}') failed - got '{value}'" if shape and not shape.fullmatch(value) else None


def check_value(facts: Facts, value: str, path: str) -> str | None:
    """The refusal of a text of the right type: format, pattern, length, bounds and enumeration, in this order."""
    if facts.get("format") and (refusal := check_format(facts["format"], value, path)):
        return f"invalid format - {refusal}\n"
    if "pattern" in facts and not re.fullmatch(facts["pattern"], value, re.ASCII):
        return "value does not match the regex pattern"
    if "maxLength" in facts and len(value) > facts["maxLength"]:
        return f"value may only be {facts['maxLength']} characters long"
    if "minLength" in facts and len(value) < facts["minLength"]:
        return f"value must be at least {facts['minLength']} characters long"
    return _check_bounds(facts, value) or _check_enum(facts, value)


def _check_bounds(facts: Facts, value: str) -> str | None:
    if not _NUMBER.fullmatch(value):
        return None
    if "maximum" in facts and float(value) > facts["maximum"]:
        return f"value must have a maximum value of {facts['maximum']}"
    if "minimum" in facts and float(value) < facts["minimum"]:
        return f"value must have a minimum value of {facts['minimum']}"
    return None


def _check_enum(facts: Facts, value: str) -> str | None:
    allowed = [str(item) for item in facts.get("enum", ())]
    if not allowed or value in allowed:
        return None
    return f"value '{value}' does not have a value in the enumeration '{', '.join(allowed)}'"


def check_format(form: str | Mapping[str, Facts], value: str, path: str) -> str | None:
    """The refusal of a value against a named format or a property-string sub-schema, else None."""
    if isinstance(form, str) and form not in SUBFORMATS:
        return check_named(form, value)
    schema = SUBFORMATS[form] if isinstance(form, str) else form
    found, refusal = parse_property_string(schema, value, path)
    return refusal or _extra_rule(form, found)


def _extra_rule(form: str | Mapping[str, Facts], found: Mapping[str, str]) -> str | None:
    """Rules of a few formats that bind several of their keys."""
    if form == "prune-backups" and found.get("keep-all") == "1":
        others = [key for key, count in found.items() if key != "keep-all" and int(count) > 0]
        return "keep-all cannot be set together with other options." if others else None
    if form == "pve-vm-cpu-conf" and "reported-model" in found:
        return "Property 'reported-model' not allowed in VM-specific CPU config."
    return None


def _as_array(facts: Facts, value: Any) -> Any:
    """Parameters of type array may come as one text with separators; others may not come as a list."""
    if facts.get("type") == "array" and isinstance(value, str):
        return split_list(value)
    if isinstance(value, list) and str(facts.get("format", "")).endswith("-list"):
        return ",".join(value)
    return value


def _typed(facts: Facts, value: Any) -> Any:
    kind = facts.get("type")
    if kind == "integer":
        return int(value)
    return value == "1" if kind == "boolean" else value
