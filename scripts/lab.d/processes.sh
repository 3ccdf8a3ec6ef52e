# shellcheck shell=bash
# Background processes of a lab: started with a record, ended by that record alone.
#
# A record is $RECORDS/LABEL, "PID STARTTIME SIGNAL".
# A pid alone could have been given to somebody else since; the start time tells.
# A process writes its own record before it becomes the command, so that a lab killed
# at any moment leaves either no process or a record of it.

# When the process of this pid started, in clock ticks since boot; fails when there is none.
start_time() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    # The state is field 3 and the start is field 22; the name before them may contain anything.
    read -ra stat <<<"${stat##*) }"
    [[ ${stat[0]} != [ZX] ]] && echo "${stat[19]}"
}

# `bash -c "$BECOME" - RECORD SIGNAL COMMAND...` records itself and becomes COMMAND.
# /proc/self/stat names the pid as the lab sees it, also inside a pid namespace, where $$ is 1.
# shellcheck disable=SC2016  # expanded by that shell
BECOME='read -r stat </proc/self/stat; rest=(${stat##*) })
    echo "${stat%% *} ${rest[19]} $2" >"$1.new" && mv "$1.new" "$1" && shift 2 && exec "$@"'

# spawn LABEL LOG NODE COMMAND...: in a node's namespace and a session of its own.
spawn() {
    local label=$1 log=$2 node=$3
    shift 3
    setsid ip netns exec "$NAME-$node" bash -c "$BECOME" - "$RECORDS/$label" TERM "$@" \
        </dev/null >>"$log" 2>&1 9>&- &
    await_record "$label" "$log"
}

# spawn_tree, likewise: as the init of a pid namespace, so that all it ever starts ends with it.
spawn_tree() {
    local label=$1 log=$2 node=$3
    shift 3
    setsid ip netns exec "$NAME-$node" unshare --pid --fork --kill-child \
        bash -c "$BECOME" - "$RECORDS/$label" KILL "$@" </dev/null >>"$log" 2>&1 9>&- &
    await_record "$label" "$log"
}

await_record() {
    local i
    for ((i = 0; i < 250; i++)); do
        [[ ! -e $RECORDS/$1 ]] || return 0
        sleep 0.02
    done
    die "cannot start $1; see $2"
}

# running LABEL: whether the recorded process is there and still is that process.
running() {
    local pid start
    { read -r pid start _ <"$RECORDS/$1"; } 2>/dev/null || return 1
    [[ $(start_time "$pid") == "$start" ]]
}

# stop LABEL...: the recorded signal to each, three seconds of patience for all, then SIGKILL.
stop() {
    local label pid signal i force=''
    for force in '' KILL; do
        for label in "$@"; do
            running "$label" || continue
            read -r pid _ signal <"$RECORDS/$label"
            kill -"${force:-$signal}" "$pid" 2>/dev/null || true
        done
        for ((i = 0; i < 60; i++)); do
            any_running "$@" || break 2
            sleep 0.05
        done
    done
    for label in "$@"; do
        ! running "$label" || echo "lab: the process of '$label' does not end" >&2
        rm -f "$RECORDS/$label"
    done
}

any_running() {
    local label
    for label in "$@"; do ! running "$label" || return 0; done
    return 1
}
