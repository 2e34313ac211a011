#!/bin/sh
# Prepares the host before the daemon starts:
#
#   ipamd-install plugin      puts the plugin where the container runtime looks for it
#   ipamd-install ipv6        where pods have IPv6: forwards it. /proc/sys is read-only in a container, so
#                             the host's net/ipv6/conf is mounted where HOST_IPV6_CONF_PATH says
#
# (The daemon itself installs the network configuration, once pods can be served.)
#
# The file is written under another name and renamed: the runtime never sees half of it, and a plugin
# that is running keeps its own.
set -eu

from=/opt/ipamd
bin=${HOST_CNI_BIN_PATH:-/host/opt/cni/bin}

put() { # source, mode, destination
    tmp=$(dirname "$3")/.$(basename "$3").$$
    trap 'rm -f "$tmp"' EXIT
    cp "$1" "$tmp"
    chmod "$2" "$tmp"
    sync "$tmp"
    mv -f "$tmp" "$3"
    trap - EXIT
    echo "installed $3"
}

case "${1:-}" in
plugin)
    put "$from/ipamd-cni" 0755 "$bin/ipamd-cni"
    ;;
ipv6)
    # A host that forwards believes router advertisements only if it is told to, and would lose its
    # default route: so that comes first, on the link by which the node reaches all else.
    set=${HOST_IPV6_CONF_PATH:-/host/ipv6-conf}
    [ -d "$set" ] || set=/proc/sys/net/ipv6/conf
    primary=
    while read -r link to _; do
        if [ "$to" = 00000000 ]; then
            primary=$link
            break
        fi
    done </proc/net/route
    if [ -z "$primary" ]; then
        echo "no link has a default route" >&2
        exit 1
    fi
    echo 0 >"$set/all/disable_ipv6"
    echo 2 >"$set/$primary/accept_ra"
    echo 1 >"$set/all/forwarding"
    echo "IPv6 is forwarded; router advertisements count on $primary"
    ;;
*)
    echo "usage: ipamd-install plugin|ipv6" >&2
    exit 64
    ;;
esac
