# shellcheck shell=bash
# Commands that come to a guest as files: how `scripts/lab exec` reaches one without a network.

# serve_jobs DIR FIFO: runs DIR/jobs/NAME.job, each in the background, for ever. What one prints goes
# to NAME.out and NAME.err, and its exit code to NAME.code when it has ended. FIFO is made, and is what
# it sleeps by: a process for each look would be dear where the guest is emulated.
serve_jobs() {
    local job
    local -A seen
    mkfifo "$2"
    exec 3<>"$2"
    while :; do
        for job in "$1"/jobs/*.job; do
            [[ -e $job && -z ${seen[$job]:-} ]] || continue
            seen[$job]=yes
            run_job "$job" &
        done
        # Ends by its time each time, which is no failure.
        read -rt 0.1 -u 3 || true
    done
}

run_job() {
    local code=0
    bash "$1" </dev/null >"${1%.job}.out" 2>"${1%.job}.err" || code=$?
    echo "$code" >"$1.done"
    mv "$1.done" "${1%.job}.code"
}
