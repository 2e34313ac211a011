#!/bin/sh
# Puts the plugin, or the network configuration, where the container runtime looks for it.
#
#   ipamd-install plugin      before the daemon starts
#   ipamd-install conflist    waits until the daemon answers: a node counts as ready for pods as
#                             soon as its runtime finds a network configuration
#   ipamd-install ipv6        before the daemon starts, where pods have IPv6: needs a /proc/sys that can
#                             be written, which the daemon's own container has not
#
# A file is written under another name and renamed: the runtime never sees half of one, and a
# plugin that is running keeps its own.
set -eu

from=/opt/ipamd
bin=${HOST_CNI_BIN_PATH:-/host/opt/cni/bin}
conf=${HOST_CNI_CONFDIR_PATH:-/host/etc/cni/net.d}

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
conflist)
    to="$conf/10-ipamd.conflist"
    what=${IPAMD_CONFLIST:-$from/conflists/plain.conflist}
    if cmp -s "$what" "$to"; then
        exit 0 # there since an earlier start
    fi
    # If this fails the kubelet restarts the container and shows the last line as an event.
    deadline=$(($(date +%s) + ${IPAMD_READY_WITHIN_S:-600}))
    until why=$(ipamd --probe 2>&1); do
        if [ "$(date +%s)" -ge "$deadline" ]; then
            echo "ipamd is not ready: $why" >&2
            exit 1
        fi
        sleep 0.1
    done
    put "$what" 0644 "$to"
    ;;
ipv6)
    # A host that forwards believes router advertisements only if it is told to, and would lose its
    # default route: so that comes first, on the link by which the node reaches all else.
    set=/proc/sys/net/ipv6/conf
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
    echo "usage: ipamd-install plugin|conflist|ipv6" >&2
    exit 64
    ;;
esac
