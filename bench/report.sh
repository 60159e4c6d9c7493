#!/usr/bin/env bash
# Runs all measurements one after the other, and writes results, plots and a page that shows them:
# half an hour as root, on an idle machine of two cores. A part that fails does not stop the others.
#
#   bench/report.sh DIR [PART]...     default: all parts; DIR keeps the results of the others
#
# SHORT=1 takes five minutes: less of everything, and fewer servers. NICE=-15 gives servers and
# generator priority. NAMES=FILE has real names for the simulation of fleets.
set -euo pipefail
[[ $# -gt 0 ]] || { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
names=${NAMES:+$(realpath "$NAMES")}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Parts in reading order, and the time in seconds after which each is stopped.
readonly PARTS=(gate micro flood-sim fleet saturation hits latency memory flood more-names model)
declare -rA LIMIT=([gate]=135 [micro]=270 [flood-sim]=180 [fleet]=360 [saturation]=720 [hits]=1260 [latency]=540
    [memory]=450 [flood]=450 [more-names]=270 [model]=30)
short=${SHORT:-}
micro=() flood=() fleet=() compare=("--nice=${NICE:-0}") some=(--only=responder --only=ringdnsd --only=ringdnsd-kernel)
if [[ $short ]]; then
    micro=("--names=10000,30000,100000,1000000" --queries=500000 --rounds=3)
    flood=(--names=50000 --cache-bytes=2621440 --rate=5000 --settle=100 --seconds=30)
    fleet=(--made-up=100000 --queries=300000 "--workers=1,4,16" "--budgets=8,32,128")
    compare+=(--rounds=2 --seconds=1)
fi
[[ -z $names ]] || fleet+=(--names "$names")

cargo build --locked --quiet --profile release-lto -p ringdns-bench -p ringdns-daemon -p ringdns-ctl
ringbench=${CARGO_TARGET_DIR:-target}/release-lto/ringbench

# Sets `command` to the command of a part.
set_command() {
    local results=(--json "$out/$1.json") tables=(--markdown "$out/$1.md")
    case $1 in
    gate) command=("$ringbench" gate --baseline bench/instructions.json "${results[@]}") ;;
    micro) command=("$ringbench" micro "${micro[@]}" "${results[@]}") ;;
    flood-sim) command=("$ringbench" flood-sim "${flood[@]}" "${results[@]}") ;;
    fleet) command=("$ringbench" fleet "${fleet[@]}" "${results[@]}") ;;
    more-names) command=("$ringbench" compare --measure saturation --names 130000 "${some[@]}" "${compare[@]}"
        "${results[@]}" "${tables[@]}") ;;
    model) command=(bench/model.py --gate "$out/gate.json" --micro "$out/micro.json"
        --compare "10000=$out/saturation.json" --compare "130000=$out/more-names.json") ;;
    *) command=("$ringbench" compare --measure "$1" "${compare[@]}" ${short:+"${some[@]}" --only=unbound}
        "${results[@]}" "${tables[@]}") ;;
    esac
}

parts=("$@") failed=()
if [[ $# -eq 0 ]]; then
    parts=("${PARTS[@]}")
    [[ -z $short ]] || parts=(gate micro flood-sim fleet saturation more-names model)
fi
for part in "${parts[@]}"; do
    [[ -v LIMIT[$part] ]] || { echo "there is no part $part: parts are ${PARTS[*]}" >&2; exit 2; }
    set_command "$part"
    echo "$part: ${command[*]}"
    rm -f "$out/$part".{json,md}
    began=$SECONDS
    # After SIGINT, a part has time to take its lab down.
    timeout --foreground --signal=INT --kill-after=20 "${LIMIT[$part]}" "${command[@]}" \
        >"$out/$part.txt" 2>"$out/$part.log" || { failed+=("$part"); tail -n 5 "$out/$part.log" >&2; }
    [[ -s $out/$part.log ]] || rm "$out/$part.log"
    command[0]=${command[0]##*/}
    echo "${command[*]//"$out"/DIR}" >"$out/$part.command"
    echo "$part: $((SECONDS - began)) s"
done

plotted=()
for part in micro fleet saturation hits latency memory flood; do
    [[ ! -s $out/$part.json ]] || plotted+=("$out/$part.json")
done
bench/plot.py --out "$out/plots" "${plotted[@]}" 2>"$out/plots.log" || failed+=(plots)
[[ -s $out/plots.log ]] || rm "$out/plots.log"

{
    printf '# ringdns: measurements\n\nThe tables name the conditions. docs/performance.md says what they show.\n\n'
    printf -- '- %s, %s, commit %s\n' "$(date --utc --iso-8601=minutes)" "$(rustc --version)" "$(git describe --always --dirty)"
    printf -- '- %s, Linux %s\n' "$(lscpu | sed -n 's/^Model name: *//p')" "$(uname -r)"
    for part in "${failed[@]}"; do printf -- '- **%s failed**: see %s.log\n' "$part" "$part"; done
    for part in "${PARTS[@]}"; do
        [[ -e $out/$part.command ]] || continue
        # shellcheck disable=SC2016 # Backquotes of Markdown.
        printf '\n## %s\n\n```\n%s\n```\n\n' "$part" "$(cat "$out/$part.command")"
        # Titles of Markdown go, and headings become a level lower; other output is shown as it is.
        if [[ -e $out/$part.md ]]; then sed '/^# /d;s/^##/###/' "$out/$part.md"; else sed 's/^/    /' "$out/$part.txt"; fi
    done
    printf '\n## Plots\n'
    (cd "$out" && for plot in plots/*.svg; do [[ ! -e $plot ]] || printf '\n![%s](%s)\n' "${plot##*/}" "$plot"; done)
} >"$out/README.md"
echo "results: $out/README.md"
[[ ${#failed[@]} -eq 0 ]] || { echo "failed: ${failed[*]}" >&2; exit 1; }
