# User story: I operate the service without a shell: its command line, secrets in files, request ids, access log,
# metrics, --check.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# run [VARIABLE=VALUE…] COMMAND…: sets $exit_status, $stdout and $stderr
run() {
    exit_status=0
    env "$@" >"$work/stdout" 2>"$work/stderr" || exit_status=$?
    stdout=$(cat "$work/stdout")
    stderr=$(cat "$work/stderr")
}

# --- Command line ---

run "$server_binary" --version
check '--version prints name and version' '0 todo-backend 0' \
    "$exit_status $(echo "$stdout" | sed 's/^\(todo-backend [0-9]*\)\..*/\1/')"
run "$server_binary" --help
check '--help needs no configuration' '0 ' "$exit_status $stderr"
check 'its lines have at most 80 characters' '' "$(echo "$stdout" | awk 'length($0) > 80')"
check 'its rows are in two columns' 27 \
    "$(echo "$stdout" | awk 'sub(/^  /, "") { match($0, /  +[^ ]/); print RSTART + RLENGTH - 1 }' | sort -u)"
for option in --healthcheck --version --help NEON_DATABASE_URL BETTER_AUTH_SECRET_FILE PORT RUST_LOG; do
    check_contains "--help names $option" "$option" "$stdout"
done
for option in help --Help --version=1 -x; do
    run "$server_binary" "$option"
    check "$option is not an option" 2 "$exit_status"
    check_contains 'and the message names it' "\"$option\"" "$stderr"
done
run "$server_binary" --help --version
check 'two options are rejected' 2 "$exit_status"

# --- Health ---

start_database
start_server
run HOST=127.0.0.1 PORT="$port" "$server_binary" --healthcheck
check '--healthcheck succeeds silently for a running server' '0 ' "$exit_status $stdout$stderr"
run HOST=0.0.0.0 PORT="$port" "$server_binary" --healthcheck
check '0.0.0.0 means the loopback address' 0 "$exit_status"
run HOST=127.0.0.1 PORT="$PGPORT" "$server_binary" --healthcheck
check '--healthcheck fails for a port without an HTTP server' 1 "$exit_status"
run HOST=127.0.0.1 PORT=none "$server_binary" --healthcheck
check 'an invalid PORT is an error' 1 "$exit_status"
check_contains 'and the message names it' "PORT is \`none\`" "$stderr"
stop_server
run HOST=127.0.0.1 PORT="$port" "$server_binary" --healthcheck
check '--healthcheck fails without a server' 1 "$exit_status"
check_contains 'and the message names the address' "127.0.0.1:$port" "$stderr"

# --- Secrets in files ---

echo "$database_url" >"$work/url"
printf %s "$BETTER_AUTH_SECRET" >"$work/secret"
start_server NEON_DATABASE_URL= BETTER_AUTH_SECRET= \
    NEON_DATABASE_URL_FILE="$work/url" BETTER_AUTH_SECRET_FILE="$work/secret"
create ada 'from files'
check 'secrets are read from files' 201 "$status"
stop_server
run NEON_DATABASE_URL_FILE="$work/url" NEON_DATABASE_URL="$database_url" BETTER_AUTH_SECRET_FILE="$work/none" \
    BETTER_AUTH_SECRET= "$server_binary"
check 'a variable with a file beside it, and a missing file, are errors' 1 "$exit_status"
check_contains 'the message names the first' 'NEON_DATABASE_URL_FILE are both set' "$stderr"
check_contains 'and the second' "BETTER_AUTH_SECRET_FILE is \`$work/none\`" "$stderr"
check_lacks 'but no secret' "$stderr" "$PGPASSWORD"

# --- Request ids and timing ---

start_server LOG_FORMAT=json ADMIN_ADDR="127.0.0.1:$("$dev" free-port)"

# returned_id ID: the id of a response to a request with this one
returned_id() {
    request GET /health --header "X-Request-Id: $1"
    header X-Request-Id
}

longest=$(text_of 128 x)
for id in 1 9b2e5d0c-6f1a-4d7e-8a33-0c1d2e3f4a5b 'Root=1-67891233-abcdef' 'aGk+/w==' a_b.c:d~e@f "$longest"; do
    check "the id $(echo "$id" | cut -c 1-40) is returned" "$id" "$(returned_id "$id")"
done
for id in 'a b' 'a"b' 'a,b' "$longest"x 'é'; do
    check "the malformed id $(echo "$id" | cut -c 1-40) is replaced by 16 hexadecimal digits" 16 \
        "$(returned_id "$id" | tr -cd 0-9a-f | wc -c | tr -d ' ')"
done
request GET /health --header 'X-Request-Id: one' --header 'X-Request-Id: two'
check_lacks 'two ids are both ignored' "$(header X-Request-Id)" one two
request GET /health
first=$(header X-Request-Id)
request GET /health
check 'two requests without an id get different ones' true "$([ "$first" != "$(header X-Request-Id)" ] && echo true)"

# has_id NAME: the last response has an id and the status $2
has_id() {
    check "$1 has an id" "$2 1" "$status $(header X-Request-Id | grep -c -x '[0-9a-f]\{16\}')"
}

request GET /api/tasks
has_id 'a response without a token' 401
check 'its timing has the token and the total' 'auth;dur=N, total;dur=N' \
    "$(header Server-Timing | sed 's/[0-9]*\.[0-9]/N/g')"
request GET /nowhere
has_id 'a response to an unknown path' 404
request OPTIONS /api/tasks --header 'Origin: http://localhost:3000' --header 'Access-Control-Request-Method: PUT'
has_id 'a preflight' 204
raw 'GET / HTTP/1.1\r\n\r\n'
has_id 'a rejection by the HTTP engine' 400
raw "POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: rejected-1\r\nContent-Length: 99999999\r\n\r\n"
check 'which returns the id that was sent, too' '413 rejected-1' "$status $(header X-Request-Id)"
create ada milk
check 'the timing of a write has the database' 'auth;dur=N, db;dur=N, total;dur=N' \
    "$(header Server-Timing | sed 's/[0-9]*\.[0-9]/N/g')"

# --- The log ---

# logged ID: the lines with this request's id
logged() {
    grep -F -e "\"request_id\":\"$1\"" "$work/server.log"
}

# line ID FILTER: the same through jq
line() {
    wait_until 10 logged "$1" >/dev/null || true
    logged "$1" | jq -rc "$2"
}

fields='[.level, .target, .message, .method, .route, .status, .bytes, (.duration_ms | type), (.user | type)]
    | join(" ")'
as ada GET "/api/tasks/$id?token=secret-query" --header 'X-Request-Id: log-1'
check 'a response is logged in one line' "info request answered GET /api/tasks/{id} 200 ${#body} number string" \
    "$(line log-1 "$fields")"
request GET /secret-path --header 'X-Request-Id: log-2'
check 'an unknown path is not shown' "info request answered GET unknown 404 ${#body} number null" \
    "$(line log-2 "$fields")"
send ada POST /api/tasks '{"title":"secret-title","completed":0}' --header 'X-Request-Id: log-3'
check 'an error is logged in the same form' "info request answered POST /api/tasks 422 ${#body} number string" \
    "$(line log-3 "$fields")"
check 'a rejection by the HTTP engine is logged' '413 PAYLOAD_TOO_LARGE rejected' \
    "$(line rejected-1 '[.status, .error_code, .message] | join(" ")')"
as bob HEAD /api/tasks --header 'X-Request-Id: log-4'
check 'a response to HEAD has 0 bytes' 'HEAD 0' "$(line log-4 '[.method, .bytes] | join(" ")')"
as ada DELETE /api/tasks/abc --header 'X-Request-Id: log-5'
pseudonym=$(line log-1 .user)
check 'a user has one pseudonym' "$pseudonym" "$(line log-5 .user)"
check_lacks 'another user has another' "$(line log-4 .user)" "$pseudonym"
check_lacks 'a pseudonym is not a plain hash of the user id' \
    "$(for sum in md5sum sha1sum sha256sum; do printf ada | "$sum"; done)" "$pseudonym"
trace=4bf92f3577b34da6a3ce929d0e0e4736
request GET /nowhere --header 'X-Request-Id: log-7' --header "traceparent: 00-$trace-00f067aa0ba902b7-01"
check 'the trace id of traceparent is logged' "$trace" "$(line log-7 .trace_id)"
request GET /nowhere --header 'X-Request-Id: log-8' --header "traceparent: 00-$trace-0000000000000000-01"
check 'a malformed traceparent is ignored' '404 null' "$status $(line log-8 .trace_id)"
check_lacks 'successful health probes are not logged' "$(cat "$work/server.log")" '"/health"'
sql 'alter table tasks rename to elsewhere'
as ada GET /api/tasks --header 'X-Request-Id: log-6'
check 'a database error is logged with the id of its request' '503 error info' \
    "$status $(line log-6 .level | tr '\n' ' ' | sed 's/ $//')"
sql 'alter table elsewhere rename to tasks'
grep '^{' "$work/server.log" >"$work/json_lines" # the servers before this one wrote text
check 'every line is a JSON object' "$(wc -l <"$work/json_lines")" \
    "$(jq -c 'select(type == "object")' "$work/json_lines" | wc -l)"

# --- Refused origins ---

request GET /health --header "Origin: $base"
request GET /health --header 'Origin: http://localhost:3000'
check_lacks 'the own origin and an allowed one are not logged' "$(cat "$work/server.log")" \
    'is not in ALLOWED_ORIGINS'
for origin in https://one.example https://two.example https://one.example "https://$(text_of 4000 x)"; do
    request GET /health --header "Origin: $origin"
    request OPTIONS /api/tasks --header "Origin: $origin" --header 'Access-Control-Request-Method: PUT'
done
check_logged 'a refused origin is logged' 'origin \"https://one.example\" is not in ALLOWED_ORIGINS'
check_logged 'and another one' 'origin \"https://two.example\" is not in ALLOWED_ORIGINS'
check_logged 'and a very long one' 'https://xxx'
check 'each once' 3 "$(grep -c 'is not in ALLOWED_ORIGINS' "$work/server.log")"
check_lacks 'and cut' "$(cat "$work/server.log")" "$(text_of 300 x)"

# --- Metrics ---

metrics_address() {
    sed -n 's,.*metrics on \(http://127.0.0.1:[0-9]*/metrics\).*,\1,p' "$work/server.log" | tail -n 1
}

metrics() {
    curl --silent --fail --max-time 10 "$(metrics_address)" >"$work/metrics"
}

# metric NAME_AND_LABELS: its value
metric() {
    awk -v name="$1" '{ end = length($0) - length($NF) - 1 } substr($0, 1, end) == name { print $NF }' "$work/metrics"
}

metrics
check 'promtool accepts the metrics' '0 ' "$(promtool check metrics <"$work/metrics" 2>&1; echo "$? ")"
for code in 201 422; do
    check "requests are counted by route and status: $code" 1 \
        "$(metric "http_requests_total{method=\"POST\",route=\"/api/tasks\",status=\"$code\"}")"
done
check 'durations are counted by method and route' 2 \
    "$(metric 'http_request_duration_seconds_bucket{method="POST",route="/api/tasks",le="+Inf"}')"
check 'rejections by the HTTP engine are counted' 2 "$(metric 'http_requests_rejected_total{reason="invalid"}')"
check 'none was for overload' 0 "$(metric 'http_requests_rejected_total{reason="overload"}')"
check 'the database is up' '1 8' "$(metric database_up) $(metric database_pool_max_connections)"
check 'a connection is idle' '1 0' \
    "$(metric 'database_pool_connections{state="idle"}') $(metric 'database_pool_connections{state="in_use"}')"
check 'no log line was dropped' 0 "$(metric log_lines_dropped_total)"
check_lacks 'no label is taken from a request' "$(cat "$work/metrics")" secret
request GET /metrics
check 'the API port has no metrics' 404 "$status"
for asked in 'GET /' 'GET /health' 'POST /metrics'; do
    admin_status=$(curl --silent --output /dev/null --write-out '%{http_code}' --request "${asked% *}" \
        "$(metrics_address | sed "s,/metrics,${asked#* },")")
    check "the metrics port rejects $asked" true "$(case $admin_status in 404 | 405) echo true ;; esac)"
done
stop_database immediate
as ada GET /api/tasks
metrics
check 'while the database is down, 503 is counted and database_up is 0' '2 0' \
    "$(metric 'http_requests_total{method="GET",route="/api/tasks",status="503"}') $(metric database_up)"
stop_server

never_logged() {
    check_lacks "the log never shows $1" "$(cat "$work/server.log")" "$1"
}

for secret in secret-query secret-path secret-title "$(token ada)" '"ada"' "$BETTER_AUTH_SECRET"; do
    never_logged "$secret"
done

# --- Checking before serving ---

export HOST=127.0.0.1 PORT=0 # --check binds the address
start_database
sql 'drop table tasks'
run NEON_DATABASE_URL="$database_url" "$server_binary" --check
check '--check accepts an empty database' '0 ' "$exit_status $stderr"
check_contains 'and reports that there is no table' 'ok   table: there is no table' "$stdout"
check 'and does not create it' '' "$(sql "select to_regclass('tasks')")"
start_server
create ada milk
stop_server
run NEON_DATABASE_URL="$database_url" "$server_binary" --check
check '--check accepts the table that the service created' 0 "$exit_status"
for name in settings secret address database table index keys; do
    check "--check reports $name" 1 "$(echo "$stdout" | grep -c -E "^(ok  |note) $name: ")"
done
sql 'drop index tasks_of_user'
run NEON_DATABASE_URL="$database_url" "$server_binary" --check
check '--check accepts a table without an index' 0 "$exit_status"
check_contains 'notes a missing index with its statement' \
    'note index: none begins with user_id: slower with every task; create index' "$stdout"
sql 'alter table tasks drop column completed'
run NEON_DATABASE_URL="$database_url" BETTER_AUTH_SECRET=short "$server_binary" --check
check '--check rejects an incompatible table' 1 "$exit_status"
check_contains "names the column and a hint" "FAIL table: it has no column \`completed\` (boolean); " "$stdout"
check_contains 'and a short secret' 'note settings: BETTER_AUTH_SECRET has 5 bytes' "$stdout"
run NEON_DATABASE_URL="$database_url" BETTER_AUTH_URL=http://127.0.0.1:1 "$server_binary" --check
check_contains '--check reports keys that cannot be fetched' 'FAIL keys: http://127.0.0.1:1/api/auth/jwks: ' "$stdout"
run NEON_DATABASE_URL="${database_url%/*}/none" "$server_binary" --check
check '--check rejects a database that does not exist' 1 "$exit_status"
check_contains 'and reports why' \
    "FAIL database: 127.0.0.1:$PGPORT: FATAL: database \"none\" does not exist (3D000); " "$stdout"
check_lacks 'but no secret' "$stdout" "$PGPASSWORD" "$BETTER_AUTH_SECRET"
run NEON_DATABASE_URL= PORT=none "$server_binary" --check
check '--check reports every invalid setting' '1 2' "$exit_status $(echo "$stdout" | grep -c '^FAIL settings: ')"
