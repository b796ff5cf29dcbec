# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules send, held against the published schema: every key is there, and nothing would be refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import images, storages
from ansible_collections.pvelab.proxmox.plugins.modules import (
    image,
    node_config,
    pool,
    snapshot,
    snapshot_rollback,
    storage,
    task_info,
)
from ansible_collections.pvelab.proxmox.tests.contract.schema import parameters, schema

CASES = Path(__file__).resolve().parents[1] / "unit/cases"
# Keys of storage types that the module does not do: Ceph, iSCSI, ZFS over iSCSI, ESXi.
FOREIGN = {
    "authsupported", "comstar_hg", "comstar_tg", "data-pool", "fs-name", "fuse", "iscsiprovider", "keyring", "krbd",
    "lio_tpg", "monhost", "nowritecache", "portal", "skip-cert-verification", "target", "zfs-base-path",
}  # fmt: skip


def test_every_key_of_a_storage_has_an_option() -> None:
    keys = set(parameters("POST", "/storage")) - FOREIGN - {"storage", "type"}
    assert keys == set(storages.KINDS)
    own = {"storage", "type", "update_secret", "state"}
    assert {storages.option(k) for k in keys} == set(storage.OPTIONS) - own
    assert keys == {k for spec in storages.TYPES.values() for k in spec.keys}


def test_storage_types_and_choices_are_those_of_the_schema() -> None:
    known = parameters("POST", "/storage")
    assert set(storage.OPTIONS["type"]["choices"]) == set(storages.TYPES) <= set(known["type"]["enum"])
    for key in storages.KINDS:
        given, published = storage.OPTIONS[storages.option(key)], known[key]
        if "choices" in given and given["type"] != "list":
            assert [str(c) for c in given["choices"]] == [str(e) for e in published["enum"]], key
        if isinstance(published.get("format"), Mapping):
            assert {storages.option(k) for k in published["format"]} == set(given["options"]), key


def test_what_cannot_be_changed_is_what_an_update_does_not_take() -> None:
    changeable = set(parameters("PUT", "/storage/{storage}"))
    fixed = {k for spec in storages.TYPES.values() for k in (*spec.required, *spec.fixed)}
    # The schema is one for all types: these are fixed for some of them and free for others.
    assert fixed - changeable == fixed - {"pool", "server", "snapshot-as-volume-chain"}
    assert set(storages.KINDS) - changeable <= fixed


def test_image_takes_what_upload_and_download_take() -> None:
    upload = parameters("POST", "/nodes/{node}/storage/{storage}/upload")
    download = parameters("POST", "/nodes/{node}/storage/{storage}/download-url")
    assert set(images.CONTENT) == set(upload["content"]["enum"]) == set(download["content"]["enum"])
    assert set(images.ALGORITHMS) == set(upload["checksum-algorithm"]["enum"])
    sent = {storages.option(k) for k in {*upload, *download} - {"tmpfilename"}}
    assert sent <= set(image.OPTIONS)


@pytest.mark.parametrize(
    ("options", "method", "path", "named_otherwise"),
    [
        (snapshot.RESOURCE.options, "POST", "/nodes/{node}/qemu/{vmid}/snapshot", {}),
        (snapshot.RESOURCE.options, "DELETE", "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}", {}),
        (snapshot_rollback.OPTIONS, "POST", "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/rollback", {}),
        (pool.OPTIONS, "PUT", "/pools", {"delete": "append"}),
        (
            task_info.OPTIONS,
            "GET",
            "/nodes/{node}/tasks",
            {"typefilter": "type", "userfilter": "user", "statusfilter": "errors", "start": "limit"},
        ),
        (
            {**node_config.OPTIONS, **dict.fromkeys(("acme", "acmedomain[n]", "digest"))},
            "PUT",
            "/nodes/{node}/config",
            {"delete": "unset"},
        ),
    ],
    ids=["snapshot", "snapshot removal", "rollback", "pool", "tasks", "options of a node"],
)
def test_every_parameter_has_an_option(
    options: Mapping[str, Any], method: str, path: str, named_otherwise: Mapping[str, str]
) -> None:
    expected = {storages.option(named_otherwise.get(k, k)) for k in parameters(method, path)}
    assert expected <= set(options)


def requests() -> Iterator[Any]:
    for name in ("image", "node_config", "pool", "snapshot", "snapshot_rollback", "snapshots", "storage", "template"):
        for case in yaml_load((CASES / f"{name}.yml").read_text(encoding="utf-8")):
            for step in case.get("steps", []):
                request, sent = next(iter(step.items())) if isinstance(step, Mapping) else (step, {})
                yield pytest.param(*request.split(" ", 1), sent, id=f"{name}: {case['name']}: {request}")


@pytest.mark.parametrize(("method", "path", "sent"), list(requests()))
def test_the_requests_of_the_cases_are_in_the_schema(method: str, path: str, sent: Mapping[str, Any]) -> None:
    parts = path.strip("/").split("/")
    templates = [t for t in schema() if method in schema()[t] and fits(parts, t.strip("/").split("/"))]
    assert templates, f"no such method: {method} {path}"
    known = [parameters(method, t) for t in templates]
    assert any(set(sent) <= set(k) for k in known), set(sent) - set(known[0])


def fits(parts: list[str], template: list[str]) -> bool:
    return len(parts) == len(template) and all(
        t == p or t.startswith("{") for p, t in zip(parts, template, strict=True)
    )
