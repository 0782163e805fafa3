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
check_lacks 'without a secret' "$complaint" "$PGPASSWORD"

# --- Request ids and timing ---

start_server LOG_FORMAT=json ADMIN_ADDR="127.0.0.1:$("$dev" free-port)"

# returned_id ID: the id of an answer to a request with this one
returned_id() {
    request GET /health --header "X-Request-Id: $1"
    header X-Request-Id
}

longest=$(text_of 128 x)
for id in 1 9b2e5d0c-6f1a-4d7e-8a33-0c1d2e3f4a5b 'Root=1-67891233-abcdef' 'aGk+/w==' a_b.c:d~e@f "$longest"; do
    check "the id $(echo "$id" | cut -c 1-40) is returned" "$id" "$(returned_id "$id")"
done
for id in 'a b' 'a"b' 'a,b' "$longest"x 'é'; do
    check "instead of the id $(echo "$id" | cut -c 1-40) there is one of the server's" 16 \
        "$(returned_id "$id" | tr -cd 0-9a-f | wc -c | tr -d ' ')"
done
request GET /health --header 'X-Request-Id: one' --header 'X-Request-Id: two'
check_lacks 'of two ids none is taken' "$(header X-Request-Id)" one two
request GET /health
first=$(header X-Request-Id)
request GET /health
check 'ids differ' true "$([ "$first" != "$(header X-Request-Id)" ] && echo true)"

# has_id NAME: the last answer has an id and the status $2
has_id() {
    check "$1 has an id" "$2 1" "$status $(header X-Request-Id | grep -c -x '[0-9a-f]\{16\}')"
}

request GET /api/tasks
has_id 'an answer without a token' 401
check 'its timing is that of the token and all' 'auth;dur=N, total;dur=N' "$(header Server-Timing | sed 's/[0-9]*\.[0-9]/N/g')"
request GET /nowhere
has_id 'an answer to an unknown path' 404
request OPTIONS /api/tasks --header 'Origin: http://localhost:3000' --header 'Access-Control-Request-Method: PUT'
has_id 'a preflight' 204
raw 'GET / HTTP/1.1\r\n\r\n'
has_id 'what the HTTP layer refuses' 400
raw "POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: refused-1\r\nContent-Length: 99999999\r\n\r\n"
check 'there, too, the id that was sent is returned' '413 refused-1' "$status $(header X-Request-Id)"
create ada milk
check 'the timing of a write names the database' 'auth;dur=N, db;dur=N, total;dur=N' \
    "$(header Server-Timing | sed 's/[0-9]*\.[0-9]/N/g')"

# --- The log ---

# logged ID: the lines with this request's id
logged() {
    grep -F -e "\"request_id\":\"$1\"" "$work/server.log"
}

# line ID FILTER: what jq makes of them
line() {
    wait_until 10 logged "$1" >/dev/null || true
    logged "$1" | jq -rc "$2"
}

members='[.level, .target, .message, .method, .route, .status, .bytes, (.duration_ms | type), (.user | type)] | join(" ")'
as ada GET "/api/tasks/$id?token=secret-query" --header 'X-Request-Id: log-1'
check 'an answer is a line of the log' "info request answered GET /api/tasks/{id} 200 ${#body} number string" "$(line log-1 "$members")"
request GET /secret-path --header 'X-Request-Id: log-2'
check 'an unknown path is not shown' "info request answered GET unknown 404 ${#body} number null" "$(line log-2 "$members")"
send ada POST /api/tasks '{"title":"secret-title","completed":0}' --header 'X-Request-Id: log-3'
check 'so is an error' "info request answered POST /api/tasks 422 ${#body} number string" "$(line log-3 "$members")"
check 'a refusal of the HTTP layer is one, too' '413 PAYLOAD_TOO_LARGE refused' \
    "$(line refused-1 '[.status, .error_code, .message] | join(" ")')"
as bob HEAD /api/tasks --header 'X-Request-Id: log-4'
check 'to HEAD no byte is sent' 'HEAD 0' "$(line log-4 '[.method, .bytes] | join(" ")')"
as ada DELETE /api/tasks/abc --header 'X-Request-Id: log-5'
check 'a user has one tag, another user another' 'true false' \
    "$([ "$(line log-1 .user)" = "$(line log-5 .user)" ] && echo true) $([ "$(line log-4 .user)" = "$(line log-5 .user)" ] || echo false)"
tag=$(line log-1 .user)
check 'the tag is no plain hash of the user' 0 "$(for sum in md5sum sha1sum sha256sum; do printf ada | "$sum"; done | grep -c "$tag" || true)"
check_lacks 'probes that find all well are not logged' "$(cat "$work/server.log")" '"/health"'
sql 'alter table tasks rename to elsewhere'
as ada GET /api/tasks --header 'X-Request-Id: log-6'
check 'an error of the database has the id of its request' '500 error info' "$status $(line log-6 .level | tr '\n' ' ' | sed 's/ $//')"
sql 'alter table elsewhere rename to tasks'
check 'each line is an object' 0 "$(sed '/^{/!d' "$work/server.log" | jq -c 'select(type != "object")' | wc -l | tr -d ' ')"

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
check 'promtool finds no fault with the metrics' '0 ' "$(promtool check metrics <"$work/metrics" 2>&1; echo "$? ")"
check 'requests are counted by route and status' '1 1' \
    "$(metric 'http_requests_total{method="POST",route="/api/tasks",status="201"}') $(metric 'http_requests_total{method="POST",route="/api/tasks",status="422"}')"
check 'and their durations' 2 "$(metric 'http_request_duration_seconds_bucket{method="POST",route="/api/tasks",le="+Inf"}')"
check 'what the HTTP layer refused is counted' 2 "$(metric http_requests_refused_total)"
check 'the database is there' '1 8' "$(metric database_up) $(metric database_pool_max_connections)"
check 'a connection is at rest' '1 0' \
    "$(metric 'database_pool_connections{state="idle"}') $(metric 'database_pool_connections{state="in_use"}')"
check 'no line of the log was dropped' 0 "$(metric log_lines_dropped_total)"
check_lacks 'no label comes from a request' "$(cat "$work/metrics")" secret
request GET /metrics
check 'where the API is there are no metrics' 404 "$status"
for asked in 'GET /' 'GET /health' 'POST /metrics'; do
    admin_status=$(curl --silent --output /dev/null --write-out '%{http_code}' --request "${asked% *}" \
        "$(metrics_address | sed "s,/metrics,${asked#* },")")
    check "where the metrics are, $asked is not" true "$(case $admin_status in 404 | 405) echo true ;; esac)"
done
stop_database immediate
as ada GET /api/tasks
metrics
check 'while the database is away, that is counted, and told' '1 0' \
    "$(metric 'http_requests_total{method="GET",route="/api/tasks",status="503"}') $(metric database_up)"
stop_server

never_logged() {
    check_lacks "the log never shows $1" "$(cat "$work/server.log")" "$1"
}

for secret in secret-query secret-path secret-title "$(token ada)" '"ada"' "$BETTER_AUTH_SECRET"; do
    never_logged "$secret"
done

# --- Looking before serving ---

start_database
sql 'drop table tasks'
run NEON_DATABASE_URL="$database_url" "$server_binary" --check
check 'an empty database will do' '0 ' "$exit_status $complaint"
check_contains 'and it is said that the table will be made' 'ok   table: there is no table' "$said"
check 'it is not made yet' '' "$(sql "select to_regclass('tasks')")"
start_server
create ada milk
stop_server
run NEON_DATABASE_URL="$database_url" "$server_binary" --check
check 'the table that the service made will do' 0 "$exit_status"
for name in settings secret database table index keys; do
    check "$name is looked at" 1 "$(echo "$said" | grep -c -E "^(ok  |note) $name: ")"
done
sql 'alter table tasks drop column completed; drop index tasks_of_user'
run NEON_DATABASE_URL="$database_url" BETTER_AUTH_SECRET=short "$server_binary" --check
check 'a table that does not fit will not' 1 "$exit_status"
check_contains "the column is named, with a remedy" "FAIL table: it has no column \`completed\` (boolean); " "$said"
check_contains 'a missing index is told, with the statement' 'note index: none begins with user_id: slower with every task; create index' "$said"
check_contains 'and so is a short secret' 'note secret: BETTER_AUTH_SECRET has 5 bytes' "$said"
run NEON_DATABASE_URL="$database_url" BETTER_AUTH_URL=http://127.0.0.1:1 "$server_binary" --check
check_contains 'keys that cannot be had are told, with a remedy' 'FAIL keys: http://127.0.0.1:1/api/auth/jwks: ' "$said"
run NEON_DATABASE_URL="${database_url%/*}/none" "$server_binary" --check
check 'a database that is not there will not do' 1 "$exit_status"
check_contains 'and it is said why' 'FAIL database: no connection: ' "$said"
check_lacks 'without its password' "$said" "$PGPASSWORD" "$BETTER_AUTH_SECRET"
run NEON_DATABASE_URL= PORT=none "$server_binary" --check
check 'each mistake in the settings is told' '1 2' "$exit_status $(echo "$said" | grep -c '^FAIL settings: ')"
