# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameter checks: what Proxmox VE accepts, and its words for what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labnode.errors import ParamError
from labnode.schema.formats import FORMATS, check_named, split_list
from labnode.schema.subformats import SUBFORMATS
from labnode.schema.table import table
from labnode.schema.validate import check_params

CREATE = ("POST", "/nodes/{node}/qemu")


def check(where: tuple[str, str], **values: Any) -> dict[str, Any]:
    method = table().method(*where)
    assert method is not None and method.params is not None
    return check_params(method.params, {"node": "pve1", **values} if "{node}" in where[1] else values)


def refusal(where: tuple[str, str], **values: Any) -> dict[str, str]:
    with pytest.raises(ParamError) as caught:
        check(where, **values)
    return caught.value.errors


def test_values_come_back_typed() -> None:
    got = check(CREATE, vmid="101", cores="2", onboot="1", acpi="0", cpulimit="0.5", name="web1")
    assert got == {
        "node": "pve1", "vmid": 101, "cores": 2, "onboot": True, "acpi": False, "cpulimit": "0.5", "name": "web1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "name", "text"),
    [
        ({"vmid": "99"}, "vmid", "invalid format - value does not look like a valid VM ID\n"),
        ({"vmid": "abc"}, "vmid", "type check ('integer') failed - got 'abc'"),
        ({"cores": "0"}, "cores", "value must have a minimum value of 1"),
        ({"onboot": "True"}, "onboot", "type check ('boolean') failed - got 'True'"),
        ({"name": "bad_name!"}, "name", "invalid format - value does not look like a valid DNS name\n"),
        ({"tags": "no spaces!"}, "tags", "invalid format - invalid characters in tag\n"),
        ({"net0": "virtio,bridge="}, "net0", "invalid format - missing key in comma-separated list property\n"),
        ({"net0": "virtio,virtio=02:00:00:00:00:01"}, "net0", None),
        ({"agent": "1,2"}, "agent", "invalid format - duplicate key in comma-separated list property: enabled\n"),
        ({"numa0": "1-2"}, "numa0", "invalid format - value without key, but schema does not define a default key\n"),
        (
            {"memory": "1"},
            "memory",
            "invalid format - format error\nmemory.current: value must have a minimum value of 16\n",
        ),
        ({"ostype": "beos"}, "ostype", None),
        (
            {"ipconfig0": "gw=10.0.0.1"},
            "ipconfig0",
            "invalid format - format error\nipconfig0.ip: missing property required by 'ipconfig0.gw'\n",
        ),
        (
            {"foo": "bar"},
            "foo",
            "property is not defined in schema and the schema does not allow additional properties",
        ),
        ({"scsi31": "local:1"}, "scsi31", None),
    ],
)
def test_refusals(values: dict[str, str], name: str, text: str | None) -> None:
    errors = refusal(CREATE, **{"vmid": "101", **values})
    assert list(errors) == [name]
    assert text is None or errors[name] == text


def test_all_errors_are_told_at_once() -> None:
    assert set(refusal(CREATE, vmid="99", cores="0", foo="bar", net0="x=1")) == {"vmid", "cores", "foo", "net0"}


def test_missing_parameter() -> None:
    assert refusal(CREATE) == {"vmid": "property is missing and it is not optional"}


@pytest.mark.parametrize(
    "value",
    [
        "virtio,bridge=vmbr0",
        "model=virtio,macaddr=02:00:00:00:00:01,tag=20,firewall=1",
        "e1000=02:00:00:00:00:01",
        "virtio,link_down=yes",
    ],
)
def test_good_nics(value: str) -> None:
    assert check(CREATE, vmid="101", net0=value)["net0"] == value


def test_one_parameter_given_twice() -> None:
    assert refusal(CREATE, vmid="101", name=["a", "b"]) == {"name": "type check ('string') failed - got ARRAY"}
    assert check(("PUT", "/access/acl"), path="/", roles=["A1", "B2"], users="x@pve")["roles"] == "A1,B2"


def test_every_format_of_the_table_is_known() -> None:
    unknown = set()

    def walk(facts: Any) -> None:
        form = facts.get("format")
        if isinstance(form, str) and form not in SUBFORMATS:
            try:
                check_named(form, "x")
            except KeyError:
                unknown.add(form)
        for sub in form.values() if isinstance(form, dict) else ():
            walk(sub)

    for path in table().paths():
        for name in table().methods(path):
            method = table().method(name, path)
            assert method is not None
            for facts in (method.params or {}).values():
                walk(facts)
    assert unknown == set()


@given(st.text(max_size=40))
@example("¹")
@example("10.0.0.0/²")
def test_no_format_fails_on_any_text(text: str) -> None:
    for name in FORMATS:
        answer = check_named(name, text)
        assert answer is None or answer


@given(st.lists(st.text("abc", min_size=1, max_size=3)), st.sampled_from([",", ";", " ", ", ", "\0"]))
def test_lists_split_at_every_separator(items: list[str], separator: str) -> None:
    assert split_list(separator.join(items)) == items


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("pve-storage-id", "a1", "1a"),
        ("pve-configid", "ab", "x"),
        ("dns-name", "a.b-c.d", "-a"),
        ("CIDR", "10.0.0.1/24", "10.0.0.1"),
        ("CIDRv4", "10.0.0.1/8", "10.0.0.1/7"),
        ("mac-addr", "02:00:00:00:00:01", "01:00:00:00:00:01"),
        ("pve-vmid-list", "100,101", "100,1"),
        ("pve-volume-id", "local:iso/x.iso", "local"),
        ("pve-userid", "a@pve", "bad"),
        ("pve-tokenid", "a@pve!ci", "a@pve"),
        ("pve-poolid", "a/b/c", "a/b/c/d"),
        ("disk-size", "32G", "32Q"),
        ("pve-startup-order", "order=1,up=2,down=3", "first"),
        ("pve-hotplug-features", "disk,usb", "disk,flux"),
        ("pve-vlan-id-or-range-list", "2 5-9", "9-5"),
        ("pve-storage-path", "/srv/x", "relative"),
        ("pve-fw-dport-spec", "22,80:90", "70000"),
        ("pve-fw-addr-spec", "10.0.0.0/8,+set1", "!"),
        ("pve-qm-bootdev-list", "scsi0;net0", "floppy0"),
        ("pve-priv-list", "VM.Audit,Sys.Audit", "VM.Nope"),
    ],
)
def test_formats(name: str, good: str, bad: str) -> None:
    assert check_named(name, good) is None
    assert check_named(name, bad)


def test_paths_are_found_with_their_parameters() -> None:
    find = table().find
    assert find("/nodes/pve1/qemu/100/config") == ("/nodes/{node}/qemu/{vmid}/config", {"node": "pve1", "vmid": "100"})
    content = "/nodes/{node}/storage/{storage}/content/{volume}"
    volume = {"node": "n", "storage": "s", "volume": "s:100/vm-100-disk-0.qcow2"}
    assert find("/nodes/n/storage/s/content/s:100/vm-100-disk-0.qcow2") == (content, volume)
    assert find("/nosuch") is None
    assert find("/nodes/pve1/qemu/100/status/nosuch") is None
