# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, tokens, permissions and second factors over HTTPS."""

from __future__ import annotations

import time

import pytest
from proxmoxer import ProxmoxAPI
from served import until

from labnode.access.secrets import totp_code

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
URL = f"otpauth://totp/lab?secret={SECRET}"


@pytest.fixture
def user(server, root):
    """A user of realm pve with a password, gone afterwards."""
    root.data("POST", "/access/users", userid="lab@pve", password="secret123")
    client = server.client()
    client.login("lab@pve", "secret123")
    yield client
    root.data("DELETE", "/access/users/lab@pve")


def test_a_user_without_grants_may_nothing(user) -> None:
    assert user.data("GET", "/access/permissions") == {}
    refused = user.call("POST", "/pools", poolid="mine")
    assert (refused.status_code, refused.reason) == (403, "Permission check failed (/pool/mine, Pool.Allocate)")
    refused = user.call("GET", "/nodes/pve1/status")
    assert refused.reason == "Permission check failed (/nodes/pve1, Sys.Audit)"
    assert user.call("PUT", "/nodes/pve1/disks/wipedisk", disk="/dev/sda").reason == (
        "Permission check failed (user != root@pam)"
    )
    assert user.data("GET", "/pools") == []
    assert user.data("GET", "/cluster/resources", type="vm") == []


def test_grants_open_and_close(user, root) -> None:
    root.data("PUT", "/access/acl", path="/pool", users="lab@pve", roles="PVEPoolAdmin")
    user.data("POST", "/pools", poolid="mine")
    assert user.data("GET", "/pools") == [{"poolid": "mine"}]
    root.data("PUT", "/access/acl", path="/pool", users="lab@pve", roles="PVEPoolAdmin", delete=1)
    assert user.call("DELETE", "/pools/mine").status_code == 403
    root.data("DELETE", "/pools/mine")


def test_one_cannot_hand_on_what_one_lacks(user, root) -> None:
    root.data("PUT", "/access/acl", path="/vms/100", users="lab@pve", roles="PVEVMAdmin")
    refused = user.call("PUT", "/access/acl", path="/vms/100", users="lab@pve", roles="Administrator")
    assert refused.status_code == 403
    user.data("PUT", "/access/acl", path="/vms/100", users="lab@pve", roles="PVEVMUser")


def test_tokens_start_with_no_rights_and_never_do_what_needs_a_ticket(server, user, root) -> None:
    made = user.data("POST", "/access/users/lab@pve/token/ci", privsep=1)
    token = server.client().token("lab@pve!ci", made["value"])
    root.data("PUT", "/access/acl", path="/pool", users="lab@pve", roles="PVEPoolAdmin")
    assert token.call("POST", "/pools", poolid="ci").status_code == 403
    root.data("PUT", "/access/acl", path="/pool", tokens="lab@pve!ci", roles="PVEPoolAdmin")
    token.data("POST", "/pools", poolid="ci")
    token.data("DELETE", "/pools/ci")
    refused = token.call("PUT", "/access/password", userid="lab@pve", password="another123")
    assert refused.status_code == 403 and "not available with API token, need proper ticket." in refused.reason
    assert token.call("PUT", "/access/acl", path="/", users="lab@pve", roles="Administrator").status_code == 403
    assert made["value"] not in (server.state / "etc/priv/token.cfg").read_text()
    user.data("DELETE", "/access/users/lab@pve/token/ci")
    assert token.call("GET", "/version").status_code == 401


def test_root_tokens_are_not_root(server, root) -> None:
    made = root.data("POST", "/access/users/root@pam/token/all", privsep=0)
    token = server.client().token("root@pam!all", made["value"])
    assert "Sys.Modify" in token.data("GET", "/access/permissions")["/"]
    assert token.call("PUT", "/nodes/pve1/disks/wipedisk", disk="/dev/sda").status_code == 403
    root.data("DELETE", "/access/users/root@pam/token/all")


def test_disabled_and_expired_users_are_out_at_once(user, root) -> None:
    root.data("PUT", "/access/users/lab@pve", enable=0)
    assert user.call("GET", "/version").status_code == 401
    root.data("PUT", "/access/users/lab@pve", enable=1, expire=int(time.time()) - 10)
    assert user.call("GET", "/version").status_code == 401
    root.data("PUT", "/access/users/lab@pve", expire=0)
    assert user.call("GET", "/version").status_code == 200


def test_passwords_change_with_the_old_one(server, user) -> None:
    params = {"userid": "lab@pve", "password": "another123"}
    assert user.call("PUT", "/access/password", **params, confirmation__password="wrong").status_code == 401
    user.data("PUT", "/access/password", **params, confirmation__password="secret123")
    server.client().login("lab@pve", "another123")


def test_second_factor_as_proxmoxer_uses_it(server, user) -> None:
    wrong = user.call("POST", "/access/tfa/lab@pve", type="totp", totp=URL, value="000000", password="secret123")
    assert wrong.status_code == 400 and "TOTP" in wrong.reason
    period = time.time()
    code = totp_code(URL, period)
    made = user.data("POST", "/access/tfa/lab@pve", type="totp", totp=URL, value=code, password="secret123")
    keys = user.data("POST", "/access/tfa/lab@pve", type="recovery", password="secret123")["recovery"]
    client = ProxmoxAPI("127.0.0.1", port=server.port, user="lab@pve", password="secret123", otp=code, verify_ssl=False)
    assert client.version.get()["release"] == "9.1"
    half = server.client().data("POST", "/access/ticket", username="lab@pve", password="secret123")
    assert half["NeedTFA"] == 1
    stranger = server.client()
    stranger.session.cookies.set("PVEAuthCookie", half["ticket"])
    assert stranger.call("GET", "/version").status_code == 401
    again = {"username": "lab@pve", "tfa__challenge": half["ticket"]}
    assert stranger.call("POST", "/access/ticket", **again, password=f"totp:{code}").status_code == 401  # used up
    stranger.data("POST", "/access/ticket", **again, password=f"recovery:{keys[0]}")
    assert stranger.call("POST", "/access/ticket", **again, password=f"recovery:{keys[0]}").status_code == 401
    assert {entry["type"] for entry in user.data("GET", "/access/tfa/lab@pve")} == {"totp", "recovery"}
    assert SECRET not in str(user.data("GET", f"/access/tfa/lab@pve/{made['id']}"))


def test_groups_carry_grants(server, user, root) -> None:
    root.data("POST", "/access/groups", groupid="ops")
    root.data("PUT", "/access/acl", path="/nodes", groups="ops", roles="PVEAuditor")
    root.data("PUT", "/access/users/lab@pve", groups="ops")
    assert "loadavg" in user.data("GET", "/nodes/pve1/status")
    root.data("DELETE", "/access/groups/ops")
    assert user.call("GET", "/nodes/pve1/status").status_code == 403


def test_realms(root) -> None:
    assert root.call("POST", "/access/users", userid="a@ldap").reason == "domain 'ldap' does not exist"
    assert {realm["realm"] for realm in root.data("GET", "/access/domains")} == {"pam", "pve"}


def test_what_one_may_not_see_is_left_out(user, root) -> None:
    assert "maxcpu" in root.data("GET", "/nodes")[0]
    assert not {"cpu", "maxcpu", "mem", "maxmem", "uptime"} & set(user.data("GET", "/nodes")[0])
    (row,) = (row for row in user.data("GET", "/cluster/resources") if row["type"] == "node")
    assert "maxmem" not in row and row["status"] == "online"
    assert "vmbr0" in {row["iface"] for row in root.data("GET", "/nodes/pve1/network")}
    assert "vmbr0" not in {row["iface"] for row in user.data("GET", "/nodes/pve1/network")}
    root.data("PUT", "/access/acl", path="/sdn/zones/localnetwork/vmbr0/7", users="lab@pve", roles="PVESDNUser")
    assert "vmbr0" in {row["iface"] for row in user.data("GET", "/nodes/pve1/network")}
    root.data("PUT", "/access/acl", path="/nodes", users="lab@pve", roles="PVEAuditor")
    assert "maxcpu" in user.data("GET", "/nodes")[0]


def test_a_guests_pool_shows_to_those_who_may_see_the_pool(user, root) -> None:
    root.data("POST", "/pools", poolid="crew")
    root.data("POST", "/nodes/pve1/qemu", vmid=120, pool="crew")
    until(lambda: root.data("GET", "/pools", poolid="crew")[0]["members"], "the guest is in the pool")
    root.data("PUT", "/access/acl", path="/vms", users="lab@pve", roles="PVEVMUser")
    (row,) = user.data("GET", "/cluster/resources", type="vm")
    assert "pool" not in row
    root.data("PUT", "/access/acl", path="/pool", users="lab@pve", roles="PVEPoolUser")
    assert user.data("GET", "/cluster/resources", type="vm")[0]["pool"] == "crew"


def test_volumes_are_read_and_removed_by_those_who_may(user, root) -> None:
    root.data("POST", "/nodes/pve1/storage/local/content", filename="vm-121-disk-0.qcow2", vmid=121, size="1M")
    content, volume = "/nodes/pve1/storage/local/content", "local:121/vm-121-disk-0.qcow2"

    def may(path: str, roles: str) -> None:
        root.data("PUT", "/access/acl", path=path, users="lab@pve", roles=roles)

    may("/storage", "PVEDatastoreUser")
    assert user.data("GET", content) == []
    may("/vms/121", "PVEVMAdmin")
    assert [row["volid"] for row in user.data("GET", content)] == [volume]
    refused = user.call("DELETE", f"{content}/{volume}")
    assert refused.reason == "Permission check failed (/storage/local, Datastore.Allocate)"
    may("/storage", "PVEDatastoreAdmin")
    user.data("DELETE", f"{content}/{volume}")
    until(lambda: root.data("GET", content) == [], "the volume is gone")


def test_making_a_guest_is_refused_without_a_name(user) -> None:
    refused = user.call("POST", "/nodes/pve1/qemu", vmid=122)
    assert (refused.status_code, refused.reason) == (403, "Permission check failed")


def test_registered_tags_are_an_administrators(user, root) -> None:
    root.data("POST", "/nodes/pve1/qemu", vmid=123, tags="old")
    config = "/nodes/pve1/qemu/123/config"
    until(lambda: root.call("GET", config).status_code == 200 and "lock" not in root.data("GET", config), "it is made")
    root.data("PUT", "/cluster/options", registered__tags="prod")
    root.data("PUT", "/access/acl", path="/vms/123", users="lab@pve", roles="PVEVMUser")
    refused = user.call("PUT", config, tags="mine")
    assert refused.reason == "Permission check failed (/vms/123, VM.Config.Options)"
    root.data("PUT", "/access/acl", path="/vms/123", users="lab@pve", roles="PVEVMAdmin")
    user.data("PUT", config, tags="mine")
    refused = user.call("PUT", config, tags="mine;prod")
    assert refused.reason == "Permission check failed (/, Sys.Modify for modifying tag 'prod')"
    root.data("PUT", "/cluster/options", user__tag__access="user-allow=existing,user-allow-list=given")
    assert user.call("PUT", config, tags="other").status_code == 403
    user.data("PUT", config, tags="given;mine")
    root.data("PUT", "/cluster/options", delete="user-tag-access,registered-tags")
    user.data("PUT", config, delete="tags")
