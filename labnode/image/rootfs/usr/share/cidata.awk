# network-config of a NoCloud drive, version 1 (as Proxmox VE writes it) or 2 -> one instruction a line:
#   address MAC-OR-NAME ADDR/PREFIX | gateway MAC-OR-NAME ADDR | dhcp MAC-OR-NAME | nameserver ADDR | search DOMAIN
# No YAML library fits into a shell; this knows the shapes that generators of these files use.

function clean(text) {
    sub(/[ \t\r]+$/, "", text)
    gsub(/[]"',[]/, " ", text)
    gsub(/^ +| +$/, "", text)
    return text
}
function prefix(mask, part, i, n, bits) {
    if (mask !~ /\./) return mask
    split(mask, part, ".")
    for (i = 1; i <= 4; i++)
        for (n = part[i] + 0; n > 0; n = (n * 2) % 256) bits++
    return bits
}
function key() { return mac != "" ? mac : nic }
function flush() { # version 1: a subnet is complete
    if (addr != "") {
        if (addr !~ /\//) addr = addr "/" (mask != "" ? prefix(mask) : (addr ~ /:/ ? 64 : 24))
        print "address", key(), addr
    }
    if (gate != "") print "gateway", key(), gate
    addr = mask = gate = ""
}
function emit(kind, text, i, n, word) {
    n = split(text, word, " ")
    for (i = 1; i <= n; i++) {
        if (kind == "nameserver" || kind == "search") print kind, word[i]
        else print kind, key(), word[i]
    }
}

/^[ \t]*(#|$)/ { next }
{
    line = $0
    match(line, /^ */); depth = RLENGTH
    dash = 0
    sub(/^ */, "", line)
    if (line ~ /^- /) { dash = 1; sub(/^- +/, "", line) }
    value = ""; name = ""
    if (line ~ /^[A-Za-z0-9_.-]+:( |$)/) {
        name = line; sub(/:.*/, "", name)
        value = line; sub(/^[^:]*: */, "", value)
    } else value = line
    value = clean(value)
}
name == "version" { version = value; next }

# ---- version 1
version == 1 && name == "type" && value ~ /^(physical|vlan|bond|bridge)$/ { flush(); nic = mac = ""; list = ""; next }
version == 1 && name == "type" && value == "nameserver" { flush(); list = "nameserver"; servers = 1; next }
version == 1 && name == "type" { flush(); servers = 0; if (value == "dhcp" || value == "dhcp4") print "dhcp", key(); next }
version == 1 && name == "name" { nic = value; next }
version == 1 && name == "mac_address" { mac = tolower(value); servers = 0; next }
version == 1 && servers && name == "address" { list = "nameserver"; emit(list, value); next }
version == 1 && servers && name == "search" { list = "search"; emit(list, value); next }
version == 1 && servers && name == "" { emit(list, value); next }
version == 1 && name == "address" { addr = value; next }
version == 1 && name == "netmask" { mask = value; next }
version == 1 && name == "gateway" { gate = value; next }

# ---- version 2
version == 2 && name == "ethernets" { base = depth; next }
version == 2 && depth > base && name != "" && value == "" && (level == 0 || depth <= level) && !dash {
    level = depth; nic = name; mac = ""; list = ""; next
}
version == 2 && name == "macaddress" { mac = tolower(value); next }
version == 2 && name == "nameservers" { servers = depth; list = ""; next }
version == 2 && servers && depth <= servers && name != "" { servers = 0; list = "" }
version == 2 && name == "dhcp4" { if (value ~ /^(true|yes|on)$/) print "dhcp", key(); next }
version == 2 && name == "addresses" { list = servers ? "nameserver" : "address"; emit(list, value); next }
version == 2 && name == "search" { list = "search"; emit(list, value); next }
version == 2 && (name == "gateway4" || name == "gateway6") { print "gateway", key(), value; next }
version == 2 && name == "to" { to = value; next }
version == 2 && name == "via" { if (to ~ /^(default|0\.0\.0\.0\/0|::\/0)$/) print "gateway", key(), value; next }
version == 2 && dash && name == "" && list != "" { emit(list, value); next }
version == 2 && name != "" { list = "" }

END { if (version == 1) flush() }
