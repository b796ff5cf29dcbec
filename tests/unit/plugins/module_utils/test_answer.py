# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer files: what the installer takes is taken, what it refuses is refused in a sentence, the text says the same."""

from __future__ import annotations

import copy
import string
import tomllib
import zoneinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import answer, answer_places, answer_toml
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.state import flatten
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure

HASH = "$6$saltsaltsalt$" + "x" * 86
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f admin@example.com"
MINIMAL: dict[str, Any] = {
    "global": {
        "keyboard": "de",
        "country": "at",
        "timezone": "Europe/Vienna",
        "mailto": "admin@example.com",
        "root-password-hashed": HASH,
        "fqdn": "pve1.example.com",
    },
    "network": {"source": "from-dhcp"},
    "disk-setup": {"filesystem": "ext4", "disk-list": ["sda"]},
}
BY_HAND = {"source": "from-answer", "cidr": "192.0.2.11/24", "gateway": "192.0.2.1", "dns": "192.0.2.1"}
BY_HAND_FILTER = {**BY_HAND, "filter": {"ID_NET_NAME": "eno1"}}
ZFS = {"filesystem": "zfs", "zfs": {"raid": "raid1"}, "disk-list": ["sda", "sdb"]}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The minimal answer with one thing in another way; ``...`` removes it."""
    whole = copy.deepcopy(MINIMAL)
    *parents, leaf = path.split("/")
    level = whole
    for parent in parents:
        level = level.setdefault(parent, {})
    if value is ...:
        del level[leaf]
    else:
        level[leaf] = value
    return whole


GOOD = {
    "minimal": MINIMAL,
    "underscores": changed("global/root_ssh_keys", [KEY]),
    "options before a key": changed("global/root-ssh-keys", [f'from="192.0.2.0/24" {KEY}']),
    "nothing given": changed("global/root-ssh-keys", None),
    "no keys": changed("global/root-ssh-keys", []),
    "an empty filter": changed("disk-setup/filter", {}),
    "source left out": changed("network", {}),
    "name from DHCP": changed("global/fqdn", {"source": "from-dhcp", "domain": "example.com"}),
    "name from DHCP, with no domain": changed("global/fqdn", {"source": "from-dhcp", "domain": ""}),
    "a number inside of a name": changed("global/fqdn", "123foo.com"),
    "longest label": changed("global/fqdn", f"{'a' * 63}.com"),
    "UTC": changed("global/timezone", "UTC"),
    "power off": changed("global/reboot-mode", "power-off"),
    "by hand": changed("network", BY_HAND_FILTER),
    "IPv6 and a router on the link": changed(
        "network", {**BY_HAND_FILTER, "cidr": "2001:db8::2/64", "gateway": "fe80::1", "dns": "2001:db8::1"}
    ),
    "one address alone": changed("network", {**BY_HAND_FILTER, "cidr": "192.0.2.11/32", "gateway": "198.51.100.1"}),
    "pinned names": changed(
        "network/interface-name-pinning", {"enabled": True, "mapping": {"24:8A:07:1E:05:BC": "lan0"}}
    ),
    "zfs with everything": changed(
        "disk-setup",
        {
            **ZFS,
            "zfs": {
                "raid": "RAID1", "ashift": 12, "arc-max": 2048, "checksum": "on", "compress": "lz4", "copies": 2,
                "hdsize": 80,
            },
        },
    ),
    "raidz on filtered disks": changed(
        "disk-setup",
        {"filesystem": "zfs", "zfs": {"raid": "raidz-2"}, "filter": {"ID_SERIAL": "*MZ7*"}, "filter-match": "all"},
    ),
    "btrfs": changed(
        "disk-setup", {"filesystem": "btrfs", "btrfs": {"raid": "raid0", "compress": "zstd"}, "disk_list": ["/dev/sda"]}
    ),
    "lvm": changed("disk-setup/lvm", {"hdsize": 64, "swapsize": 32, "maxroot": 20.5, "maxvz": 0, "minfree": 4}),
    "webhook": changed(
        "post-installation-webhook",
        {"url": "https://192.0.2.1:8443/installed", "cert-fingerprint": ":".join(["AB"] * 32), "auth-token": "x:y"},
    ),
    "hook on the ISO": changed("first-boot", {"source": "from-iso", "ordering": "before-network"}),
    "hook from the web": changed("first-boot", {"source": "from-url", "url": "http://192.0.2.1/hook"}),
    "subscription": changed("global/subscription-key", "pve2c-0123456789"),
}  # fmt: skip


@pytest.mark.parametrize("given_answer", GOOD.values(), ids=list(GOOD))
def test_what_the_installer_takes_is_taken_and_written_as_toml(given_answer: dict[str, Any]) -> None:
    checked = answer.checked(given_answer, (9, 2))
    text = answer_toml.render(answer_toml.styled(checked, (9, 2)))
    assert tomllib.loads(text) == checked
    assert answer_toml.parse(text) == flatten(checked)
    assert answer.checked(tomllib.loads(text), (9, 2)) == checked


BAD = [
    ("global", ..., "^global is missing"),
    ("network", ..., "^network is missing"),
    ("disk-setup", ..., "^disk-setup is missing"),
    ("global", "x", "^global is a text and should be a table with keyboard"),
    ("disks", {}, "^disks is no key"),
    ("global/keybord", "de", "^global.keybord is no key of the installer and may be meant as 'keyboard'"),
    ("global/keyboard", ..., "^global.keyboard is missing"),
    ("global/keyboard", "en-uk", "^global.keyboard is 'en-uk' and may be meant as 'en-us'. Use one of de, "),
    ("global/country", "AT", "^global.country is 'AT', which is no code of a country. Write 'at'"),
    ("global/country", "zz", "Use two small letters"),
    ("global/timezone", "Europe/Kiev", "^global.timezone is 'Europe/Kiev', .* may be meant as 'Europe/Kyiv'"),
    ("global/mailto", "admin", "^global.mailto is 'admin', which is no mail address"),
    ("global/mailto", "mail@example.invalid", "refuses as a mere example"),
    ("global/fqdn", "pve1", "^global.fqdn is 'pve1', which has no domain. Write it in full, such as pve1.example.com"),
    ("global/fqdn", "123.example.com", "a number alone"),
    ("global/fqdn", "a_b.example.com", "'a_b' is no part of a name"),
    ("global/fqdn", "-a.example.com", "'-a' is no part"),
    ("global/fqdn", f"{'a' * 64}.com", "no part of a name"),
    ("global/fqdn", f"{'a.' * 130}com", "253 at most"),
    ("global/fqdn", {"source": "from-dns"}, "^global.fqdn.source is 'from-dns'"),
    ("global/fqdn", {"domian": "x.y"}, "^global.fqdn.domian is no key .* 'domain'"),
    ("global/fqdn", 7, "^global.fqdn is a number and should be a text"),
    ("global/root_password_hashed", HASH, "there twice, with a dash and with an underscore"),
    ("global/root-password-hashed", ..., "^global.root-password-hashed is missing"),
    (
        "global/root-password-hashed",
        "secret-in-the-clear",
        "^global.root-password-hashed does not look like what crypt",
    ),
    ("global/root-password", "12345678", "are both there"),
    ("global/root-ssh-keys", KEY, "^global.root-ssh-keys is a text and should be a list"),
    ("global/root-ssh-keys", ["ssh-ed25519 AAAA"], "which is no public key"),
    ("global/root-ssh-keys", ["ssh-rsa " + KEY.split()[1]], "which is no public key"),
    ("global/root-ssh-keys", [KEY, KEY], "twice"),
    ("global/root-ssh-keys", ["-----BEGIN OPENSSH PRIVATE KEY-----"], "is a private key"),
    ("global/reboot-on-error", "yes", "^global.reboot-on-error is a text and should be true or false"),
    ("global/reboot-mode", "poweroff", "'poweroff' and may be meant as 'power-off'"),
    ("global/subscription-key", "pbsc-0123456789", "no key for Proxmox VE"),
    ("network/cidr", "192.0.2.1/24", "^network.cidr is not for source from-dhcp"),
    ("network/source", "dhcp", "^network.source is 'dhcp'"),
    ("network", {"source": "from-answer"}, "network.cidr and network.gateway and network.dns and network.filter must"),
    ("network", {**BY_HAND_FILTER, "cidr": "192.0.2.11"}, "without the length of a prefix"),
    ("network", {**BY_HAND_FILTER, "cidr": "192.0.2.11/33"}, "^network.cidr is '192.0.2.11/33', which is no address"),
    (
        "network",
        {**BY_HAND_FILTER, "cidr": "192.0.2.11/255.255.255.0"},
        "Write the length of the prefix: 192.0.2.11/24",
    ),
    ("network", {**BY_HAND_FILTER, "cidr": "192.0.2.0/24"}, "names the network and no host"),
    ("network", {**BY_HAND_FILTER, "cidr": "192.0.2.255/24"}, "names the network and no host"),
    ("network", {**BY_HAND_FILTER, "cidr": "2001:db8::2/64"}, "of another family"),
    ("network", {**BY_HAND_FILTER, "gateway": "192.0.2.11"}, "the host's own address"),
    ("network", {**BY_HAND_FILTER, "gateway": "198.51.100.1"}, "outside of 192.0.2.0/24"),
    ("network", {**BY_HAND_FILTER, "gateway": "fe80::1%eno1"}, "with a zone"),
    ("network", {**BY_HAND_FILTER, "dns": "dns.example.com"}, "^network.dns is 'dns.example.com', which is no address"),
    ("network", {**BY_HAND, "filter": {}}, "^network.filter must be there"),
    ("network", {**BY_HAND, "filter": ["eno1"]}, "^network.filter is a list and should map"),
    ("disk-setup/disk-list", [], "are both missing"),
    ("network", {**BY_HAND, "filter": {"ID": "a**b"}}, "is no pattern"),
    ("network", {**BY_HAND, "filter": {"ID": "[a"}}, "is no pattern"),
    ("network", {**BY_HAND, "filter": {"ID": 7}}, "^network.filter.ID is a number"),
    ("network", {**BY_HAND, "filter": {"I D": "x"}}, "no name of a udev property"),
    ("network/interface-name-pinning", {"mapping": {}}, "^network.interface-name-pinning.enabled is missing"),
    ("network/interface-name-pinning", {"enabled": True, "mapping": {"x": "lan0"}}, "no MAC address"),
    ("network/interface-name-pinning", {"enabled": True, "mapping": {"24:8a:07:1e:05:bc": "l"}}, "1 to 14 letters"),
    ("network/interface-name-pinning", {"enabled": True, "mapping": {"24:8a:07:1e:05:bc": "n" * 16}}, "1 to 14"),
    (
        "network/interface-name-pinning",
        {"enabled": True, "mapping": {"24:8a:07:1e:05:bc": "lan0", "24:8a:07:1e:05:bd": "lan0"}},
        "twice",
    ),
    ("disk-setup/filesystem", "ntfs", "^disk-setup.filesystem is 'ntfs'"),
    ("disk-setup/disk-list", ..., "^disk-setup.disk-list and disk-setup.filter are both missing"),
    ("disk-setup/filter", {"ID_SERIAL": "x"}, "are both there"),
    ("disk-setup/filter-match", "all", "belongs to disk-setup.filter"),
    ("disk-setup/disk-list", ["sda", "sdb"], "names 2 disks, and ext4 is put on one"),
    ("disk-setup/disk-list", ["/dev/disk/by-id/ata-X"], "Choose a lasting property with filter"),
    ("disk-setup/disk-list", "sda", "^disk-setup.disk-list is a text and should be a list"),
    ("disk-setup/zfs", {"raid": "raid0"}, "^disk-setup.zfs is not for filesystem ext4"),
    ("disk-setup/lvm", {"hdsize": 32, "swapsize": 16.01}, "more than half of hdsize"),
    ("disk-setup/lvm", {"hdsize": 4}, "on which Proxmox VE does not fit"),
    ("disk-setup/lvm", {"hdsize": "64G"}, "^disk-setup.lvm.hdsize is a text and should be a number of GiB"),
    ("disk-setup/lvm", {"maxroot": -1}, "^disk-setup.lvm.maxroot is -1"),
    ("disk-setup/lvm", {"maxroot": True}, "^disk-setup.lvm.maxroot is True"),
    ("disk-setup", {"filesystem": "zfs", "disk-list": ["sda"]}, "^disk-setup.zfs.raid is missing. Use raid0"),
    ("disk-setup", {"filesystem": "zfs", "zfs": {}, "disk-list": ["sda"]}, "^disk-setup.zfs.raid is missing"),
    ("disk-setup", {**ZFS, "zfs": {"raid": "raidz1"}}, "'raidz1' and may be meant as 'raidz-1'"),
    ("disk-setup", {**ZFS, "disk-list": ["sda"]}, "names 1 disks, and raid1 of zfs needs 2"),
    ("disk-setup", {**ZFS, "disk-list": ["sda", "sda"]}, "^disk-setup.disk-list has 'sda' twice"),
    ("disk-setup", {**ZFS, "zfs": {"raid": "raid10"}, "disk-list": [*"abcde"]}, "raid10 takes them in pairs"),
    ("disk-setup", {**ZFS, "zfs": {"raid": "raid1", "ashift": "12"}}, "is a text and should be a whole number from 9"),
    ("disk-setup", {**ZFS, "zfs": {"raid": "raid1", "ashift": 20}}, "is 20 and should be a whole number from 9 to 16"),
    ("disk-setup", {**ZFS, "zfs": {"raid": "raid1", "copies": 4}}, "from 1 to 3"),
    ("disk-setup", {**ZFS, "zfs": {"raid": "raid1", "copies": 1.5}}, "is 1.5 and should be a whole number"),
    ("disk-setup", {**ZFS, "filesystem": "btrfs"}, "^disk-setup.zfs is not for filesystem btrfs"),
    ("post-installation-webhook", {}, "^post-installation-webhook.url is missing"),
    ("post-installation-webhook", {"url": "192.0.2.1"}, "begins with http"),
    ("post-installation-webhook", {"url": "http://a", "cert-fingerprint": "AB" * 32}, "is not https"),
    ("post-installation-webhook", {"url": "https://a", "cert-fingerprint": "AB"}, "no SHA-256 fingerprint"),
    ("first-boot", {"source": "from-url"}, "^first-boot.url is missing"),
    ("first-boot", {"source": "from-iso", "url": "http://a"}, "^first-boot.url is not for source from-iso"),
    ("first-boot", {"source": "from-iso", "ordering": "late"}, "^first-boot.ordering is 'late'"),
]


@pytest.mark.parametrize(("path", "value", "says"), BAD, ids=[f"{i} {b[0]}" for i, b in enumerate(BAD)])
def test_what_the_installer_refuses_is_refused_with_key_and_remedy(path: str, value: Any, says: str) -> None:
    with pytest.raises(Failure, match=says) as caught:
        answer.checked(changed(path, value), (9, 2))
    text = caught.value.msg
    assert text.endswith(".") and "\n" not in text
    assert "secret-in-the-clear" not in text


SINCE = [
    ("8.2", "global/root-password-hashed", HASH),
    ("8.2", "post-installation-webhook", {"url": "http://a"}),
    ("8.2", "first-boot", {"source": "from-iso"}),
    ("8.3", "global/reboot-mode", "reboot"),
    ("8.3", "global/fqdn", {"source": "from-dhcp"}),
    ("9.0", "network/interface-name-pinning", {"enabled": False}),
    ("9.1", "global/subscription-key", "pve2c-0123456789"),
    ("9.1", "post-installation-webhook", {"url": "http://a", "auth-token": "x"}),
]


@pytest.mark.parametrize(("release", "path", "value"), SINCE)
def test_a_key_is_refused_for_a_release_before_it(release: str, path: str, value: Any) -> None:
    given_answer = changed(path, value)
    version = answer.release(release)
    if version < (8, 3) and "root-password-hashed" not in path:
        given_answer["global"]["root-password"] = given_answer["global"].pop("root-password-hashed")[:20]
    with pytest.raises(Failure, match=f"is known since Proxmox VE .* and this is for {release}"):
        answer.checked(given_answer, version)
    answer.checked(given_answer, {(8, 2): (8, 3), (8, 3): (8, 4), (9, 0): (9, 1), (9, 1): (9, 2)}[version])


@pytest.mark.parametrize("text", ["9", "9.x", "", "bookworm"])
def test_what_is_no_release_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="should be the release on the ISO"):
        answer.release(text)


def test_a_release_without_answer_files_is_refused() -> None:
    with pytest.raises(Failure, match=r"known since Proxmox VE 8\.2"):
        answer.release("8.1")


def test_a_short_password_was_longer_enough_before() -> None:
    given_answer = changed("global/root-password-hashed", ...)
    given_answer["global"]["root-password"] = "1234567"
    answer.checked(given_answer, (8, 3))
    with pytest.raises(Failure, match="fewer than 8 characters"):
        answer.checked(given_answer, (8, 4))


def test_releases_before_8_4_have_underscores_but_in_names_of_sections_and_of_others() -> None:
    given_answer = changed("disk-setup", {"filesystem": "zfs", "zfs": {"raid": "raid1", "arc-max": 512}})
    given_answer["disk-setup"] |= {"filter": {"ID-X": "y"}, "filter-match": "any"}
    given_answer["first-boot"] = {"source": "from-iso"}
    text = answer_toml.render(answer_toml.styled(answer.checked(given_answer, (8, 3)), (8, 3)))
    assert "\n[disk-setup]\n" in text and "\n[first-boot]\n" in text and "\n[disk-setup.filter]\nID-X =" in text
    assert "root_password_hashed" in text and "filter_match" in text and "arc_max" in text
    assert "root-password" not in text and "arc-max" not in text


def test_the_text_of_an_answer() -> None:
    given_answer = changed("network", {**BY_HAND_FILTER, "interface-name-pinning": {"enabled": True}})
    given_answer["network"]["interface-name-pinning"]["mapping"] = {"24:8A:07:1E:05:BC": "lan0"}
    assert (
        answer_toml.render(answer.checked(given_answer, (9, 1)))
        == answer_toml.HEADER
        + f"""
[global]
keyboard = "de"
country = "at"
timezone = "Europe/Vienna"
mailto = "admin@example.com"
root-password-hashed = "{HASH}"
fqdn = "pve1.example.com"

[network]
source = "from-answer"
cidr = "192.0.2.11/24"
gateway = "192.0.2.1"
dns = "192.0.2.1"

[network.filter]
ID_NET_NAME = "eno1"

[network.interface-name-pinning]
enabled = true

[network.interface-name-pinning.mapping]
"24:8a:07:1e:05:bc" = "lan0"

[disk-setup]
filesystem = "ext4"
disk-list = ["sda"]
"""
    )


words = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)
names = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=12)
values = st.one_of(
    words, st.booleans(), st.integers(0, 1 << 40), st.floats(0, 1e9, allow_nan=False), st.lists(words, min_size=1)
)


@given(st.dictionaries(names, st.dictionaries(st.one_of(names, words), values, min_size=1), min_size=1))
def test_whatever_is_written_is_read_back(tables: dict[str, dict[str, Any]]) -> None:
    assert tomllib.loads(answer_toml.render(tables)) == tables


def test_what_is_no_toml_is_a_state_of_its_own() -> None:
    assert answer_toml.parse("a = = b") == {answer_toml.UNREADABLE: True}


def test_the_zones_are_zones() -> None:
    known = zoneinfo.available_timezones()
    assert known, "this machine has no tz database, by which the table could be held"
    assert sorted(answer_places.TIMEZONES - known) == []
    assert len(answer_places.TIMEZONES) == 420 and len(answer_places.COUNTRIES) == 249
