# shellcheck shell=bash
# What slurm-cluster and ssh-hosts share; .ci/run uses its need_packages.  Sourced, never run.
# The caller sets PROG (its name) before sourcing.

# Testbeds of different numbers live side by side: the number is in every name and address that
# belongs to the machine.  0 (N is empty) is for use by hand, 50 and up are the tests'.
TESTBED_NUMBER=${TESTBED_NUMBER:-0}
N=${TESTBED_NUMBER#0}
TESTBED_DIR=${TESTBED_DIR:-/tmp/testbed${N:+-$N}}
[[ $TESTBED_DIR == /* ]] || TESTBED_DIR=$PWD/$TESTBED_DIR
export TESTBED_NUMBER TESTBED_DIR

log() { printf '%s: %s\n' "$PROG" "$*" >&2; }
die() { log "error: $*"; exit 1; }

need_root() { [[ $(id -u) -eq 0 ]] || die "needs root (namespaces, daemons); try: sudo $0"; }

# need_int NAME VALUE MIN MAX
need_int() {
    if ! [[ $2 =~ ^(0|[1-9][0-9]{0,5})$ ]] || (($2 < $3 || $2 > $4)); then
        die "$1 must be a whole number from $3 to $4, not '$2'"
    fi
}

need_int TESTBED_NUMBER "$TESTBED_NUMBER" 0 96

# Root writes here under a name that anybody could have taken before.
make_dir() {
    mkdir -p "$TESTBED_DIR"
    [[ -O $TESTBED_DIR && ! -L $TESTBED_DIR ]] || die "$TESTBED_DIR is somebody else's; set TESTBED_DIR"
    chmod 755 "$TESTBED_DIR"
}

# until_eof COMMAND...   runs it when stdin ends, as it does when its other end dies, however it dies
until_eof() {
    trap '' INT TERM HUP
    while read -r _; do :; done
    "$@"
}

# --- one verb at a time ------------------------------------------------------
# Daemons must not inherit the lock: start them through `unlocked`.
LOCK_FD=
take_lock() { # FILE
    mkdir -p "${1%/*}"
    exec {LOCK_FD}>"$1"
    flock -w 120 "$LOCK_FD" || die "another $PROG command has held $1 for 120 s"
}
unlocked() { if [[ $LOCK_FD ]]; then "$@" {LOCK_FD}>&-; else "$@"; fi; }

# --- packages ----------------------------------------------------------------
# need_packages COMMAND:PACKAGE...   installs the packages whose command is absent
need_packages() {
    local pair missing=()
    for pair; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    ((${#missing[@]})) || return 0
    [[ ${TESTBED_INSTALL:-yes} == yes ]] || die "not installed: ${missing[*]}"
    command -v apt-get >/dev/null || die "no apt-get; install by hand: ${missing[*]}"
    log "installing: ${missing[*]}"
    # Keep apt from starting system-wide daemons (a real sshd, munge, slurmd).
    local policy=/usr/sbin/policy-rc.d ours=
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && ours=1
    fi
    local rc=0 out
    apt_install() {
        DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -y -q -o DPkg::Lock::Timeout=180 \
            install --no-install-recommends "${missing[@]}" </dev/null 2>&1
    }
    out=$(apt_install) || { timeout 300 apt-get -q update >/dev/null 2>&1 || true
                            out=$(apt_install) || rc=$?; }
    [[ $ours ]] && rm -f $policy
    ((rc == 0)) || { printf '%s\n' "$out" | tail -n 20 >&2; die "apt-get install ${missing[*]} failed"; }
}

# --- waiting and processes ---------------------------------------------------
# wait_for SECONDS COMMAND...   polls; non-zero when the time is over
wait_for() {
    local end=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

# running PID [COMM]: the process exists, is no zombie, and has that name
# (the name guards against a recycled pid in an old pid file)
running() {
    local stat
    [[ ${1:-} =~ ^[0-9]+$ ]] && { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    [[ ${2:-} ]] && [[ $stat != "$1 ($2) "* ]] && return 1
    [[ ${stat##*) } != [ZX]* ]]
}
gone() { ! running "$@"; }

# pid_of FILE COMM: prints the pid in FILE if that process is still ours
pid_of() {
    local pid=
    [[ -r $1 ]] && { read -r pid <"$1" || true; }
    running "$pid" "$2" && printf '%s\n' "$pid"
}

# stop_pid FILE COMM [SECONDS]: TERM, then KILL after SECONDS (default 5)
stop_pid() {
    local pid
    if pid=$(pid_of "$1" "$2"); then
        kill -TERM "$pid" 2>/dev/null || true
        wait_for "${3:-5}" gone "$pid" "$2" || kill -KILL "$pid" 2>/dev/null || true
        wait_for 5 gone "$pid" "$2" || log "warning: $2 (pid $pid) does not go away"
    fi
    rm -f "$1"
}

# kill9_pid FILE COMM: no goodbye
kill9_pid() {
    local pid
    if pid=$(pid_of "$1" "$2"); then
        kill -KILL "$pid" 2>/dev/null || true
        wait_for 10 gone "$pid" "$2" || log "warning: $2 (pid $pid) does not go away"
    fi
    rm -f "$1"
}

# --- one marked block per tool in /etc/hosts and ~/.ssh/config ----------------
# Written in place: in containers /etc/hosts is a mount and cannot be renamed.
# block_set FILE TAG [top] < lines      block_del FILE TAG
block_del() { block_set "$1" "$2" </dev/null; }
block_set() {
    local file=$1 tag=$2 new old fd
    new=$(cat)
    [[ -e $file || $new ]] || return 0
    exec {fd}>>"$file"
    flock -w 20 "$fd" || die "cannot lock $file"
    old=$(sed "/^# BEGIN testbed $tag /,/^# END testbed $tag\$/d" "$file")
    if [[ $new ]]; then
        new="# BEGIN testbed $tag $TESTBED_DIR"$'\n'"$new"$'\n'"# END testbed $tag"
        if [[ ${3:-} == top ]]; then old=$new${old:+$'\n'$old}; else old=${old:+$old$'\n'}$new; fi
    fi
    printf '%s' "${old:+$old$'\n'}" >"$file"
    exec {fd}>&-
}
# block_dir FILE TAG: the TESTBED_DIR that wrote the block, if any
block_dir() { sed -n "s/^# BEGIN testbed $2 //p" "$1" 2>/dev/null | head -n 1; }

# --- a private network: machine + switch + members ---------------------------
# The machine reaches the members over the interface TAG, address SUBNET.1.
# The switch is a bridge inside its own network namespace, so the machine's
# firewall (docker's FORWARD policy, say) has no say in it.  Members have no
# default route: nothing leaves this machine.  All neighbour entries are
# permanent, so that a cut is silence (time-outs), not "no route to host".
member_ip() { echo "$1.$((10 + $2))"; }            # SUBNET K
member_mac() { printf '02:7b:%02x:00:00:%02x' "$1" "$2"; } # NETNO K; K=0: the machine

# net_up TAG NETNO SUBNET COUNT PREFIX   members are PREFIX1..PREFIXcount
net_up() {
    local tag=$1 no=$2 sub=$3 count=$4 prefix=$5 k ns sw=$1-sw
    { ip netns add "$sw" && ip -n "$sw" link add br0 address "$(member_mac "$no" 254)" type bridge; } ||
        die "cannot make network namespaces here (a container? it must be --privileged)"
    ip -n "$sw" link set br0 up
    ip link add "$tag" address "$(member_mac "$no" 0)" type veth peer name p0 netns "$sw"
    ip addr add "$sub.1/24" dev "$tag"
    ip link set "$tag" up
    ip -n "$sw" link set p0 master br0 up
    {
        echo "neigh replace $sub.1 lladdr $(member_mac "$no" 0) dev eth0 nud permanent"
        for ((k = 1; k <= count; k++)); do
            echo "neigh replace $(member_ip "$sub" "$k") lladdr $(member_mac "$no" "$k") dev eth0 nud permanent"
        done
    } >"$TESTBED_DIR/.$tag.neigh"
    for ((k = 1; k <= count; k++)); do
        ns=$tag-$prefix$k
        ip netns add "$ns"
        ip -n "$ns" link add eth0 address "$(member_mac "$no" "$k")" type veth peer name "p$k" netns "$sw"
        ip -n "$sw" link set "p$k" master br0 up
        ip -n "$ns" -batch - <<-END
			link set lo up
			addr add $(member_ip "$sub" "$k")/24 dev eth0
			link set eth0 up
		END
        grep -v "lladdr $(member_mac "$no" "$k") " "$TESTBED_DIR/.$tag.neigh" | ip -n "$ns" -batch -
    done
    sed "1d; s/ dev eth0 / dev $tag /" "$TESTBED_DIR/.$tag.neigh" | ip -batch -
    rm -f "$TESTBED_DIR/.$tag.neigh"
}

net_exists() { [[ -e /run/netns/$1-sw ]]; }        # TAG

# A switch port that is "disabled" drops every packet both ways, silently.
net_cut() { bridge -n "$1-sw" link set dev "p$2" state 0; }  # TAG K
net_mend() { bridge -n "$1-sw" link set dev "p$2" state 3; } # TAG K
net_is_cut() { bridge -n "$1-sw" link show dev "p$2" | grep -q 'state disabled'; }

net_down() { # TAG   removes the machine's end, every namespace TAG-*, and what still runs there
    local ns pid
    ip link del "$1" 2>/dev/null || true
    for ns in /run/netns/"$1"-*; do
        [[ -e $ns ]] || continue
        for pid in $(ip netns pids "${ns##*/}"); do kill -KILL "$pid" 2>/dev/null || true; done
        ip netns del "${ns##*/}"
    done
}

# --- a member: a tree of processes in its own namespaces ----------------------
# Every member has its own network, hostname, IPC, mounts and process ids.  Its
# first process ("tb-init") is PID 1 of its pid namespace, so killing that one
# process kills the whole member at once, as a power cut does.
INIT_COMM=tb-init

# member_boot NETNS LOGFILE COMMAND...   runs COMMAND as the member's PID 1
member_boot() {
    local ns=$1 logfile=$2; shift 2
    (
        [[ -z $LOCK_FD ]] || exec {LOCK_FD}>&-
        exec setsid ip netns exec "$ns" unshare --uts --ipc --mount --pid --fork --kill-child "$@"
    ) </dev/null >>"$logfile" 2>&1 &
}

# First thing in a member's PID 1: /proc is still the machine's here, so the pid
# read from it is the one by which the machine knows this process.
init_announce() { # PIDFILE
    local pid
    read -r pid _ </proc/self/stat
    printf '%s' "$INIT_COMM" >/proc/self/comm
    echo "$pid" >"$1"
}

# Last thing: adopt and reap orphans for ever.
init_idle() { while :; do (exec -a tb-idle sleep 1000) & wait $! || true; done; }

# member_exec INITPID COMMAND...   runs a command inside a member
member_exec() {
    local pid=$1; shift
    unlocked nsenter --target "$pid" --net --uts --ipc --mount --pid -- "$@"
}

# One testbed of a kind and number per machine.  Number 0 is seen by what it writes into /etc/hosts;
# whoever uses another number keeps it to himself (tests: a lock on the number).
check_owner() { # slurm|ssh
    local other
    [[ ! $N ]] || return 0
    other=$(block_dir /etc/hosts "$1")
    if [[ $other && $other != "$TESTBED_DIR" && -e $other/$1 ]]; then
        die "up already, from another TESTBED_DIR: $other"
    fi
}
