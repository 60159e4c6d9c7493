#!/bin/sh
# Announces an address by BIRD while ringdnsd is ready to serve clients, and withdraws it otherwise:
# enables and disables a protocol of bird.conf. It looks once a second and says what is so each time,
# so a BIRD that was restarted learns it too.
#
#   bird-route.sh PROTOCOL
#
# RINGCTL and BIRDC: the commands, with their options ("ringctl", "birdc").
set -u

[ $# -eq 1 ] || { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
protocol=$1
ringctl=${RINGCTL:-ringctl}
birdc=${BIRDC:-birdc}

withdraw() {
    # Both are commands with options.
    # shellcheck disable=SC2086
    $birdc disable "$protocol" >/dev/null
}

trap 'withdraw; exit 0' TERM INT
while :; do
    # shellcheck disable=SC2086
    if $ringctl ready >/dev/null 2>&1; then
        $birdc enable "$protocol" >/dev/null
    else
        withdraw
    fi
    sleep 1
done
