#!/bin/sh
# Process of ExaBGP that announces addresses while ringdnsd is ready to serve clients, and withdraws them
# otherwise.
#
#   exabgp-route.sh PREFIX...
#
# RINGCTL: the command, with its options ("ringctl").
set -u

[ $# -gt 0 ] || { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }

# say announce|withdraw PREFIX...
say() {
    verb=$1
    shift
    for prefix; do
        printf '%s route %s next-hop self\n' "$verb" "$prefix"
    done
}

# It ends when ExaBGP has gone, and prints a line at each change.
# shellcheck disable=SC2086
${RINGCTL:-ringctl} ready --follow | while read -r state _; do
    if [ "$state" = ready ]; then
        say announce "$@"
    else
        say withdraw "$@"
    fi
done
# ringctl has ended: nobody knows. ExaBGP starts this process again.
say withdraw "$@"
exit 1
