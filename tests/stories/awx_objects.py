# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of the controller for tests: which there are, what they hold, what hangs on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from ansible_collections.pvelab.proxmox.tests.integration import awx_rules as rules
from ansible_collections.pvelab.proxmox.tests.stories.awx_fields import (
    ASKED,
    FIELDS,
    JOINED,
    PROMPTS,
    TYPES,
    UNIFIED,
)

API = "/api/v2/"
SECRET = "$encrypted$"
FILTERS = {
    "name", "id", "or__id", "or__name", "identifier", "organization", "credential_type", "inventory", "type",
    "unified_job_template", "workflow_job_template",
}  # fmt: skip


class Wrong(Exception):
    """A request that is refused."""

    def __init__(self, said: Any, status: int = 400) -> None:
        super().__init__(said)
        self.said = said if isinstance(said, dict) else {"__all__": [str(said)]}
        self.status = status


class Objects:
    """``held`` has each object by its place ("projects") and id. ``playbooks`` are those that projects have."""

    def __init__(self, playbooks: list[str]) -> None:
        self.playbooks = playbooks
        self.held: dict[str, dict[int, dict[str, Any]]] = {place: {} for place in FIELDS}
        self.joined: dict[tuple[int, str], list[int]] = {}
        self.surveys: dict[int, dict[str, Any]] = {}
        self._last = 0
        inputs = {"fields": [{"id": name, "label": name} for name in ("username", "ssh_key_data", "become_method")]}
        machine = {"name": "Machine", "kind": "ssh", "managed": True, "inputs": inputs}
        self._keep("credential_types", {**self._blank("credential_types"), **machine})

    def answer(
        self, method: str, path: str, filters: Mapping[str, str], body: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any] | None]:
        """Raises Wrong."""
        if not path.startswith(API) or not path.endswith("/"):
            raise Wrong({"detail": f"there is no {path}"}, 404)
        place, *rest = path.removeprefix(API).strip("/").split("/")
        if place == "project_updates" and method == "GET":
            return 200, {"id": int(rest[0]), "status": "successful", "finished": "now", "failed": False}
        if place == "unified_job_templates" and method == "GET" and not rest:
            return 200, listed(self._unified(), filters)
        if place not in FIELDS or len(rest) > 2:
            raise Wrong({"detail": f"there is no {path}"}, 404)
        if not rest:
            return self._list(method, place, filters, body)
        item = self.held[place].get(int(rest[0]))
        if item is None:
            raise Wrong({"detail": f"there is no {path}"}, 404)
        return self._below(method, place, item, rest[1], body) if rest[1:] else self._one(method, place, item, body)

    # ------------------------------------------------------------------------------- what a path leads to

    def _list(
        self, method: str, place: str, filters: Mapping[str, str], body: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        if method == "GET":
            return 200, listed([self._shown(place, item) for item in self.held[place].values()], filters)
        if method != "POST" or place == "workflow_approval_templates":
            raise Wrong({"detail": f"{method} is not allowed"}, 405)
        made = {**self._blank(place), **self._checked(place, body, None)}
        self._whole(place, made)
        return 201, self._shown(place, self._keep(place, made))

    def _one(
        self, method: str, place: str, item: dict[str, Any], body: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        if method == "PATCH":
            changed = {**item, **self._checked(place, body, item)}
            self._whole(place, changed)
            item.update(changed)
        elif method != "GET":
            raise Wrong({"detail": f"{method} is not allowed"}, 405)
        return 200, self._shown(place, item)

    def _below(
        self, method: str, place: str, item: dict[str, Any], what: str, body: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any] | None]:
        if what == "survey_spec" and "survey_enabled" in item:
            return self._survey(method, item, body)
        if what == "create_approval_template" and place == "workflow_job_template_nodes" and method == "POST":
            made = {**self._blank("workflow_approval_templates")}
            made.update(self._checked("workflow_approval_templates", body, None))
            item["unified_job_template"] = self._keep("workflow_approval_templates", made)["id"]
            return 201, self._shown("workflow_approval_templates", made)
        target = JOINED.get(place, {}).get(what)
        if target is None:
            raise Wrong({"detail": f"a {TYPES[place]} has no {what}"}, 404)
        return self._join(method, item, what, target, body)

    def _survey(self, method: str, item: dict[str, Any], body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        if method == "POST":
            wrong = rules.survey(body)
            if wrong:
                raise Wrong({"error": "; ".join(wrong)})
            self.surveys[item["id"]] = deepcopy(dict(body))
        shown = deepcopy(self.surveys.get(item["id"], {}))
        for question in shown.get("spec", []):
            if question["type"] == "password" and question.get("default"):
                question["default"] = SECRET
        return 200, shown

    def _join(
        self, method: str, item: dict[str, Any], what: str, target: str, body: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any] | None]:
        ids = self.joined.setdefault((item["id"], what), [])
        if method == "GET":
            return 200, listed([self._shown(target, self.held[target][one]) for one in ids], {})
        if method != "POST" or set(body) - {"id", "disassociate"} or body.get("id") not in self.held[target]:
            raise Wrong({"detail": f"{method} of {body} to {what} means nothing"})
        if body.get("disassociate"):
            ids.remove(body["id"])
            return 204, None
        other = self.held[target][body["id"]]
        kinds = [self.held[target][one].get("credential_type") for one in ids]
        if target == "credentials" and other["credential_type"] in kinds:
            raise Wrong({"detail": "Cannot assign multiple credentials of one type."})
        workflows = {one.get("workflow_job_template") for one in (item, other)}
        if target == "workflow_job_template_nodes" and (len(workflows) > 1 or other is item):
            raise Wrong({"detail": "nodes are joined within one workflow"})
        ids.append(body["id"])
        return 204, None

    # ------------------------------------------------------------------------------- what objects are

    def _blank(self, place: str) -> dict[str, Any]:
        return {name: deepcopy(field.default) for name, field in FIELDS[place].items()}

    def _keep(self, place: str, item: dict[str, Any]) -> dict[str, Any]:
        self._last += 1
        item["id"] = self._last
        self.held[place][self._last] = item
        return item

    def _checked(self, place: str, body: Mapping[str, Any], item: Mapping[str, Any] | None) -> dict[str, Any]:
        """The fields of a body, or Wrong: none may be unknown, of another type, or lead nowhere."""
        wrong: dict[str, list[str]] = {}
        for name, value in body.items():
            field = FIELDS[place].get(name)
            if name == "type" and value == TYPES[place]:
                continue
            if field is None:
                wrong[name] = [f"a {TYPES[place]} has no such field"]
            elif not field.takes(value):
                wrong[name] = [f"{value!r} is no {field.kind}"]
            elif field.leads and value is not None and value not in self._at(field.leads):
                wrong[name] = [f"there is no {field.leads} {value}"]
        missing = [name for name, field in FIELDS[place].items() if field.needed and name not in body]
        wrong |= {name: ["This field is required."] for name in missing if item is None}
        if wrong:
            raise Wrong(wrong)
        # Null is taken for a text that may be empty, and kept as the empty one (awx/api/fields.py).
        return {
            name: "" if value is None and FIELDS[place][name].default == "" else deepcopy(value)
            for name, value in body.items()
            if name != "type"
        }

    def _at(self, place: str) -> Mapping[int, Any]:
        return {item["id"]: item for item in self._unified()} if place == "unified_job_templates" else self.held[place]

    def _whole(self, place: str, item: dict[str, Any]) -> None:
        """Raises Wrong where fields contradict each other, or another object has the same name."""
        keys = [k for k in ("name", "identifier", "organization", "inventory", "workflow_job_template") if k in item]
        keys += ["credential_type"] if place == "credentials" else []
        for other in self.held[place].values():
            if other["id"] != item.get("id") and all(other[key] == item[key] for key in keys):
                raise Wrong(f"there is a {TYPES[place]} {item.get('name') or item.get('identifier')} already")
        check: Callable[[dict[str, Any]], list[str]] | None = getattr(self, f"_of_{place}", None)
        wrong = check(item) if check else []
        if wrong:
            raise Wrong("; ".join(wrong))

    def _of_credential_types(self, item: dict[str, Any]) -> list[str]:
        return rules.credential_type(item["inputs"], item["injectors"])

    def _of_credentials(self, item: dict[str, Any]) -> list[str]:
        known = {field["id"] for field in self.held["credential_types"][item["credential_type"]]["inputs"]["fields"]}
        return [f"there is no field {name}" for name in set(item["inputs"]) - known]

    def _of_notification_templates(self, item: dict[str, Any]) -> list[str]:
        given = {
            **{name: default for name, (_kind, default) in rules.WEBHOOK.items()},
            **item["notification_configuration"],
        }
        item["notification_configuration"] = given
        return rules.notification(item["notification_type"], given)

    def _of_inventory_sources(self, item: dict[str, Any]) -> list[str]:
        scm = item["source"] == "scm"
        return (
            [] if scm and item["source_project"] and item["source_path"] else ["a source is a path in a project here"]
        )

    def _of_job_templates(self, item: dict[str, Any]) -> list[str]:
        project = self.held["projects"][item["project"]]
        if item["organization"] not in (None, project["organization"]):
            return ["the organization is that of the project"]
        item["organization"] = project["organization"]
        missing = item["playbook"] not in self.playbooks
        return ["Playbook not found for project."] if missing else of_variables(item)

    def _of_workflow_job_templates(self, item: dict[str, Any]) -> list[str]:
        return of_variables(item)

    def _of_schedules(self, item: dict[str, Any]) -> list[str]:
        return rules.recurrence(item["rrule"]) + self._launchable(item, required=True)

    def _of_workflow_job_template_nodes(self, item: dict[str, Any]) -> list[str]:
        return self._launchable(item, required=False)

    def _launchable(self, item: Mapping[str, Any], *, required: bool) -> list[str]:
        """What is wrong with the variables that a schedule or a node hands to its template."""
        if item["unified_job_template"] is None:
            return []
        template = self._at("unified_job_templates")[item["unified_job_template"]]
        spec = self.surveys.get(template["id"]) if template.get("survey_enabled") else None
        asks = bool(template.get("ask_variables_on_launch"))
        unasked = [
            f"{name} is not configured to prompt on launch"
            for name in PROMPTS
            if item[name] is not None and not template.get(f"ask_{ASKED.get(name, name)}_on_launch")
        ]
        return unasked + rules.answers(spec, item["extra_data"], required=required, asks=asks)

    # ------------------------------------------------------------------------------- what is told

    def _shown(self, place: str, item: Mapping[str, Any]) -> dict[str, Any]:
        url = f"{API}{place}/{item['id']}/"
        shown = {**deepcopy(dict(item)), "type": TYPES[place], "url": url, "related": {}, "summary_fields": {}}
        if "survey_enabled" in item:
            shown["related"]["survey_spec"] = f"{url}survey_spec/"
        if place == "projects":
            shown |= {"scm_revision": "", "summary_fields": {"current_update": {"id": item["id"]}}}
        if place == "workflow_job_template_nodes" and item["unified_job_template"] is not None:
            shown["related"]["unified_job_template"] = self._at("unified_job_templates")[item["unified_job_template"]][
                "url"
            ]
        if place == "credentials":
            fields = self.held["credential_types"][item["credential_type"]]["inputs"]["fields"]
            secret = {field["id"] for field in fields if field.get("secret")} | {"ssh_key_data"}
            shown["inputs"] = {name: SECRET if name in secret else value for name, value in item["inputs"].items()}
        if place == "notification_templates" and item["notification_configuration"]["password"]:
            shown["notification_configuration"]["password"] = SECRET
        return shown

    def _unified(self) -> list[dict[str, Any]]:
        found = [self._shown(place, item) for place in UNIFIED for item in self.held[place].values()]
        for item in found:
            if item["type"] == "inventory_source":
                item["organization"] = self.held["inventories"][item["inventory"]]["organization"]
        return found


def of_variables(item: Mapping[str, Any]) -> list[str]:
    """Extra variables are the text of a dictionary."""
    try:
        return [] if isinstance(json.loads(item["extra_vars"] or "{}"), dict) else ["extra_vars is no dictionary"]
    except ValueError as error:
        return [f"extra_vars: {error}"]


def listed(items: list[dict[str, Any]], filters: Mapping[str, str]) -> dict[str, Any]:
    """One page of those that the filters let through. Raises Wrong for a filter that is not known."""
    if set(filters) - FILTERS:
        raise Wrong({"detail": f"there is no filter {', '.join(sorted(set(filters) - FILTERS))}"})
    either = {name.removeprefix("or__"): value for name, value in filters.items() if name.startswith("or__")}
    every = {name: value for name, value in filters.items() if not name.startswith("or__")}
    found = [
        item
        for item in items
        if all(str(item.get(name)) == value for name, value in every.items())
        and (not either or any(str(item.get(name)) == value for name, value in either.items()))
    ]
    return {"count": len(found), "next": None, "previous": None, "results": found}
