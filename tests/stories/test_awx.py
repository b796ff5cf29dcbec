# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/awx.yml: its calls are as awx.awx documents them, its data is whole, and a controller takes all of it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.pvelab.proxmox.tests.integration.awx_parts import (
    DATA,
    PLAYBOOK,
    configure,
    items,
    loaded,
    variables,
)
from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT
from ansible_collections.pvelab.proxmox.tests.stories.awx_controller import Controller

pytestmark = pytest.mark.release

AUTH = {
    "controller_host", "controller_username", "controller_password", "controller_oauthtoken", "controller_config_file",
    "validate_certs", "request_timeout",
}  # fmt: skip
# What belongs to a single run, is deprecated, or is not idempotent in awx.awx 24.6 (nodes as a part of their workflow).
LEFT_OUT = {"copy_from", "new_name", "custom_virtualenv", "workflow_nodes", "destroy_current_nodes"}
LEGACY = {"awx.awx.job_template": {"credential", "vault_credential"}}
OURS = {"controller_workflows": {"simplified_workflow_nodes"}}
SOURCES = {"awx_item": "awx_item", "awx_credential": "awx_item", "awx_item.0": "workflow", "awx_item.1": "awx_item"}
PLAYBOOKS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "playbooks").glob("*.yml"))


def calls() -> list[tuple[str, dict[str, str], str]]:
    """(module, its arguments, the list that it goes through) of each task."""
    (play,) = loaded(PLAYBOOK)
    found = []
    for task in play["tasks"]:
        (module,) = [key for key in task if "." in key]
        found.append((module, task[module], re.findall(r"controller_\w+", task["loop"])[0]))
    return found


@pytest.fixture(scope="module")
def documented() -> dict[str, dict[str, Any]]:
    """The options of each module that is called."""
    names = sorted({module for module, _arguments, _list in calls()})
    said = subprocess.run(
        [BIN / "ansible-doc", "-j", "-t", "module", *names], capture_output=True, check=True, cwd=ROOT
    )
    return {name: found["doc"]["options"] for name, found in json.loads(said.stdout).items()}


def spec(options: Mapping[str, Any]) -> dict[str, Any]:
    """Documented options as an argument spec."""
    kept = ("type", "elements", "choices", "required", "default", "aliases")
    made = {}
    for name, option in options.items():
        made[name] = {key: option[key] for key in kept if key in option and option[key] is not None}
        if option.get("suboptions"):
            made[name]["options"] = spec(option["suboptions"])
    return made


def given(module: str, listed: str, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items of a list as the arguments of a module."""
    if module != "awx.awx.workflow_job_template_node":
        return [{k: v for k, v in item.items() if k not in OURS.get(listed, set())} for item in data[listed]]
    return [
        {"workflow_job_template": workflow["name"], "organization": workflow["organization"], **node}
        for workflow in data["controller_workflows"]
        for node in workflow["simplified_workflow_nodes"]
    ]


def test_every_option_of_a_module_is_handed_over(documented: dict[str, dict[str, Any]]) -> None:
    handed: dict[str, set[str]] = {}
    for module, arguments, _list in calls():
        handed.setdefault(module, set()).update(arguments)
        for name, value in arguments.items():
            source, option = re.findall(r"(\w+(?:\.[01])?)\.(\w+)", value)[0]
            assert source in SOURCES, value
            other = {"workflow_job_template": "name", "organization": "organization"} if source == "awx_item.0" else {}
            assert option == other.get(name, name), value
            assert "default(" in value or documented[module][name].get("required") or source == "awx_item.0", value
    wanted = {m: set(options) - AUTH - LEFT_OUT - LEGACY.get(m, set()) for m, options in documented.items()}
    assert handed == wanted


def test_no_item_says_what_its_module_does_not_take(documented: dict[str, dict[str, Any]]) -> None:
    data = variables()
    for module, _arguments, listed in calls():
        validator = ArgumentSpecValidator(spec(documented[module]))
        found = given(module, listed, data)
        assert found, f"{listed} is empty"
        for item in found:
            result = validator.validate(item)
            assert not result.error_messages, f"{listed}: {item.get('name')}: {result.error_messages}"


def test_the_check_of_items_can_fail(documented: dict[str, dict[str, Any]]) -> None:
    validator = ArgumentSpecValidator(spec(documented["awx.awx.job_template"]))
    for wrong in ({"name": "x", "nmae": "x"}, {"name": "x", "job_type": "walk"}, {"name": "x", "forks": "many"}, {}):
        assert validator.validate(wrong).error_messages, wrong


def test_what_is_named_is_there() -> None:
    """Paths in the project, and what surveys are asked with."""
    data = variables()
    paths = [source["source_path"] for source in data["controller_inventory_sources"]]
    paths += [template["playbook"] for template in data["controller_templates"]]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    asked = loaded(DATA / "questions.yml")["awx_questions"]
    used = {template["survey_spec"]["name"] for template in data["controller_templates"] if "survey_spec" in template}
    assert used == set(asked), "each survey belongs to a template"


def test_what_breaks_things_waits_for_somebodys_word() -> None:
    """In each workflow, an approval is on every way to a template that breaks or removes."""
    breaking = {"Lab drill", "Lab drills in a row", "Lab teardown"}
    found = set()
    for workflow in variables()["controller_workflows"]:
        nodes = {node["identifier"]: node for node in workflow["simplified_workflow_nodes"]}
        kinds = ("success_nodes", "always_nodes", "failure_nodes")
        ways = [(one, other) for one, node in nodes.items() for kind in kinds for other in node.get(kind, [])]
        safe = {name for name in nodes if name not in {other for _one, other in ways}}
        while more := {b for a, b in ways if a in safe and "approval_node" not in nodes[a]} - safe:
            safe |= more
        assert [n for n in safe if nodes[n].get("unified_job_template") in breaking] == [], workflow["name"]
        found |= {node.get("unified_job_template") for node in nodes.values()} & breaking
    assert found == {"Lab drills in a row", "Lab teardown"}


@pytest.fixture(scope="module")
def controller() -> Iterator[Controller]:
    with Controller(PLAYBOOKS) as running:
        yield running


SECRETS = {
    "awx_proxmox": {"host": "pve.example.test", "token_id": "ansible@pve!lab", "token_secret": "first secret"},
    "awx_drill_token": {"token_id": "root@pam!drill", "token_secret": "second secret"},
}


def test_a_check_before_there_is_anything_changes_nothing(controller: Controller, tmp_path: Path) -> None:
    report = configure(tmp_path, controller.environment, "--check")
    assert report["rc"] == 0, items(report, "failed")
    assert items(report, "changed") and not controller.writes


def test_the_first_run_makes_everything(controller: Controller, tmp_path: Path) -> None:
    report = configure(tmp_path, controller.environment, "-e", json.dumps(SECRETS))
    assert report["rc"] == 0, (items(report, "failed"), controller.refused)
    assert controller.refused == []
    data, held = variables(), controller.objects.held
    lists = {
        "organizations": "controller_organizations",
        "projects": "controller_projects",
        "inventories": "controller_inventories",
        "inventory_sources": "controller_inventory_sources",
        "execution_environments": "controller_execution_environments",
        "credentials": "controller_credentials",
        "notification_templates": "controller_notifications",
        "job_templates": "controller_templates",
        "workflow_job_templates": "controller_workflows",
        "schedules": "controller_schedules",
    }
    for place, listed in lists.items():
        assert sorted(i["name"] for i in held[place].values()) == sorted(i["name"] for i in data[listed]), place
    for name in ("first secret", "second secret"):
        assert name in str(held["credentials"]) and name not in json.dumps(report)


def test_braces_arrive_as_they_are_written(controller: Controller) -> None:
    held = controller.objects.held
    kinds = {kind["name"]: kind for kind in held["credential_types"].values()}
    assert kinds["Proxmox VE"]["injectors"]["env"]["PROXMOX_TOKEN_SECRET"] == "{{ token_secret }}"
    (node,) = [template for template in held["job_templates"].values() if template["name"] == "Lab node"]
    assert (
        json.loads(node["extra_vars"])["node_reboot"]
        == "{{ survey_node_reboot | bool if survey_node_reboot is defined else true }}"
    )
    assert controller.objects.surveys[node["id"]]["spec"][0]["variable"] == "survey_node_upgrade"


def test_the_game_day_goes_its_way(controller: Controller) -> None:
    objects = controller.objects
    (day,) = [i["id"] for i in objects.held["workflow_job_templates"].values() if i["name"] == "Lab game day"]
    nodes = [n for n in objects.held["workflow_job_template_nodes"].values() if n["workflow_job_template"] == day]
    names = {node["id"]: node["identifier"] for node in nodes}
    ways = {
        (names[one], kind.removesuffix("_nodes"), names[other])
        for (one, kind), others in objects.joined.items()
        if kind.endswith("_nodes") and one in names
        for other in others
    }
    assert ways == {
        ("provision", "success", "steady"),
        ("steady", "success", "approve"),
        ("approve", "success", "drill"),
        ("drill", "always", "report"),
        ("drill", "always", "steady-again"),
    }
    (asked,) = [node["unified_job_template"] for node in nodes if node["identifier"] == "approve"]
    assert objects.held["workflow_approval_templates"][asked]["timeout"] == 3600


def test_the_second_run_changes_nothing(controller: Controller, tmp_path: Path) -> None:
    before = len(controller.writes)
    report = configure(tmp_path, controller.environment, "-e", json.dumps(SECRETS))
    assert (report["rc"], items(report, "changed")) == (0, []), controller.refused
    assert controller.writes[before:] == []


def test_a_check_shows_what_a_run_then_changes(controller: Controller, tmp_path: Path) -> None:
    changes = {"awx_slices": 3, "awx_game_day_drills": ["guest_hang"]}
    lists = {listed for _module, _arguments, listed in calls()} - {"controller_templates", "controller_schedules"}
    more = ("-e", json.dumps({**{name: [] for name in sorted(lists)}, **changes}))
    before = len(controller.writes)
    shown = configure(tmp_path, controller.environment, "--check", *more)
    assert (shown["rc"], controller.writes[before:]) == (0, [])
    done = configure(tmp_path, controller.environment, *more)
    assert done["rc"] == 0, controller.refused
    changed = ["Make the job templates", "Make the job templates", "Say when"]
    assert [text.partition(":")[0] for text in items(shown, "changed")] == changed
    assert [text.partition(":")[0] for text in items(done, "changed")] == changed
    assert len(controller.writes) == before + 3


@pytest.mark.parametrize(
    ("place", "name", "change", "said"),
    [
        (
            "schedules",
            "Lab game day",
            {"extra_data": {"drill_game_day": ["explosion"]}},
            "'explosion' is none of its choices",
        ),
        ("schedules", "Lab game day", {"extra_data": {}}, "'drill_game_day' value missing"),
        ("schedules", "Lab steady state", {"extra_data": {"other": 1}}, "Variables other are not allowed on launch"),
        ("schedules", "Lab steady state", {"limit": "pve1"}, "limit is not configured to prompt on launch"),
        ("schedules", "Lab game day", {"rrule": "RRULE:FREQ=DAILY;INTERVAL=1"}, "one DTSTART is needed"),
        ("credentials", "Lab API", {"inputs": {"hots": "pve"}}, "there is no field hots"),
        ("credential_types", "Proxmox VE", {"injectors": {"env": {"ANSIBLE_X": "1"}}}, "ANSIBLE_X is not allowed"),
        ("credential_types", "Proxmox VE", {"injectors": {"env": {"X": "{{ hots }}"}}}, "'hots' is undefined"),
        ("job_templates", "Lab node", {"playbook": "playbooks/other.yml"}, "Playbook not found"),
        ("job_templates", "Lab node", {"colour": "red"}, "a job_template has no such field"),
        ("job_templates", "Lab node", {"forks": "3"}, "'3' is no int"),
        ("job_templates", "Lab node", {"inventory": 999}, "there is no inventories 999"),
        ("job_templates", "Lab node", {"name": "Lab drill"}, "there is a job_template Lab drill already"),
    ],
)
def test_the_controller_refuses_what_awx_does(
    controller: Controller, place: str, name: str, change: dict[str, Any], said: str
) -> None:
    (item,) = [found for found in controller.objects.held[place].values() if found["name"] == name]
    status, why = controller.answer("PATCH", f"/api/v2/{place}/{item['id']}/", change)
    assert status == 400 and said in str(why)


def test_the_controller_refuses_what_only_this_one_does(controller: Controller) -> None:
    (lab,) = controller.objects.held["organizations"]
    for path in ("/api/v2/colours/", "/api/v2/organizations/999/", f"/api/v2/organizations/{lab}/colours/"):
        assert controller.answer("GET", path, {})[0] == 404, path
    assert controller.answer("GET", "/api/v2/organizations/?colour=red", {})[0] == 400
    assert controller.answer("DELETE", "/api/v2/organizations/", {})[0] == 405
