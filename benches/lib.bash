# What the scripts here share: processes that end with the script, waiting, measuring. Source it.
# shellcheck shell=bash
set -euo pipefail
weir=${WEIR:-target/release/weir}
load=${LOAD:-target/release/examples/load}
for program in "$weir" "$load"; do
    [ -x "$program" ] || { echo "$program is missing: cargo build --release --bins --example load" >&2; exit 2; }
done
folder=$(mktemp -d)
pids=()
faults=0
# Many connections on both sides of one machine.
ulimit -n "$(ulimit -Hn)"
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$folder"' EXIT

# Runs a command in the background, until the script ends; its process id is then in $started.
start() { "$@" & started=$!; pids+=("$started"); }
pause() { read -rt "$1" <> <(:) || true; }
ready() { # ADMIN-ADDRESS
    for _ in $(seq 200); do
        "$weir" healthcheck --ready --admin "$1" 2>/dev/null && return
        pause 0.05
    done
    echo "not ready: $1" >&2
    return 1
}
resident() { awk '/VmRSS/ { print $2 }' "/proc/$1/status"; }
# CPU of all threads of a process so far, in nanoseconds.
used() { cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f\n", sum }'; }
metric() { # ADMIN-ADDRESS NAME [LABEL]: the sum of its series
    curl --silent "http://$1/metrics" | awk -v name="$2" -v label="${3-}" \
        '$1 ~ "^" name "({|$)" && index($1, label) { sum += $NF } END { printf "%.0f\n", sum }'
}
# `field NAME FILE`: the number after NAME= in what the load program has printed.
field() { sed -n "s/.* $1=\([0-9.]*\).*/\1/p; s/^$1=\([0-9.]*\).*/\1/p" "$2" | head -1; }
# `promise TEXT CONDITION`: an arithmetic condition that must hold.
promise() {
    if (($2)); then echo "kept:   $1"; else echo "BROKEN: $1 ($2)"; faults=$((faults + 1)); fi
}
verdict() { if ((faults)); then echo "$faults promises broken"; exit 1; fi; }
