# User story: I run the service: it reports its health, reads its configuration from the environment, shows no secret,
# and stops on a signal.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database -c log_statement=all
start_server

# --- Beside /api ---

request GET /
check '/ returns name and version' '200 todo-backend true' \
    "$(response '.name + " " + (.version | test("^[0-9]+\\.[0-9]+\\.[0-9]+") | tostring)')"
request GET /health
check '/health is 200' 200 "$status"
request GET /ready
check '/ready is 200 while the database responds' 200 "$status"
request GET /openapi.json
check '/openapi.json describes the API' '200 true' "$(response '.openapi | startswith("3.")')"
check '/openapi.json has each path' \
    '/,/api/tasks,/api/tasks/{id},/api/tasks/{id}/complete,/docs,/health,/openapi.json,/ready' \
    "$(json '.paths | keys | join(",")')"
for path in / /health /ready /openapi.json; do
    request GET "$path"
    length=$(header Content-Length)
    check "$path needs no token, and is JSON with the common headers" '200 application/json no-store nosniff Origin' \
        "$status $(header Content-Type) $(header Cache-Control) $(header X-Content-Type-Options) $(header Vary)"
    request HEAD "$path"
    check "HEAD $path has the headers of GET" "200 $length" "$status $(header Content-Length)"
    raw "HEAD $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    check "HEAD $path has no body" '200 ' "$status $body"
    request GET "$path?x=y" --header 'Authorization: Bearer nonsense'
    check "$path ignores token and query" 200 "$status"
done
for path in /health/ /ready/ /openapi.json/ /docs/; do
    request GET "$path"
    check "$path accepts one trailing slash" 200 "$status"
done

# asked: how many statements the database has seen; fails if there are none, since then they would not be logged
asked() {
    grep -c 'LOG:  \(statement\|execute\)' "$work/postgres/log"
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
check "/ready queries the database at most once a second" true \
    "$([ $(($(asked) - before)) -le "$most" ] && echo true || echo "$(($(asked) - before)) times, not $most")"

# --- Errors in the configuration ---

# fails_to_start VARIABLE=VALUE…: sets $exit_status and $complaint
fails_to_start() {
    exit_status=0
    complaint=$(env -u NEON_DATABASE_URL -u BETTER_AUTH_SECRET HOST=127.0.0.1 PORT="$port" "$@" \
        "$server_binary" 2>&1) || exit_status=$?
}

# named TEXT: the error of the server contains this
named() {
    check_contains "the error names $1" "$1" "$complaint"
}

stop_server
fails_to_start PORT=http ALLOWED_ORIGINS=localhost
check 'without configuration it exits with 1' 1 "$exit_status"
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
    check_lacks 'the error shows no secret' "$complaint" pa55word s3cret
done
fails_to_start NEON_DATABASE_URL='postgresql://todo@127.0.0.1/x?wonder=1' BETTER_AUTH_SECRET="$BETTER_AUTH_SECRET"
named wonder

# checked VARIABLE=VALUE…: runs --check on a free port; sets $exit_status and $said
checked() {
    exit_status=0
    said=$(env HOST=127.0.0.1 PORT=0 NEON_DATABASE_URL="$database_url" "$@" "$server_binary" --check) || exit_status=$?
}

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
serves 'white space around the URL is ignored' NEON_DATABASE_URL="  $database_url "
line_end='
'
serves 'a line end after the URL is ignored' NEON_DATABASE_URL="$database_url$line_end"
serves 'quotes around the URL are ignored' NEON_DATABASE_URL="\"$database_url\""
serves 'single quotes around the URL are ignored' NEON_DATABASE_URL="'$database_url'"
serves 'sslmode=disable is accepted' NEON_DATABASE_URL="$database_url?sslmode=disable"

serves 'limits can be set' DB_POOL_SIZE=1 MAX_CONNECTIONS=10 MAX_BODY_BYTES=1024 \
    IDLE_TIMEOUT_MS=1000 DRAIN_TIMEOUT_MS=100
send ada POST /api/tasks "{\"title\":\"$(text_of 1024 x)\"}"
check 'a body over the limit that was set is too large' '413 PAYLOAD_TOO_LARGE' "$(refusal)"
serves 'empty settings count as not set' ALLOWED_ORIGINS= MAX_BODY_BYTES= DB_POOL_SIZE=

stop_server
BETTER_AUTH_SECRET=tiny-but-known start_server
check_logged 'a short secret is logged as a warning' WARN
check_logged 'the warning has its name' BETTER_AUTH_SECRET
check_lacks 'the warning does not show it' "$(cat "$work/server.log")" tiny-but-known

# warned TEXT VARIABLE=VALUE…: --check and the log of a start warn with this text
warned() {
    part=$1
    shift
    checked "$@"
    check "--check passes with the warning: $part" 0 "$exit_status"
    check_contains 'the warning is a note' "note settings: $part" "$said"
    stop_server
    start_server "$@"
    check_logged 'the start logs it, too' "$part"
    check_lacks 'the value is not shown' "$(cat "$work/server.log")" "$plain_secret"
}

stop_server
plain_secret=$BETTER_AUTH_SECRET
warned 'BETTER_AUTH_SECRET is in quotes' BETTER_AUTH_SECRET="\"$plain_secret\""
BETTER_AUTH_SECRET=$(printf '"%s"' "$plain_secret")
create quinn quoted # nobody has a token of this user yet
check 'the quotes are a part of the secret' 201 "$status"
BETTER_AUTH_SECRET=$plain_secret
warned 'BETTER_AUTH_SECRET ends with a line end' BETTER_AUTH_SECRET="$plain_secret$line_end"
warned 'BETTER_AUTH_SECRET looks like NAME=value' BETTER_AUTH_SECRET="BETTER_AUTH_SECRET=$plain_secret"
warned 'BETTER_AUTH_SECRET contains a comment' BETTER_AUTH_SECRET="$plain_secret # production"
warned 'BETTER_AUTH_SECRETS, version 2, is in quotes' BETTER_AUTH_SECRETS="2:'$plain_secret'"
printf '\357\273\277%s' "$plain_secret" >"$work/secret"
warned 'BETTER_AUTH_SECRET begins with a byte-order mark' BETTER_AUTH_SECRET= BETTER_AUTH_SECRET_FILE="$work/secret"
warned 'BETTER_AUTH_ISSUER ends with white space' BETTER_AUTH_ISSUER='https://app.example '
warned 'BETTER_AUTH_AUDIENCE is in quotes' BETTER_AUTH_AUDIENCE="'https://app.example'"

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
check_logged 'RUST_LOG=trace logs more' DEBUG

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

# limited_to KIB: what a server of 128 workers says that may have so much memory. Their stacks are large
# (RUST_MIN_STACK, in bytes), so that where there is no room for one there is plenty for everything else.
limited_to() {
    # shellcheck disable=SC3045 # dash and bash both have -v
    (ulimit -v "$1" && RUST_MIN_STACK=67108864 DB_POOL_SIZE=128 HOST=127.0.0.1 PORT=$port \
        NEON_DATABASE_URL=$database_url exec "$server_binary" 2>&1)
}

for memory in 200000 500000 1000000 4000000; do
    exit_status=0
    complaint=$(limited_to "$memory") || exit_status=$?
    check "without the threads that it needs it does not start ($memory KiB)" 1 "$exit_status"
    named 'cannot start the thread'
done

# --- More clients than file descriptors ---

# shellcheck disable=SC3045 # dash and bash both have -S
descriptors=$(ulimit -S -n) && ulimit -S -n 128
start_server DB_STATEMENT_TIMEOUT_MS=60000
# shellcheck disable=SC3045
ulimit -S -n "$descriptors"
PORT=$port perl -MIO::Socket::INET -e '
    my @clients = map { IO::Socket::INET->new("127.0.0.1:$ENV{PORT}") or die "no connection\n" } 1 .. 200;
    print "connected\n"; close STDOUT; sleep 600' >"$work/clients" &
clients=$!
sql 'begin; lock table tasks; select pg_sleep(600)' 2>/dev/null &
helpers="$helpers $clients $!"
is_locked() {
    [ "$(sql "select count(*) from pg_locks where relation = 'tasks'::regclass and granted")" = 1 ]
}
waiting_for_the_lock() {
    [ "$(sql "select count(*) from pg_stat_activity where wait_event_type = 'Lock'")" = "$1" ]
}
wait_until 10 test -s "$work/clients"
wait_until 10 is_locked
# One by one, so that no two share a batch.
for user in 1 2 3 4 5 6 7 8; do
    curl --silent --output /dev/null --header "Authorization: Bearer $(token "$user")" "$base/api/tasks" &
    helpers="$helpers $!"
    wait_until 10 waiting_for_the_lock "$user" || break
done
check_that 'clients cannot take the descriptors of the database' waiting_for_the_lock 8
sql "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'" >/dev/null
kill "$clients"
stop_server

# --- HOST and PORT ---

start_server
check_logged 'the log has the address' "listening on http://127.0.0.1:$port"
fails_to_start NEON_DATABASE_URL="$database_url" BETTER_AUTH_SECRET="$BETTER_AUTH_SECRET"
check 'a port that is taken is an error' 1 "$exit_status"
named "$port"
checked PORT="$port"
check 'a port that is taken fails --check' 1 "$exit_status"
check_contains '--check names the port' "FAIL address: cannot listen on HOST=\`127.0.0.1\` PORT=$port: " "$said"
checked ADMIN_ADDR="127.0.0.1:$port"
check 'an ADMIN_ADDR that is taken fails --check' 1 "$exit_status"
check_contains '--check names ADMIN_ADDR' "FAIL address: cannot listen on ADMIN_ADDR=\`127.0.0.1:$port\`: " "$said"
fails_to_start NEON_DATABASE_URL="$database_url" BETTER_AUTH_SECRET="$BETTER_AUTH_SECRET" PORT=0 \
    ADMIN_ADDR="127.0.0.1:$port"
check 'an ADMIN_ADDR that is taken is an error' 1 "$exit_status"
named "ADMIN_ADDR=\`127.0.0.1:$port\`"
free=$("$dev" free-port)
checked PORT="$free" ADMIN_ADDR="127.0.0.1:$free"
check 'one address for HOST and ADMIN_ADDR fails --check' 1 "$exit_status"
for host in x86_64-conda-linux-gnu '"127.0.0.1"' 192.0.2.7; do
    fails_to_start NEON_DATABASE_URL="$database_url" BETTER_AUTH_SECRET="$BETTER_AUTH_SECRET" HOST="$host" PORT=0
    check "HOST=$host is an error" 1 "$exit_status"
    named "HOST=\`$host\`"
    checked HOST="$host"
    check_contains "--check names HOST=$host" "HOST=\`$host\`" "$(echo "$said" | grep '^FAIL address')"
done
checked HOST='[127.0.0.1]'
check 'an address in brackets passes --check' '0 1' \
    "$exit_status $(echo "$said" | grep -c '^ok   address: can listen on 127.0.0.1:')"
checked HOST=::
unspecified=$(echo "$said" | grep ' address: ' | sed 's/[0-9]*$//; s/HOST=[^ ]*//')
checked HOST='[::]'
check 'HOST=[::] is HOST=::' "$unspecified" "$(echo "$said" | grep ' address: ' | sed 's/[0-9]*$//; s/HOST=[^ ]*//')"
echo 'no PEM' >"$work/ca.pem"
checked DATABASE_CA_FILE="$work/ca.pem"
check 'a file without certificates fails --check' 1 "$exit_status"
check_contains '--check names DATABASE_CA_FILE' 'FAIL settings: DATABASE_CA_FILE ' "$said"
request GET /health
check 'the server that has the port is not disturbed' 200 "$status"

# --- Shutdown ---

for signal in TERM INT; do
    stop_server "$signal"
    check "SIG$signal ends it with 0" 0 "$exit_status"
    check "after SIG$signal the port is closed" 000 \
        "$(curl --silent --output /dev/null --write-out '%{http_code}' "$base/health" || true)"
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
check 'an open request is answered before the end' '201 late' \
    "$(cat "$work/late_status") $(jq -r .title "$work/late")"
# A second signal would end it at once, with 1.
wait_until 30 server_has_ended
stop_server
check 'the server then ends with 0' 0 "$exit_status"
