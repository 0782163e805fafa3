# User story: I run the service: it tells whether it is well, takes its configuration from the environment, keeps
# secrets to itself, and stops when it is told to.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database -c log_statement=all
start_server

# --- Beside /api ---

request GET /
check '/ says name and version' '200 todo-backend true' "$(answer '.name + " " + (.version | test("^[0-9]+\\.[0-9]+\\.[0-9]+") | tostring)')"
request GET /health
check '/health says that the service lives' 200 "$status"
request GET /ready
check '/ready says that the database answers' 200 "$status"
request GET /openapi.json
check '/openapi.json describes the API' '200 true' "$(answer '.openapi | startswith("3.")')"
check '/openapi.json knows each path' '/,/api/tasks,/api/tasks/{id},/api/tasks/{id}/complete,/docs,/health,/openapi.json,/ready' \
    "$(json '.paths | keys | join(",")')"
for path in / /health /ready /openapi.json; do
    request GET "$path"
    length=$(header Content-Length | grep . || echo missing)
    check "$path needs no token, and is JSON that nobody stores or guesses at" '200 application/json no-store nosniff Origin' \
        "$status $(header Content-Type) $(header Cache-Control) $(header X-Content-Type-Options) $(header Vary)"
    request HEAD "$path"
    check "HEAD $path has the headers of GET" "200 $length" "$status $(header Content-Length)"
    raw "HEAD $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    check "HEAD $path has no body" '200 ' "$status $body"
    request GET "$path?x=y" --header 'Authorization: Bearer nonsense'
    check "$path looks at no token and no query" 200 "$status"
done
for path in /health/ /ready/ /openapi.json/ /docs/; do
    request GET "$path"
    check "$path: one trailing slash is forgiven" 200 "$status"
done

# asked: how many statements the database has seen
asked() {
    grep -c 'LOG:  \(statement\|execute\)' "$work/postgres/log" || true
}

before=$(asked)
begun=$(date +%s)
count=0
while [ "$count" -lt 50 ]; do
    request GET /ready
    request GET /health
    count=$((count + 1))
done
most=$(($(date +%s) - begun + 2))
check "however often /ready is asked, the database is at most once a second" true \
    "$([ $(($(asked) - before)) -le "$most" ] && echo true || echo "$(($(asked) - before)) times, not $most")"

# --- What it needs ---

# fails_to_start VARIABLE=VALUE…: sets $complaint
fails_to_start() {
    exit_status=0
    complaint=$(env -u NEON_DATABASE_URL -u BETTER_AUTH_SECRET HOST=127.0.0.1 PORT="$port" "$@" "$server_binary" 2>&1) ||
        exit_status=$?
}

# named NAME: the server ended with an error that says this
named() {
    check_contains "the error names $1" "$1" "$complaint"
}

stop_server
fails_to_start PORT=http ALLOWED_ORIGINS=localhost
check 'with nothing configured it does not start' 1 "$exit_status"
for variable in NEON_DATABASE_URL BETTER_AUTH_SECRET PORT ALLOWED_ORIGINS; do
    named "$variable"
done
fails_to_start NEON_DATABASE_URL="$database_url" BETTER_AUTH_SECRET=
check 'an empty secret is refused' 1 "$exit_status"
named BETTER_AUTH_SECRET
fails_to_start NEON_DATABASE_URL= BETTER_AUTH_SECRET="$BETTER_AUTH_SECRET"
check 'an empty database URL is refused' 1 "$exit_status"
named NEON_DATABASE_URL
for value in -1 65536 80x 'a b'; do
    fails_to_start NEON_DATABASE_URL="$database_url" BETTER_AUTH_SECRET="$BETTER_AUTH_SECRET" PORT="$value"
    check "PORT=$value is refused" 1 "$exit_status"
    named PORT
done
for setting in DB_POOL_SIZE=0 DB_POOL_SIZE=129 MAX_CONNECTIONS=0 MAX_BODY_BYTES=1023 MAX_BODY_BYTES=16777217 \
    REQUEST_TIMEOUT_MS=99 IDLE_TIMEOUT_MS=3600001 DRAIN_TIMEOUT_MS=-1 MAX_BODY_BYTES=1MiB; do
    fails_to_start NEON_DATABASE_URL="$database_url" BETTER_AUTH_SECRET="$BETTER_AUTH_SECRET" "$setting"
    check "$setting is refused" 1 "$exit_status"
    named "${setting%=*}"
done
for value in localhost:3000 'http://a/path' 'https://*' 'https://*.*.example'; do
    fails_to_start NEON_DATABASE_URL="$database_url" BETTER_AUTH_SECRET="$BETTER_AUTH_SECRET" ALLOWED_ORIGINS="$value"
    check "ALLOWED_ORIGINS=$value is refused" 1 "$exit_status"
    named "$value"
done
for url in 'mysql://todo:pa55word@127.0.0.1/x' 'postgresql://todo:pa55word@127.0.0.1/x?wonder=1' 'pa55word'; do
    fails_to_start NEON_DATABASE_URL="$url" BETTER_AUTH_SECRET='s3cret that nobody may see, long enough'
    check "the URL $url is refused" 1 "$exit_status"
    named NEON_DATABASE_URL
    check_lacks 'and the error shows no secret' "$complaint" pa55word s3cret
done
fails_to_start NEON_DATABASE_URL='postgresql://todo@127.0.0.1/x?wonder=1' BETTER_AUTH_SECRET="$BETTER_AUTH_SECRET"
named wonder

# serves NAME VARIABLE=VALUE…
serves() {
    what=$1
    shift
    stop_server
    start_server "$@"
    create ada x
    check "$what" 201 "$status"
}

rest=${database_url#postgresql://}
for scheme in postgres postgresql+asyncpg postgresql+psycopg2 postgresql+psycopg; do
    serves "$scheme:// is the same database" NEON_DATABASE_URL="$scheme://$rest"
done
serves 'blanks around the URL do not matter' NEON_DATABASE_URL="  $database_url "
line_break='
'
serves 'a line break behind the URL does not matter' NEON_DATABASE_URL="$database_url$line_break"
serves 'quotes around the URL do not matter' NEON_DATABASE_URL="\"$database_url\""
serves 'single quotes around the URL do not matter' NEON_DATABASE_URL="'$database_url'"
serves 'sslmode=disable is understood' NEON_DATABASE_URL="$database_url?sslmode=disable"

serves 'the limits may be set' DB_POOL_SIZE=1 MAX_CONNECTIONS=10 MAX_BODY_BYTES=1024 IDLE_TIMEOUT_MS=1000 DRAIN_TIMEOUT_MS=100
send ada POST /api/tasks "{\"title\":\"$(text_of 1024 x)\"}"
check 'a body beyond the limit that was set is too large' '413 PAYLOAD_TOO_LARGE' "$(refusal)"
serves 'settings that are set and empty are as good as absent' ALLOWED_ORIGINS= MAX_BODY_BYTES= DB_POOL_SIZE=

stop_server
BETTER_AUTH_SECRET=tiny-but-known start_server
check_logged 'a short secret is warned of' WARN
check_logged 'by name' BETTER_AUTH_SECRET
check_lacks 'but not shown' "$(cat "$work/server.log")" tiny-but-known

# --- Secrets ---

stop_server
start_server RUST_LOG=trace
good=$(token ada)
forged=$(BETTER_AUTH_SECRET='another secret, just as long as it' "$dev" token eve)
expired=$("$dev" token bob -60)
for shown in "$good" "$forged" "$expired" "$forged.x" opaque-session-token; do
    request GET "/api/tasks?token=$good" --header "Authorization: Bearer $shown"
    request POST /api/tasks --header "Authorization: Bearer $shown" --cookie "token=$shown" --data-raw '{"title":"x"}'
    request POST /api/tasks --header "Authorization: Bearer $shown" --data-raw '{bad'
done
stop_database
request GET /api/tasks --header "Authorization: Bearer $good"
start_database
stop_server
check_logged 'the log at RUST_LOG=trace says more than usual' DEBUG

# never_logged NAME TEXT: in no log of this file's servers
never_logged() {
    check_lacks "the log never shows $1" "$(cat "$work/server.log")" "$2"
}

never_logged 'the secret' "$BETTER_AUTH_SECRET"
never_logged 'the secret in Base64' "$(printf %s "$BETTER_AUTH_SECRET" | base64 | cut -c 1-40)"
never_logged 'the password of the database' "$PGPASSWORD"
for shown in "$good" "$forged" "$expired"; do
    never_logged 'a token' "$shown"
    never_logged 'the claims of a token' "$(echo "$shown" | cut -d . -f 2)"
    never_logged 'the signature of a token' "$(echo "$shown" | cut -d . -f 3)"
done
never_logged 'an opaque token' opaque-session-token

for argument in --help --version help; do
    NEON_DATABASE_URL=$database_url PORT=http "$server_binary" "$argument" >"$work/said" 2>&1 || true
    check_lacks "$argument shows no secret" "$(cat "$work/said")" "$BETTER_AUTH_SECRET" "$PGPASSWORD"
done

# limited_to KIB: what a server of 128 workers says that may have so much memory. Their stacks are large (RUST_MIN_STACK, in bytes), so
# that where there is no room for one there is plenty for everything else.
limited_to() {
    # shellcheck disable=SC3045 # dash and bash both have -v
    (ulimit -v "$1" && RUST_MIN_STACK=67108864 DB_POOL_SIZE=128 HOST=127.0.0.1 PORT=$port NEON_DATABASE_URL=$database_url exec "$server_binary" 2>&1)
}

for memory in 200000 500000 1000000 4000000; do
    exit_status=0
    complaint=$(limited_to "$memory") || exit_status=$?
    check "without the threads that it needs it does not start ($memory KiB)" 1 "$exit_status"
    named 'cannot start the thread'
done

# --- HOST and PORT ---

start_server
check_logged 'it says where it listens' "listening on http://127.0.0.1:$port"
fails_to_start NEON_DATABASE_URL="$database_url" BETTER_AUTH_SECRET="$BETTER_AUTH_SECRET"
check 'a port that is taken is an error' 1 "$exit_status"
named "$port"
request GET /health
check 'and the one who has it serves on' 200 "$status"

# --- The end ---

for signal in TERM INT; do
    stop_server "$signal"
    check "SIG$signal ends it in peace" 0 "$exit_status"
    check "after SIG$signal nobody listens" 000 "$(curl --silent --output /dev/null --write-out '%{http_code}' "$base/health" || true)"
    start_server
done

# A request that waits for the database while the signal comes.
create ada slow
(
    sql 'begin; lock table tasks; select pg_advisory_lock(1); select pg_sleep(60)' >/dev/null 2>&1
) &
locker=$!
waiting_for_lock() {
    [ "$(sql "select count(*) from pg_locks where locktype = 'relation' and not granted")" != 0 ]
}
has_lock() {
    [ "$(sql "select count(*) from pg_locks where locktype = 'advisory' and granted")" != 0 ]
}
wait_until 10 has_lock
curl --silent --output "$work/late" --write-out '%{http_code}' --header "Authorization: Bearer $(token ada)" \
    --data-raw '{"title":"late"}' "$base/api/tasks" >"$work/late_status" &
late=$!
wait_until 10 waiting_for_lock
kill -TERM "$server"
sql "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'" >/dev/null
wait "$late" || true
wait "$locker" || true
check 'a request that was under way is answered before the end' '201 late' \
    "$(cat "$work/late_status") $(jq -r .title "$work/late")"
stop_server
check 'and then the server ends in peace' 0 "$exit_status"
