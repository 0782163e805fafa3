# User story: while the database is down the service answers 503 at once; it recovers by itself.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# ready_is STATUS
ready_is() {
    request GET /ready
    [ "$status" = "$1" ]
}

# unavailable WHAT METHOD PATH [CURL_OPTION…]: a 503 within 5 seconds
unavailable() {
    what=$1
    shift
    begun=$(date +%s)
    as ada "$@" --header 'Origin: http://localhost:3000'
    seconds=$(($(date +%s) - begun))
    check "$what: $1 $2 is 503" '503 SERVICE_UNAVAILABLE' "$(refusal)"
    check "$what: $1 $2 answers within 5 seconds" true "$([ "$seconds" -le 5 ] && echo true || echo "$seconds seconds")"
    check "$what: $1 $2 has Retry-After" true \
        "$(header Retry-After | sed -E 's/^[1-9][0-9]*$/true/')"
    check "$what: $1 $2 can be read by the page" 'http://localhost:3000' "$(header Access-Control-Allow-Origin)"
    check_lacks "$what: $1 $2 shows no text of the database" "$(printf '%s' "$body" | tr '[:upper:]' '[:lower:]')" \
        127.0.0.1 postgres connect refused shut sql
}

# lives WHAT: responses that need no database are given
lives() {
    request GET /health
    check "$1: /health is 200" 200 "$status"
    request GET /
    check "$1: / is 200" 200 "$status"
    request GET /api/tasks
    check "$1: a request without a token is a 401" '401 AUTHENTICATION_REQUIRED' "$(refusal)"
    send ada POST /api/tasks '{}'
    check_contains "$1: an invalid body is a 422 or a 503" "$status" '422 503'
    request OPTIONS /api/tasks --header 'Origin: http://localhost:3000' --header 'Access-Control-Request-Method: GET'
    check "$1: preflights are answered" 204 "$status"
}

works() {
    as ada GET /api/tasks
    [ "$status" = 200 ]
}

is_ready() {
    request GET /ready
    [ "$status" = 200 ]
}

# recovers WHAT
recovers() {
    check_that "$1: the API works again by itself" wait_until 15 works
    check_that "$1: /ready is 200 again" wait_until 5 is_ready
}

# --- The database is down at the start ---

start_database
stop_database
start_server
lives 'down at the start'
unavailable 'down at the start' GET /ready
unavailable 'down at the start' GET /api/tasks
unavailable 'down at the start' POST /api/tasks --data-raw '{"title":"x"}'
unavailable 'down at the start' PUT /api/tasks/1 --data-raw '{"title":"x"}'
unavailable 'down at the start' PATCH /api/tasks/1/complete
unavailable 'down at the start' DELETE /api/tasks/1
check_logged 'the log has a warning' WARN
check_lacks 'the log does not have the password' "$(cat "$work/server.log")" "$PGPASSWORD"

url_before=$database_url
start_database
check 'the database has the same URL as before' "$url_before" "$database_url"
recovers 'after the first start of the database'
create ada kept
check 'tasks can be created' 201 "$status"

# --- The table that the server creates ---

check 'the server creates the table tasks and no other' tasks \
    "$(sql "select string_agg(table_name, ',') from information_schema.tables where table_schema = 'public'")"
check 'users are compared byte by byte, whatever the language of the database' C \
    "$(sql "select collname from pg_attribute join pg_collation on pg_collation.oid = attcollation
        where attrelid = 'tasks'::regclass and attname = 'user_id'")"
# shellcheck disable=SC2016 # the backquotes of a table in Markdown
check 'the table has the columns of the specification, and none that holds a credential' \
    "$(sed -n 's/^| `\([a-z_]*\)` | `\([a-z]*\)[^|]* | \(yes\|no\) |.*/\1 \2 \3/p' "$root/specs/database/schema.md")" \
    "$(sql "select concat_ws(' ', column_name, replace(data_type, 'timestamp with time zone', 'timestamptz'),
        lower(is_nullable)) from information_schema.columns where table_name = 'tasks' order by ordinal_position")"
check 'the primary key is id' 'PRIMARY KEY (id)' \
    "$(sql "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'tasks'::regclass and contype = 'p'")"
check 'an index begins with user_id' 1 \
    "$(sql "select count(*) from pg_indexes where tablename = 'tasks' and indexdef like '% (user_id, %'")"
check_contains 'the list is read from the index without sorting' 'Index Scan using' \
    "$(sql "set enable_seqscan = off; set enable_sort = off;
    explain (costs off) select * from tasks where user_id = 'ada' order by created_at desc, id desc")"

# --- The database stops while the server runs ---

for mode in fast immediate; do
    stop_database "$mode"
    unavailable "stopped ($mode)" GET /api/tasks
    unavailable "stopped ($mode)" GET "/api/tasks/$id"
    lives "stopped ($mode)"
    wait_until 3 ready_is 503 || true
    check "stopped ($mode): /ready is 503" 503 "$status"
    start_database
    recovers "started after it was stopped ($mode)"
    as ada GET "/api/tasks/$id"
    check "started after it was stopped ($mode): the task is kept" '200 kept' "$(response .title)"
done

# --- Connections are closed, the database runs ---

cut_connections() {
    sql "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and application_name <> ''
        and backend_type = 'client backend'" >/dev/null
}

for attempt in first second third; do
    works
    cut_connections
    as ada GET /api/tasks
    check "all connections closed, $attempt time: GET works" 200 "$status"
done

# --- A statement that exceeds its timeout ---

(sql 'begin; lock table tasks; select pg_advisory_lock(1); select pg_sleep(60)' >/dev/null 2>&1 || true) &
locker=$!
is_locked() {
    [ "$(sql "select count(*) from pg_locks where locktype = 'advisory' and granted")" != 0 ]
}
wait_until 10 is_locked
begun=$(date +%s)
as ada GET /api/tasks
check 'a statement that waits for a lock is a 503' '503 SERVICE_UNAVAILABLE' "$(refusal)"
check 'it is a 503 within 10 seconds' true "$([ $(($(date +%s) - begun)) -le 10 ] && echo true)"
lives 'while the table is locked'
sql "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'" >/dev/null
wait "$locker" || true
recovers 'after the lock is released'

# --- The end ---

stop_database immediate
stop_server
check 'SIGTERM stops the server while the database is down' 0 "$exit_status"
start_server
stop_server
check 'SIGTERM stops a server that never reached its database' 0 "$exit_status"
start_database
start_server
stop_server
check 'SIGTERM stops the server' 0 "$exit_status"
