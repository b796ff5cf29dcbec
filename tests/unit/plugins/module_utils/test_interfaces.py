# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as people have them come back byte for byte, and an edit of one interface touches nothing of the others."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.interfaces import (
    Edit,
    Interfaces,
    parse,
    prefix_length,
    render,
)
from ansible_collections.pvelab.proxmox.tests.unit.plugins.module_utils.interfaces_wild import FILES, Wild

WILD = {name: wild.text for name, wild in FILES.items()} | {
    "installer": (
        "auto lo\niface lo inet loopback\n\niface eno1 inet manual\n\nauto vmbr0\niface vmbr0 inet static\n"
        "\taddress 192.0.2.10/24\n\tgateway 192.0.2.1\n\tbridge-ports eno1\n\tbridge-stp off\n\tbridge-fd 0\n\n"
        "iface eno2 inet manual\n\nsource /etc/network/interfaces.d/*\n"
    ),
    "vlan-aware": (
        "# by hand, do not touch\nauto lo\niface lo inet loopback\n\nauto eno1\niface eno1 inet manual\n    mtu 9000\n"
        "#the fast one\n\nauto vmbr1\niface vmbr1 inet manual\n    bridge-ports eno1\n    bridge-stp off\n"
        "    bridge-fd 0\n    bridge-vlan-aware yes\n    bridge-vids 2-4094   \n# lab\n\nauto vmbr1.10\n"
        "iface vmbr1.10 inet static\n    address 198.51.100.1/24\n"
    ),
    "routed": (
        "auto eno1\niface eno1 inet static\n  address 192.0.2.5/32\n  gateway 192.0.2.1\n  pointopoint 192.0.2.1\n"
        "  post-up echo 1 > /proc/sys/net/ipv4/ip_forward\nauto vmbr0\niface vmbr0 inet static\n"
        "  address 203.0.113.1\n  netmask 255.255.255.240\n  bridge_ports none\n  bridge_stp off\n  bridge_fd 0\n"
        "  up ip route add 203.0.113.16/28 \\\n     via 203.0.113.2 dev vmbr0\n"
    ),
    "masqueraded": (
        "auto vmbr0\niface vmbr0 inet static\n\taddress\t10.10.10.1/24\n\tbridge-ports none\n\tbridge-stp off\n"
        "\tbridge-fd 0\n\n\tpost-up   iptables -t nat -A POSTROUTING -s '10.10.10.0/24' -o eno1 -j MASQUERADE\n"
        "\tpost-down iptables -t nat -D POSTROUTING -s '10.10.10.0/24' -o eno1 -j MASQUERADE\n"
        "\tpost-up   iptables -t raw -I PREROUTING -i fwbr+ -j CT --zone 1\n"
    ),
    "bond": (
        "auto bond0\niface bond0 inet manual\n\tbond-slaves eno1 eno2\n\tbond-miimon 100\n\tbond-mode 802.3ad\n"
        "\tbond-xmit-hash-policy layer2+3\n\nauto bond0.20\niface bond0.20 inet manual\n\nauto vmbr0\n"
        "iface vmbr0 inet static\n\taddress 192.0.2.7/24\n\tgateway 192.0.2.1\n\tbridge-ports bond0.20\n"
        "\tbridge-stp off\n\tbridge-fd 0\niface vmbr0 inet6 static\n\taddress 2001:db8::7/64\n\tgateway 2001:db8::1\n"
    ),
    "ovs": (
        "auto bond0\niface bond0 inet manual\n\tovs_bonds eno1 eno2\n\tovs_type OVSBond\n\tovs_bridge vmbr0\n"
        "\tovs_options bond_mode=balance-slb vlan_mode=native-untagged\n\nauto vmbr0\niface vmbr0 inet manual\n"
        "\tovs_type OVSBridge\n\tovs_ports bond0 vlan50\n\nallow-vmbr0 vlan50\niface vlan50 inet static\n"
        "\taddress 192.0.2.50/24\n\tovs_type OVSIntPort\n\tovs_bridge vmbr0\n\tovs_options tag=50\n"
    ),
    "laptop": (
        "# The loopback\r\nauto lo eth0\r\niface lo inet loopback\r\n\r\nallow-hotplug wlan0\r\niface eth0 inet dhcp"
    ),
    "sources": (
        "source interfaces.d/*\nsource-directory /etc/network/more\n\n\n"
        "mapping eth0\n\tscript /usr/local/sbin/map\n\tmap HOME eth0-home\n\tmap WORK eth0-work\n"
        "iface eth0-home inet dhcp\n\n#last words\n   \n"
    ),
}

words = st.sampled_from(
    ["auto", "iface", "vmbr0", "eth0", "inet", "inet6", "static", "manual", "address", "10.0.0.1/24", "#", "source",
     "mapping", "\\", "\t", "  ", "bridge-ports", "allow-hotplug", "é", "none", "up ip link set x up"]
)  # fmt: skip
files = st.lists(
    st.tuples(st.lists(words, max_size=5).map(" ".join), st.sampled_from(["\n", "\r\n", "\\\n", " \n", "\r"]))
).map(lambda rows: "".join(text + end for text, end in rows))


@pytest.mark.parametrize("text", WILD.values(), ids=WILD)
def test_a_file_comes_back_byte_for_byte(text: str) -> None:
    assert render(parse(text)) == text


@pytest.mark.parametrize("wild", FILES.values(), ids=FILES)
def test_what_is_in_a_file_is_found(wild: Wild) -> None:
    file = parse(wild.text)
    assert file.names == list(wild.names)
    assert [name for name in file.names if file.is_auto(name)] == list(wild.auto)
    assert {name: file.addresses(name) for name in wild.addresses} == {n: list(a) for n, a in wild.addresses.items()}
    assert {key: file.values(*key) for key in wild.values} == {k: list(v) for k, v in wild.values.items()}


@given(st.one_of(files, st.text()))
def test_every_text_comes_back_byte_for_byte(text: str) -> None:
    assert render(parse(text)) == text


def others(file: Interfaces, name: str) -> list[str]:
    """What is not in a stanza of this interface and does not mark it alone, blank lines and line ends aside.

    A backslash at the very end of a file goes on into nothing, and has to go when something comes after it.
    """
    mine = {n for s in file.of(name) for n in range(s.first, s.end)}
    rest = [line for n, line in enumerate(file.lines) if n not in mine and line.text]
    marks = [line for line in rest if line.keyword in ("auto", "allow") and set(line.words[1:]) == {name}]
    return [" ".join(w for w in line.text.rstrip("\\").split() if w != name) for line in rest if line not in marks]


def notes(file: Interfaces, name: str) -> set[str]:
    """Comments between the options of an interface. They stay, and are behind its stanza when the last option goes."""
    return {" ".join(file.lines[n].text.split()) for s in file.of(name) for n in range(s.first, s.end)
            if file.lines[n].text.lstrip().startswith("#")}  # fmt: skip


# Each interface of each file, and one that is not there yet.
PLACES = [(which, name) for which, text in sorted(WILD.items()) for name in [*parse(text).names, "vmbr0", "new0"]]
EDITS = st.builds(
    Edit,
    options=st.dictionaries(
        st.sampled_from(["bridge-ports", "mtu", "gateway", "ovs_ports"]),
        st.lists(st.sampled_from(["a", "b"]), max_size=2),
    ),
    addresses=st.none()
    | st.lists(st.sampled_from(["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"]), unique=True, max_size=3),
    auto=st.none() | st.booleans(),
    comments=st.none() | st.lists(st.sampled_from(["one", "two"]), max_size=2),
)


@given(st.sampled_from(PLACES), EDITS)
@example(("comments and blanks between options", "vmbr0"), Edit(options={"bridge-ports": [], "gateway": []}))
@example(("a line that goes on into the end", "eth0"), Edit(options={"bridge-ports": ["a"]}))
def test_an_edit_takes_effect_once_and_leaves_the_others_alone(place: tuple[str, str], edit: Edit) -> None:
    which, name = place
    before = parse(WILD[which])
    after = parse(render(before.edited(name, edit)))
    kept = notes(before, name) - set(others(before, name))
    assert [line for line in others(after, name) if line not in kept] == others(before, name)
    for option, values in edit.options.items():
        assert after.values(name, option) == list(values)
    if edit.addresses is not None:
        assert sorted(after.addresses(name)) == sorted(edit.addresses)
    if edit.comments is not None:
        assert after.comments(name) == list(edit.comments)
    # Of "auto all" nothing is taken out, for it speaks of the interfaces of other files, too.
    if edit.auto is not None and "auto all" not in WILD[which]:
        assert after.is_auto(name) is edit.auto
    named = {option.replace("_", "-") for option in edit.options}
    unnamed = [(k, v.rstrip(" \\")) for k, v in before.options(name) if k not in named]
    if edit.addresses is None:
        assert [(k, v.rstrip(" \\")) for k, v in after.options(name) if k not in named] == unnamed
    if edit.addresses is None or after.addresses(name) == list(edit.addresses):
        assert render(after.edited(name, edit)) == render(after), "a second edit changes nothing"


@given(st.sampled_from(PLACES))
def test_what_is_removed_takes_nothing_with_it(place: tuple[str, str]) -> None:
    which, name = place
    before = parse(WILD[which])
    after = parse(render(before.without(name)))
    assert name not in after.names and others(after, name) == others(before, name)


def test_a_port_more_changes_one_line() -> None:
    text = WILD["installer"]
    edited = parse(text).edited("vmbr0", Edit(options={"bridge-ports": ["eno1 eno2"]}))
    assert render(edited) == text.replace("bridge-ports eno1\n", "bridge-ports eno1 eno2\n")


def test_an_old_spelling_is_the_same_option() -> None:
    edited = parse(WILD["routed"]).edited("vmbr0", Edit(options={"bridge-ports": ["eno2"]}))
    assert "  bridge_ports eno2\n" in render(edited) and "none" not in render(edited)


def test_a_mask_of_its_own_counts_and_goes_with_the_address() -> None:
    file = parse(WILD["routed"])
    assert file.addresses("vmbr0") == ["203.0.113.1/28"]
    assert file.edited("vmbr0", Edit(addresses=["203.0.113.1/28"])) == file
    changed = render(file.edited("vmbr0", Edit(addresses=["203.0.113.2/28"])))
    assert "address 203.0.113.2/28\n" in changed and "netmask" not in changed


@pytest.mark.parametrize(("mask", "length"), [("255.255.255.0", "24"), ("24", "24"), ("255.0.255.0", "255.0.255.0")])
def test_masks(mask: str, length: str) -> None:
    assert prefix_length(mask) == length


def test_sources_are_named() -> None:
    assert parse(WILD["sources"]).sources == [("source", "interfaces.d/*"), ("source-directory", "/etc/network/more")]
