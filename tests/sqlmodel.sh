# User story: SQLModel created my table, and its data is served without a change to the table.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database -c timezone=America/New_York

# As SQLModel creates it: no defaults in the database, and timestamps without time zone.
table_sql=$root/tests/sqlmodel/table.sql

make_table() {
    sql "$(cat "$table_sql")"
    sql "insert into tasks (user_id, title, description, completed, created_at, updated_at)
        values ('ada', 'from before', null, false, '2024-07-01 12:00:00', '2024-12-31 23:59:59.123456')"
}

# table: its definition; the random keys in a dump are removed
table() {
    pg_dump --schema-only | sed '/^[\\]/d'
}

# --- SQLModel itself ---

python_packages sqlmodel
check 'SQLModel creates exactly this table' "$(cat "$table_sql")" \
    "$("$venv/bin/python" -W ignore "$root/tests/sqlmodel/make_table.py")"

check 'the time zone of the database is New York' America/New_York "$(sql 'show timezone')"
make_table
table_before=$(table)
start_server

# --- The same six endpoints (sqlmodel_responses.sh compares their responses in full) ---

as ada GET /api/tasks
check 'existing tasks are listed' '200 from before' "$(response '.[].title')"
check 'a time without zone is UTC' '2024-07-01T12:00:00.000000Z' "$(json '.[0].created_at')"
check 'microseconds are kept' '2024-12-31T23:59:59.123456Z' "$(json '.[0].updated_at')"
before=$(json .[0])
send ada POST /api/tasks '{"title":"milk","description":"oat"}'
check 'a task can be created' '201 milk oat false' \
    "$(response '.title + " " + .description + " " + (.completed | tostring)')"
check 'created_at is now in UTC' true "$(json '(.created_at[0:19] + "Z" | fromdate) - now | fabs < 60')"
check 'created_at equals updated_at' true "$(json '.created_at == .updated_at')"
check 'created_at in the table is now in UTC' t \
    "$(sql "select abs(extract(epoch from created_at - (now() at time zone 'UTC'))) < 60
    from tasks where title = 'milk'")"
created=$body
id=$(json .id)
as ada GET "/api/tasks/$id"
check 'a new task can be read' "200 $created" "$status $body"
send ada PUT /api/tasks/1 '{"description":"now with one"}'
check 'an existing task can be changed' '200 now with one' "$(response .description)"
check 'its created_at is unchanged' '2024-07-01T12:00:00.000000Z' "$(json .created_at)"
check 'its updated_at is now in UTC' true "$(json '(.updated_at[0:19] + "Z" | fromdate) - now | fabs < 60')"
send ada PUT "/api/tasks/$id" '{"description":null,"title":"cream"}'
check 'a new task can be changed' '200 cream null' "$(response '.title + " " + (.description | tostring)')"
as ada PATCH "/api/tasks/$id/complete"
check 'a task can be toggled' '200 true' "$(response .completed)"
send ada PATCH "/api/tasks/$id/complete" '{"completed":false}'
check 'completed can be set' '200 false' "$(response .completed)"
as bob GET /api/tasks/1
check 'another user gets a 404' 404 "$status"
as bob GET /api/tasks
check 'another user has an empty list' '200 []' "$(response .)"
as ada DELETE "/api/tasks/$id"
check 'a task can be deleted' 204 "$status"
send ada POST /api/tasks "{\"title\":\"$(text_of 255 🦀)\",\"description\":\"$(text_of 10000 ש)\"}"
check 'the longest texts are accepted' '201 255 10000' \
    "$(response '"\(.title | length) \(.description | length)"')"

# --- The table stays as it is ---

check 'start and requests did not change the table' "$table_before" "$(table)"
check 'the existing row is still there' 'from before' "$(sql "select title from tasks where id = 1")"
check 'the existing task has only the requested change' \
    "$(printf '%s' "$before" | jq -c 'del(.description, .updated_at)')" \
    "$(as ada GET /api/tasks/1 && json 'del(.description, .updated_at)')"
stop_server
start_server
as ada GET /api/tasks
check 'a second start does not change the table' "200 $table_before" "$status $(table)"
check_lacks 'the log shows no error and no warning' "$(cat "$work/server.log")" ' ERROR ' ' WARN '
stop_server
sql "alter table tasks add column color varchar, add column tags integer not null default 0"
start_server
send ada POST /api/tasks '{"title":"with more columns","color":"high"}'
check 'additional columns are ignored' "201 $(task_fields)" "$(response 'keys | join(" ")')"
as ada DELETE "/api/tasks/$(json .id)"
stop_server
sql "alter table tasks drop column color, drop column tags"

# --- A role with privileges on the table only ---

sql "create role guest login password 'guest'"
sql 'revoke create on schema public from public'
sql 'grant select, insert, update, delete on tasks to guest'
sql 'grant usage on sequence tasks_id_seq to guest'
owner_url=$database_url
database_url=postgresql://guest:guest@$PGHOST:$PGPORT/$PGDATABASE
start_server
send ada POST /api/tasks '{"title":"by a guest"}'
check 'a role without create privilege can create tasks' '201 by a guest' "$(response .title)"
id=$(json .id)
send ada PUT "/api/tasks/$id" '{"completed":true}'
check 'it can change tasks' '200 true' "$(response .completed)"
as ada GET /api/tasks
check 'it can list tasks' 200 "$status"
as ada DELETE "/api/tasks/$id"
check 'it can delete tasks' 204 "$status"
request GET /ready
check '/ready is 200' 200 "$status"
stop_server

sql 'revoke select, insert, update, delete on tasks from guest'
start_server
as ada GET /api/tasks
check_contains 'a role without privileges gets a 500 or 503' "$status" '500 503'
check_lacks 'the response does not show the cause' "$(printf '%s' "$body" | tr '[:upper:]' '[:lower:]')" \
    permission denied guest relation
check_logged 'the log has the cause' 'this role lacks rights on the table'
stop_server

# --- The table that the server creates ---

database_url=$owner_url
sql 'drop table tasks'
start_server
create ada first
check 'without a table, the server creates one' '201 1' "$(response .id)"
table_before=$(table)
stop_server
start_server
create ada second
check 'the next start does not change it' "201 $table_before" "$status $(table)"
check 'its timestamps have a time zone' 'timestamp with time zone' \
    "$(sql "select distinct data_type from information_schema.columns
        where table_name = 'tasks' and column_name like '%_at'")"
as ada GET /api/tasks
check 'created_at does not depend on the time zone of the database' true \
    "$(json 'all(.[]; (.created_at[0:19] + "Z" | fromdate) - now | fabs < 60)')"
stop_server

# --- Several servers start at once on an empty database ---

sql 'drop table tasks'
first_servers=
for _ in 1 2 3; do
    start_server
    first_servers="$first_servers $server"
done
for path in 1 2 3; do
    create ada "$path"
done
check 'servers that start at the same time create one table' '201 3' "$status $(sql 'select count(*) from tasks')"
# shellcheck disable=SC2086 # one word a process
kill $first_servers
# shellcheck disable=SC2086
wait $first_servers || true
server=
