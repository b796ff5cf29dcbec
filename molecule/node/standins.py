# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories of stand-ins with the names and dependencies of Proxmox VE's packages, for apt to install for real.

    python standins.py FETCHED ARCHIVE

The kernel and ifupdown2 are Debian's own under Proxmox's names, so that another kernel really boots and the network
really changes hands. The API is the node that the lab machine brings. Three states of the world lie side by side:
`now` (Proxmox VE 9.0.3), `later` (9.0.11), and `next` (another release of both).
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

from debs import Package, write_repository

SUITE = "trixie"
PMX = "+pmx1"
NAG = """\
// what the real file says where it asks for the subscription
Ext.define('Proxmox.Utils', {
    checked_command: function(orig_cmd) {
        Proxmox.Utils.API2Request({
            success: function(response, opts) {
                let res = response.result;
                if (
                    res === null ||
                    res === undefined ||
                    !res ||
                    res.data.status.toLowerCase() !== 'active'
                ) {
                    Ext.Msg.show({ title: gettext('No valid subscription') });
                } else {
                    orig_cmd();
                }
            },
        });
    },
});
"""
# The real one is refused by its own configuration file system, too.
RESOLVES = """\
#!/bin/sh
address=$(getent hosts "$(hostname -s)" | cut -d ' ' -f 1)
case $address in
    127.*|::1|'') echo "Unable to resolve node name '$(hostname -s)' to a non-loopback IP address" >&2; exit 1 ;;
esac
exec sleep infinity
"""
ENTERPRISE = """\
Types: deb
URIs: https://enterprise.proxmox.com/debian/pve
Suites: trixie
Components: pve-enterprise
Signed-By: /usr/share/keyrings/proxmox-archive-keyring.gpg
"""
MANAGER_POSTINST = f"""\
#!/bin/sh
set -e
if [ -e /var/tmp/power-failure ]; then
    # dpkg itself is gone before it can note anything down
    rm /var/tmp/power-failure
    kill -KILL $PPID
    sleep 1
    exit 1
fi
if [ "$1" = configure ] && [ -z "$2" ]; then
    cat > /etc/apt/sources.list.d/pve-enterprise.sources <<'END'
{ENTERPRISE}END
fi
systemctl daemon-reload
systemctl enable --now pve-cluster pvedaemon pvestatd pveproxy
"""
POSTFIX_POSTINST = """\
#!/bin/sh
set -e
. /usr/share/debconf/confmodule
db_input high postfix/main_mailer_type || true
db_go || true
db_get postfix/main_mailer_type
mkdir -p /etc/postfix
echo "# $RET" > /etc/postfix/main.cf
"""
POSTFIX_TEMPLATES = """\
Template: postfix/main_mailer_type
Type: select
Choices: No configuration, Internet Site, Internet with smarthost, Satellite system, Local only
Default: Internet Site
Description: General type of mail configuration:
 What the real package asks.
"""


def unit(what: str, start: str) -> str:
    """A service."""
    return (
        f"[Unit]\nDescription=Stand-in: {what}\nAfter=network-online.target\nWants=network-online.target\n\n"
        f"[Service]\nExecStart={start}\n\n[Install]\nWantedBy=multi-user.target\n"
    )


def manager(version: str) -> Package:
    """The control plane."""
    services = {
        "pve-cluster": unit("configuration file system", "/usr/lib/pve-standin/resolves"),
        "pvedaemon": unit("API daemon", "/usr/bin/sleep infinity"),
        "pvestatd": unit("status daemon", "/usr/bin/sleep infinity"),
        "pveproxy": unit("API proxy", "/usr/lib/labnode/serve"),
    }
    files = {f"usr/lib/systemd/system/{name}.service": (text, 0o644) for name, text in services.items()}
    return Package(
        "pve-manager",
        version,
        "ifupdown2 (>= 3.0), proxmox-widget-toolkit, chrony | time-daemon, postfix | mail-transport-agent",
        files={**files, "usr/lib/pve-standin/resolves": (RESOLVES, 0o755)},
        scripts={"postinst": MANAGER_POSTINST},
    )


def small(version: str) -> list[Package]:
    """Everything of Proxmox but what is made of Debian's packages."""
    toolkit = {"usr/share/javascript/proxmox-widget-toolkit/proxmoxlib.js": (NAG, 0o644)}
    return [
        Package("proxmox-ve", "9.0.0", "pve-manager (>= 9), qemu-server, proxmox-default-kernel, openssh-server"),
        Package("proxmox-default-kernel", "2.0.0", "proxmox-kernel-6.12"),
        Package("qemu-server", "9.0.4"),
        Package("proxmox-widget-toolkit", f"5.0.{version.rpartition('.')[2]}", files=toolkit),
        manager(version),
    ]


def of_debian(fetched: Path) -> list[Package]:
    """A kernel that is another than the lab's, and ifupdown2."""
    (kernel,) = fetched.glob("linux-image-*.deb")
    (ifupdown2,) = fetched.glob("ifupdown2_*.deb")
    name, version = kernel.name.split("_")[:2]
    release = name.removeprefix("linux-image-")
    return [
        Package(f"proxmox-kernel-{release}-signed", version, "kmod, initramfs-tools", like=kernel),
        Package("proxmox-kernel-6.12", version, f"proxmox-kernel-{release}-signed | proxmox-kernel-{release}"),
        Package(
            "ifupdown2",
            f"{ifupdown2.name.split('_')[1]}{PMX}",
            "python3:any, iproute2",
            {"Conflicts": "ifupdown", "Replaces": "ifupdown", "Provides": "ifupdown"},
            like=ifupdown2,
        ),
    ]


def debian(fetched: Path) -> dict[str, list[Package]]:
    """What a mirror of Debian has of what a node needs; one of its versions is higher than Proxmox's."""
    (ifupdown,) = fetched.glob("ifupdown_*.deb")
    postfix = {"postinst": POSTFIX_POSTINST, "templates": POSTFIX_TEMPLATES}
    main = [
        Package("ifupdown", ifupdown.name.split("_")[1], "adduser, iproute2", like=ifupdown),
        Package("os-prober", "1.83"),
        Package("postfix", "3.10.4-1", "debconf", scripts=postfix),
        Package("open-iscsi", "2.1.11-1"),
        Package("isc-dhcp-client", "4.4.3-1"),
        Package("ifupdown2", "9.9.9-1", "a-package-that-is-nowhere"),
    ]
    microcode = [Package("intel-microcode", "3.20250812.1"), Package("amd64-microcode", "3.20250311.1")]
    return {"main": main, "non-free-firmware": microcode}


def write(fetched: Path, target: Path) -> None:
    """What the machine serves, still unsigned."""
    component = "pve-no-subscription"
    write_repository(target / "now", "Proxmox", SUITE, {component: [*small("9.0.3"), *of_debian(fetched)]})
    write_repository(target / "later", "Proxmox", SUITE, {component: small("9.0.11")})
    other = [*small("10.0.1"), Package("base-files", "14")]
    write_repository(target / "next", "Proxmox", SUITE, {component: other})
    write_repository(target / "debian", "Debian", SUITE, debian(fetched))


def main(fetched: Path, archive: Path) -> None:
    """Pack everything into one file."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, tarfile.open(archive, "w") as tar:
        Path(directory).chmod(0o755)
        write(fetched, Path(directory))
        tar.add(directory, ".")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
