# SPDX-License-Identifier: GPL-3.0-or-later
"""Users file, permissions, tickets and one-time passwords, without a server."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labnode.access import secrets as sec
from labnode.access import usercfg
from labnode.access.permissions import effective, is_acl_path, normalize_path, permissions
from labnode.access.usercfg import AclKey, Group, Pool, Token, User, UserCfg
from labnode.auth import Auth
from labnode.errors import AuthError
from labnode.privileges import ALL, ROLES
from labnode.store import Store

OTP = "otpauth://totp/lab?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&digits=8"
comments = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(comments, comments, st.booleans(), st.integers(0, 2**31))
def test_user_file_round_trip(comment: str, name: str, flag: bool, expire: int) -> None:
    tokens = {"t": Token(1, flag, comment)}
    cfg = UserCfg(
        users={"root@pam": User(), "a@pve": User(flag, expire, name, name, "a@b.c", comment, "", tokens)},
        groups={"ops": Group({"a@pve"}, comment)},
        pools={"p": Pool(comment, {100, 101}, {"local"})},
        roles={"R": frozenset({"VM.Audit"})},
        acl={AclKey("/vms/100", "user", "a@pve", "R"): flag, AclKey("/", "group", "ops", "PVEAuditor"): True},
    )  # fmt: skip
    assert usercfg.parse(usercfg.render(cfg)) == cfg


def config(*grants: tuple[str, str, str, str, bool], **kept: Pool) -> UserCfg:
    cfg = UserCfg(users={"u@pve": User(tokens={"full": Token(privsep=False), "sep": Token()})}, pools=dict(kept))
    cfg.groups["g"] = Group({"u@pve"})
    cfg.acl = {AclKey(path, kind, who, role): flag for path, kind, who, role, flag in grants}
    return cfg


def test_grants_propagate_unless_told_not_to() -> None:
    cfg = config(("/vms", "user", "u@pve", "PVEVMUser", True), ("/storage", "user", "u@pve", "PVEDatastoreUser", False))
    assert "VM.PowerMgmt" in permissions(cfg, "u@pve", "/vms/100")
    assert "Datastore.Audit" in permissions(cfg, "u@pve", "/storage")
    assert permissions(cfg, "u@pve", "/storage/local") == {}


def test_nearer_replaces_farther_and_users_replace_groups() -> None:
    cfg = config(
        ("/", "user", "u@pve", "PVEAdmin", True),
        ("/vms/100", "user", "u@pve", "PVEAuditor", True),
        ("/vms/101", "group", "g", "NoAccess", True),
        ("/vms/102", "group", "g", "PVEAdmin", True),
        ("/vms/102", "user", "u@pve", "PVETemplateUser", True),
    )
    assert "VM.Allocate" not in permissions(cfg, "u@pve", "/vms/100")
    assert permissions(cfg, "u@pve", "/vms/101") == {}
    assert set(permissions(cfg, "u@pve", "/vms/102")) == {"VM.Clone", "VM.Audit"}


def test_what_named_a_guest_goes_with_it_and_says_whether_there_was_anything() -> None:
    cfg = config(("/vms/100", "user", "u@pve", "PVEVMUser", True), p=Pool("", {101}, set()))
    assert [cfg.drop_guest(vmid) for vmid in (100, 101, 102, 100)] == [True, True, False, False]
    assert (cfg.acl, cfg.pools["p"].vms) == ({}, set())


def test_pools_grant_on_their_members() -> None:
    cfg = config(("/pool/p", "user", "u@pve", "PVEVMUser", True), p=Pool("", {100}, {"local"}))
    assert "VM.PowerMgmt" in permissions(cfg, "u@pve", "/vms/100")
    assert permissions(cfg, "u@pve", "/vms/101") == {}


def test_tokens() -> None:
    cfg = config(("/vms", "user", "u@pve", "PVEVMUser", True), ("/vms", "token", "u@pve!sep", "PVEVMAdmin", True))
    assert permissions(cfg, "u@pve!full", "/vms/1") == permissions(cfg, "u@pve", "/vms/1")
    assert set(permissions(cfg, "u@pve!sep", "/vms/1")) == ROLES["PVEVMUser"]
    assert permissions(config(), "u@pve!sep", "/vms/1") == {}
    assert permissions(cfg, "u@pve!none", "/vms/1") == {}
    assert set(permissions(cfg, "root@pam", "/anything")) == ALL


def test_effective_permissions_show_where_something_is_granted() -> None:
    cfg = config(("/vms/100", "user", "u@pve", "PVETemplateUser", True))
    assert effective(cfg, "u@pve") == {"/vms/100": {"VM.Audit": 1, "VM.Clone": 1}}


def test_built_in_roles() -> None:
    assert ROLES["Administrator"] == ALL and not ROLES["NoAccess"]
    assert ROLES["PVEPoolUser"] == {"Pool.Audit"}
    assert "Mapping.Modify" not in ROLES["PVEAdmin"] and "Mapping.Modify" in ROLES["PVEMappingAdmin"]


@pytest.mark.parametrize(("path", "good"), [("/", 1), ("/vms/100", 1), ("/pool/a/b", 1), ("/nope", 0), ("/vms/1", 0)])
def test_acl_paths(path: str, good: int) -> None:
    assert is_acl_path(normalize_path(path)) == bool(good)


def test_totp_as_in_rfc_6238() -> None:
    for when, code in ((59, "94287082"), (1111111109, "07081804"), (2000000000, "69279037")):
        assert sec.totp_code(OTP, when) == code
    assert sec.totp_step(OTP, "94287082", 59) == 1
    assert sec.totp_step(OTP, "94287082", 59, last=1) is None
    assert sec.totp_step(OTP, "94287082", 200) is None


def test_tickets_are_bound_to_key_time_and_user() -> None:
    key = b"k" * 32
    ticket = sec.make_ticket(key, "a@pve")
    assert sec.read_ticket(key, ticket) == "a@pve"
    assert sec.read_ticket(b"x" * 32, ticket) is None
    assert sec.read_ticket(key, ticket.replace("a@pve", "root@pam")) is None
    assert sec.read_ticket(key, sec.make_ticket(key, "!tfa!x", "a@pve"), "b@pve") is None
    for text in ("", "PVE", "PVE:a:b::c", "::"):
        assert sec.read_ticket(key, text) is None
    csrf = sec.make_csrf(key, "a@pve")
    assert sec.csrf_matches(key, "a@pve", csrf) and not sec.csrf_matches(key, "b@pve", csrf)
    assert sec.read_ticket(key, ticket, life=-1) is None
    assert not sec.csrf_matches(key, "a@pve", csrf, life=-1)


def test_passwords_are_not_kept(tmp_path: Path) -> None:
    auth = Auth(Store(tmp_path))
    auth.load("secret words")
    kept = (tmp_path / "etc/priv/shadow.cfg").read_text()
    assert "secret words" not in kept and "$scrypt$" in kept
    assert (tmp_path / "etc/priv/shadow.cfg").stat().st_mode & 0o777 == 0o600
    again = Auth(Store(tmp_path))
    again.load("secret words")
    assert (tmp_path / "etc/priv/shadow.cfg").read_text() == kept


async def test_login_by_password_ticket_and_second_factor(tmp_path: Path) -> None:
    auth = Auth(Store(tmp_path), 0)
    auth.load("secret words")
    with pytest.raises(AuthError):
        await auth.login("root@pam", "wrong", None, None)
    with pytest.raises(AuthError):
        await auth.login("nobody@pve", "secret words", None, None)
    full = await auth.login("root@pam", "secret words", None, None)
    assert auth.ticket_user((await auth.login("root@pam", full["ticket"], None, None))["ticket"]) == "root@pam"
    auth.set_tfa("root@pam", [{"id": "1", "type": "totp", "url": OTP, "enable": True, "description": "", "created": 1}])
    half = await auth.login("root@pam", "secret words", None, None)
    assert half["NeedTFA"] == 1 and auth.ticket_user(half["ticket"]) is None
    code = sec.totp_code(OTP, time.time())
    with pytest.raises(AuthError):
        await auth.login("root@pam", "totp:000", None, half["ticket"])
    done = await auth.login("root@pam", f"totp:{code}", None, half["ticket"])
    assert auth.ticket_user(done["ticket"]) == "root@pam"
    with pytest.raises(AuthError):
        await auth.login("root@pam", "secret words", code, None)  # a code works once


def test_a_right_password_is_worked_out_once_and_a_wrong_one_never_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    worked_out: list[str] = []

    def slowly(password: str, hashed: str) -> bool:
        worked_out.append(password)
        return matches(password, hashed)

    matches = sec.password_matches
    monkeypatch.setattr(sec, "password_matches", slowly)
    memory, before, after = sec.PasswordMemory(), sec.hash_password("old"), sec.hash_password("new")
    assert [memory.matches("old", before) for _ in range(3)] == [True] * 3
    assert worked_out == ["old"]
    assert not memory.matches("new", before)
    assert not memory.matches("new", before), "what was wrong is not kept"
    assert not memory.matches("old", after), "the user has another password now"
    assert not memory.matches("old", "")
    assert memory.matches("new", after)
