# User story: I run the service without a shell beside it: it tells what it can do, takes its secrets from files, says in
# the log what it answered, and how it is doing to Prometheus.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# run ARGUMENT…: sets $exit_status, $said and $complaint; VARIABLE=VALUE may come first
run() {
    exit_status=0
    env "$@" >"$work/said" 2>"$work/complaint" || exit_status=$?
    said=$(cat "$work/said")
    complaint=$(cat "$work/complaint")
}

# --- Command line ---

run "$server_binary" --version
check '--version says name and version' '0 todo-backend 0' "$exit_status $(echo "$said" | sed 's/^\(todo-backend [0-9]*\)\..*/\1/')"
run "$server_binary" --help
check '--help needs no configuration' '0 ' "$exit_status $complaint"
for option in --healthcheck --version --help NEON_DATABASE_URL BETTER_AUTH_SECRET_FILE PORT RUST_LOG; do
    check_contains "--help names $option" "$option" "$said"
done
for option in help --Help --version=1 -x; do
    run "$server_binary" "$option"
    check "$option is no option" 2 "$exit_status"
    check_contains 'and is named' "\"$option\"" "$complaint"
done
run "$server_binary" --help --version
check 'two options are one too many' 2 "$exit_status"

# --- Health ---

start_database
start_server
run HOST=127.0.0.1 PORT="$port" "$server_binary" --healthcheck
check 'a server that lives is well, without a word' '0 ' "$exit_status $said$complaint"
run HOST=0.0.0.0 PORT="$port" "$server_binary" --healthcheck
check 'every address means the loopback one' 0 "$exit_status"
run HOST=127.0.0.1 PORT="$PGPORT" "$server_binary" --healthcheck
check 'what is no HTTP server is not well' 1 "$exit_status"
run HOST=127.0.0.1 PORT=none "$server_binary" --healthcheck
check 'a PORT that is none is a mistake' 1 "$exit_status"
check_contains 'and is named' "PORT is \`none\`" "$complaint"
stop_server
run HOST=127.0.0.1 PORT="$port" "$server_binary" --healthcheck
check 'a server that is not there is not well' 1 "$exit_status"
check_contains 'and it is said where it should be' "127.0.0.1:$port" "$complaint"

# --- Secrets in files ---

echo "$database_url" >"$work/url"
printf %s "$BETTER_AUTH_SECRET" >"$work/secret"
start_server NEON_DATABASE_URL= BETTER_AUTH_SECRET= \
    NEON_DATABASE_URL_FILE="$work/url" BETTER_AUTH_SECRET_FILE="$work/secret"
create ada 'from files'
check 'it takes its secrets from files' 201 "$status"
stop_server
run NEON_DATABASE_URL_FILE="$work/url" NEON_DATABASE_URL="$database_url" BETTER_AUTH_SECRET_FILE="$work/none" \
    BETTER_AUTH_SECRET= "$server_binary"
check 'two for the same, and a file that is not there, are mistakes' 1 "$exit_status"
check_contains 'the first is named' 'NEON_DATABASE_URL_FILE are both set' "$complaint"
check_contains 'and the second' "BETTER_AUTH_SECRET_FILE is \`$work/none\`" "$complaint"
check 'without a secret' 0 "$(grep -c -F -e "$PGPASSWORD" "$work/complaint" || true)"
