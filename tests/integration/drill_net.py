# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins of the programs that know a bridge's ports: bridge, ip and tc, for a bridge that is files below ``net``."""

from __future__ import annotations

BRIDGE = """#!{python} -SE
import json, os, sys
net, words = {net!r}, sys.argv[1:]
def path(): return os.path.join(net, words[words.index("dev") + 1], "vlans")
def span(text): low, _dash, high = text.partition("-"); return range(int(low), int(high or low) + 1)
with open(path()) as file: table = {{int(vlan): flags for vlan, flags in json.load(file).items()}}
if "show" in words:
    rows = []
    for vlan, flags in sorted(table.items()):
        last = rows[-1] if rows else None
        if last and last.get("flags", []) == flags == [] and last.get("vlanEnd", last["vlan"]) == vlan - 1:
            last["vlanEnd"] = vlan
        else:
            rows.append({{"vlan": vlan, **({{"flags": flags}} if flags else {{}})}})
    print(json.dumps([{{"ifname": "x", "vlans": rows}}] if rows else []))
for vlan in span(words[words.index("vid") + 1]) if "show" not in words else ():
    if "del" in words:
        if vlan not in table: sys.exit("RTNETLINK answers: No such file or directory")
        del table[vlan]
    else:
        if "pvid" in words: table = {{v: [f for f in flags if f != "PVID"] for v, flags in table.items()}}
        table[vlan] = ["PVID"] * ("pvid" in words) + ["Egress Untagged"] * ("untagged" in words)
with open(path(), "w") as file: json.dump(table, file)
"""
IP = """#!/bin/sh
# ip link set dev TAP nomaster | ip link set dev TAP master BRIDGE | ip link set dev TAP mtu BYTES
cd {net}/"$4" || exit 1
if [ "$5" = mtu ]; then
    echo "$6" > mtu
    [ ! -e master ] || echo "$6" > master/mtu
    exit
fi
rm -f master
echo '{{}}' > vlans
[ "$5" = nomaster ] && exit 0
ln -s "../../bridges/$6" master
[ "$(cat master/bridge/default_pvid)" = 0 ] || echo '{{"1": ["PVID", "Egress Untagged"]}}' > vlans
"""
TC = """#!/bin/sh
state={net}/tap103i0/queue
case "$*" in
"-j qdisc show"*) printf '[{{"kind": "%s", "root": true, "dev": "tap103i0"}}]\\n' "$(cut -d' ' -f1 "$state")" ;;
"qdisc show"*) cat "$state" ;;
"qdisc add dev tap103i0 root "*) shift 5; echo "$*" > "$state" ;;
"qdisc del dev tap103i0 root") echo noqueue > "$state" ;;
*) exit 64 ;;
esac
"""
