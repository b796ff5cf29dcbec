# SPDX-License-Identifier: GPL-3.0-or-later
"""Options, HA, backup jobs, firewall, SDN, pools and tasks over HTTPS."""

from __future__ import annotations

import pytest


@pytest.fixture
def guest(root):
    """Guest 100, without disks."""
    upid = root.data("POST", "/nodes/pve1/qemu", vmid=100, name="web1", tags="web")
    wait(root, upid)
    yield 100
    root.call("DELETE", "/cluster/ha/resources/vm:100")
    wait(root, root.data("DELETE", "/nodes/pve1/qemu/100"))


def wait(client, upid: str) -> str:
    """The exit status of a task."""
    for _ in range(2000):
        status = client.data("GET", f"/nodes/pve1/tasks/{upid}/status")
        if status["status"] == "stopped":
            return str(status["exitstatus"])
    raise AssertionError(f"{upid} does not end")


def test_datacenter_options(root) -> None:
    root.data("PUT", "/cluster/options", keyboard="de", description="a lab", mac_prefix="02:00")
    got = root.data("GET", "/cluster/options")
    assert (got["keyboard"], got["description"], got["mac_prefix"]) == ("de", "a lab\n", "02:00")
    root.data("PUT", "/cluster/options", delete="keyboard,description,mac_prefix")
    assert root.data("GET", "/cluster/options") == {"allowed-tags": [], "description": "", "mac_prefix": "BC:24:11"}


def test_next_id(root, guest) -> None:
    assert root.data("GET", "/cluster/nextid") == "101"
    assert root.call("GET", "/cluster/nextid", vmid=100).json()["errors"] == {"vmid": "VM 100 already exists"}
    root.data("PUT", "/cluster/options", next__id="lower=500,upper=501")
    assert root.data("GET", "/cluster/nextid") == "500"
    root.data("PUT", "/cluster/options", delete="next-id")


def test_ha_resources_and_rules(root, guest) -> None:
    root.data("POST", "/cluster/ha/resources", sid="100", state="stopped", max_restart=2)
    assert root.data("GET", "/cluster/ha/resources/vm:100")["max_restart"] == 2
    root.data("POST", "/cluster/ha/rules", rule="here", type="node-affinity", resources="vm:100", nodes="pve1")
    assert root.data("GET", "/cluster/ha/rules", resource="vm:100")[0]["rule"] == "here"
    bad = {"rule": "bad", "type": "node-affinity", "nodes": "pve1"}
    refused = root.call("POST", "/cluster/ha/rules", **bad, resources="vm:999")
    assert refused.reason == "cannot use unmanaged resource(s) vm:999."
    assert any(row["id"] == "service:vm:100" for row in root.data("GET", "/cluster/ha/status/current"))
    assert root.data("GET", "/cluster/resources", type="vm")[0]["hastate"] == "stopped"
    root.data("DELETE", "/cluster/ha/resources/vm:100")
    assert root.data("GET", "/cluster/ha/rules") == []
    refused = root.call("POST", "/cluster/ha/resources", sid="vm:999")
    assert "there is no such guest" in refused.reason


def test_backup_jobs(root, guest) -> None:
    job = {"id": "nightly", "schedule": "sat 18:15", "vmid": "100", "storage": "local", "prune__backups": "keep-last=2"}
    root.data("POST", "/cluster/backup", **job)
    assert root.call("POST", "/cluster/backup", **job).reason == "Job 'nightly' already exists"
    shown = root.data("GET", "/cluster/backup/nightly")
    assert (shown["vmid"], shown["prune-backups"], shown["enabled"]) == ("100", {"keep-last": "2"}, 1)
    assert root.data("GET", "/cluster/backup-info/not-backed-up") == []
    root.data("PUT", "/cluster/backup/nightly", all=1, exclude="100", comment="c")
    assert "vmid" not in root.data("GET", "/cluster/backup/nightly")
    assert root.data("GET", "/cluster/backup-info/not-backed-up")[0]["vmid"] == 100
    assert root.call("PUT", "/cluster/backup/nightly", schedule="blursday").status_code == 400
    assert len(root.data("GET", "/cluster/jobs/schedule-analyze", schedule="daily", iterations=3)) == 3
    root.data("DELETE", "/cluster/backup/nightly")
    assert root.call("GET", "/cluster/backup/nightly").json()["errors"] == {"id": "No such job 'nightly'"}


@pytest.mark.parametrize("where", ["/cluster/firewall", "/nodes/pve1/firewall", "/nodes/pve1/qemu/100/firewall"])
def test_firewall_rules(root, guest, where: str) -> None:
    for number in range(3):
        root.data("POST", f"{where}/rules", type="in", action="ACCEPT", proto="tcp", dport=str(number), enable=1)
    assert [rule["dport"] for rule in root.data("GET", f"{where}/rules")] == ["2", "1", "0"]
    digest = root.data("GET", f"{where}/rules")[0]["digest"]
    root.data("PUT", f"{where}/rules/0", moveto=3, digest=digest)
    assert [rule["dport"] for rule in root.data("GET", f"{where}/rules")] == ["1", "0", "2"]
    stale = root.call("DELETE", f"{where}/rules/0", digest=digest)
    assert stale.status_code == 500 and stale.reason.startswith("detected modified configuration")
    assert root.call("POST", f"{where}/rules", type="in", action="JUMP").json()["errors"] == {
        "action": "unknown action 'JUMP'"
    }
    assert root.call("GET", f"{where}/rules/9").reason == "no rule at position 9"
    for _ in range(3):
        root.data("DELETE", f"{where}/rules/0")
    assert root.data("GET", f"{where}/rules") == []


def test_firewall_sets_and_groups(root) -> None:
    base = "/cluster/firewall"
    root.data("POST", f"{base}/aliases", name="web", cidr="10.0.0.5", comment="c")
    root.data("PUT", f"{base}/aliases/web", cidr="10.0.0.6", rename="web2")
    assert root.data("GET", f"{base}/aliases/web2")["cidr"] == "10.0.0.6"
    root.data("POST", f"{base}/ipset", name="office")
    root.data("POST", f"{base}/ipset/office", cidr="10.1.0.0/16", nomatch=1)
    assert root.data("GET", f"{base}/ipset/office/10.1.0.0%2F16")["nomatch"] == 1
    assert root.call("DELETE", f"{base}/ipset/office").reason == "IPSet 'office' is not empty"
    root.data("DELETE", f"{base}/ipset/office/10.1.0.0/16")
    root.data("DELETE", f"{base}/ipset/office")
    root.data("POST", f"{base}/groups", group="common")
    root.data("POST", f"{base}/groups/common", type="in", action="ACCEPT", macro="SSH")
    assert root.call("DELETE", f"{base}/groups/common").reason == "Security group 'common' is not empty"
    root.data("POST", f"{base}/rules", type="group", action="common")
    root.data("DELETE", f"{base}/rules/0")
    root.data("DELETE", f"{base}/groups/common/0")
    root.data("DELETE", f"{base}/groups/common")
    assert [row["ref"] for row in root.data("GET", f"{base}/refs")] == ["dc/web2"]
    root.data("DELETE", f"{base}/aliases/web2")


def test_sdn_is_staged_until_applied(root) -> None:
    root.data("POST", "/cluster/sdn/zones", zone="lab", type="simple")
    root.data("POST", "/cluster/sdn/vnets", vnet="v1", zone="lab")
    root.data("POST", "/cluster/sdn/vnets/v1/subnets", subnet="10.0.0.0/24", type="subnet", gateway="10.0.0.1")
    assert root.data("GET", "/cluster/sdn/vnets", pending=1)[0]["state"] == "new"
    assert root.data("GET", "/cluster/sdn/vnets", running=1) == []
    assert wait(root, root.data("PUT", "/cluster/sdn")) == "OK"
    assert root.data("GET", "/cluster/sdn/vnets", running=1) == [{"vnet": "v1", "type": "vnet", "zone": "lab"}]
    root.data("PUT", "/cluster/sdn/vnets/v1", alias="name")
    row = root.data("GET", "/cluster/sdn/vnets", pending=1)[0]
    assert (row["state"], row["pending"]) == ("changed", {"alias": "name"})
    root.data("POST", "/cluster/sdn/rollback")
    assert "state" not in root.data("GET", "/cluster/sdn/vnets", pending=1)[0]
    token = root.data("POST", "/cluster/sdn/lock")
    assert root.call("DELETE", "/cluster/sdn/vnets/v1").reason == "invalid lock token provided!"
    assert "used by vnet v1" in root.call("DELETE", "/cluster/sdn/zones/lab", lock__token=token).reason
    root.data("DELETE", "/cluster/sdn/vnets/v1/subnets/lab-10.0.0.0-24", lock__token=token)
    root.data("DELETE", "/cluster/sdn/vnets/v1", lock__token=token)
    root.data("DELETE", "/cluster/sdn/zones/lab", lock__token=token)
    assert wait(root, root.data("PUT", "/cluster/sdn", lock__token=token)) == "OK"
    assert root.data("GET", "/cluster/sdn/zones") == []


def test_pools_in_both_forms(root, guest) -> None:
    root.data("POST", "/pools", poolid="a")
    root.data("POST", "/pools", poolid="a/b", comment="inside")
    root.data("PUT", "/pools/a", vms="100", storage="local")
    members = root.data("GET", "/pools", poolid="a")[0]["members"]
    assert {member["id"] for member in members} == {"qemu/100", "storage/pve1/local"}
    assert root.data("GET", "/cluster/resources", type="vm")[0]["pool"] == "a"
    busy = root.call("PUT", "/pools", poolid="a/b", vms="100")
    assert busy.reason.endswith("VM 100 belongs already to pool 'a' and 'allow-move' is not set")
    root.data("PUT", "/pools", poolid="a/b", vms="100", allow__move=1)
    assert (
        root.call("DELETE", "/pools", poolid="a").reason
        == "delete pool failed: pool 'a' is not empty (contains pool a/b)"
    )
    root.data("PUT", "/pools", poolid="a/b", vms="100", delete=1)
    root.data("PUT", "/pools", poolid="a", storage="local", delete=1)
    root.data("DELETE", "/pools", poolid="a/b")
    root.data("DELETE", "/pools", poolid="a")


def test_task_lists_filter(root, guest) -> None:
    assert wait(root, root.data("POST", "/nodes/pve1/qemu/999/status/start")) != "OK"
    tasks = "/nodes/pve1/tasks"
    assert {row["id"] for row in root.data("GET", tasks, errors=1)} == {"999"}
    assert {row["type"] for row in root.data("GET", tasks, typefilter="qmcreate")} == {"qmcreate"}
    assert {row["id"] for row in root.data("GET", tasks, vmid=100)} == {"100"}
    answer = root.call("GET", tasks, limit=1, start=1).json()
    assert len(answer["data"]) == 1 and answer["total"] > 1
    assert root.data("GET", tasks, source="active") == []
    assert root.data("GET", tasks, userfilter="nobody") == []
    newest = root.data("GET", tasks)[0]
    assert root.data("GET", tasks, since=newest["starttime"] + 1000) == []
    assert root.call("GET", f"{tasks}/UPID:x/status").json()["errors"] == {"upid": "unable to parse worker upid"}
    gone = newest["upid"].replace("qm", "xx")
    assert root.call("GET", f"{tasks}/{gone}/status").json()["errors"] == {"upid": "no such task"}


def test_node_settings_of_its_own(root) -> None:
    root.data("PUT", "/nodes/pve1/dns", search="lab.test", dns1="192.0.2.1")
    assert root.data("GET", "/nodes/pve1/dns") == {"search": "lab.test", "dns1": "192.0.2.1"}
    old = root.data("GET", "/nodes/pve1/hosts")
    root.data("POST", "/nodes/pve1/hosts", data="127.0.0.1 localhost\n", digest=old["digest"])
    stale = root.call("POST", "/nodes/pve1/hosts", data="x", digest=old["digest"])
    assert stale.reason.startswith("detected modified configuration")
    root.data("PUT", "/nodes/pve1/config", description="mine")
    assert root.data("GET", "/nodes/pve1/config")["description"] == "mine\n"
    assert root.call("PUT", "/nodes/pve1/time", timezone="Mars/Base").status_code == 400
    root.data("PUT", "/nodes/pve1/time", timezone="UTC")
    assert root.data("GET", "/nodes/pve1/time")["timezone"] == "UTC"


def test_reads_of_the_machine(root) -> None:
    status = root.data("GET", "/nodes/pve1/status")
    assert status["memory"]["total"] > status["memory"]["used"] > 0 and status["uptime"] > 0
    assert {row["name"] for row in root.data("GET", "/nodes/pve1/capabilities/qemu/cpu")} >= {"host", "qemu64"}
    assert all(row["id"].startswith("pc-") for row in root.data("GET", "/nodes/pve1/capabilities/qemu/machines"))
    assert root.data("GET", "/nodes/pve1/services/pveproxy/state")["state"] == "running"
    assert "labnode" in {row["Package"] for row in root.data("GET", "/nodes/pve1/apt/versions")}
    assert len(root.data("GET", "/nodes/pve1/rrddata", timeframe="hour")) == 59
    assert root.data("GET", "/nodes/pve1/lxc") == []
    for path in ("", "/access", "/cluster", "/nodes/pve1", "/cluster/ha", "/cluster/sdn", "/nodes/pve1/capabilities"):
        assert path == "" or root.data("GET", path)
    assert root.data("GET", "/cluster/metrics/export")["data"]
    assert root.data("GET", "/cluster/log") and root.data("GET", "/nodes/pve1/report")
