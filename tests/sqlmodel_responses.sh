# User story: SQLModel created my table, and every response is the same as over the table that the server creates.
#
# Two servers, one over each table with the same rows, get the same requests. Their responses must be equal to the byte,
# except for dates, request ids, entity tags, and times after the start of this test.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database -c timezone=America/New_York
cluster_url=${database_url%/*}
sql 'create database own'
sql 'create database sqlmodel'

# on TABLE: selects the server over this table, and its database
on() {
    export PGDATABASE="$1"
    case $1 in
        own) base=$own_base ;;
        sqlmodel) base=$sqlmodel_base ;;
    esac
}

own_base='' sqlmodel_base=''
PGDATABASE=sqlmodel
sql "$(cat "$root/tests/sqlmodel/table.sql")"
database_url=$cluster_url/sqlmodel
start_server
sqlmodel_base=$base helpers=$server
database_url=$cluster_url/own
start_server
own_base=$base
create ada 'the first request creates the table'
check 'the server has created its table' 201 "$status"

# Rows of another program, the same in both tables: various texts, equal times, and a list of several pages.
seed="set timezone = 'UTC';
    truncate tasks restart identity;
    insert into tasks (user_id, title, description, completed, created_at, updated_at) values
        ('ada', 'Milk', 'oat', false, '2024-07-01 12:00:00', '2024-07-02 12:00:00.000001'),
        ('ada', 'bread', null, true, '2024-07-01 12:00:00', '2024-12-31 23:59:59.999999'),
        ('ada', '50% _off_ \\ today', '', false, '2024-03-10 02:30:00', '2024-03-10 02:30:00'),
        ('ada', 'ÀÉß 🦀 שלום', repeat('ש', 10000), true, '1970-01-01 00:00:00', '2024-11-03 01:30:00'),
        ('ada', repeat('🦀', 255), null, false, '2024-07-01 12:00:00.5', '2024-07-01 12:00:00.5'),
        ('eve', 'never and always', null, false, '-infinity', 'infinity'),
        ('eve', 'far', null, false, '20000-01-01 00:00:00', '0044-03-15 00:00:00 BC'),
        ('bob', 'another user', null, false, '2024-07-01 12:00:00', '2024-07-01 12:00:00');
    insert into tasks (user_id, title, description, completed, created_at, updated_at)
        select 'carol', 'task ' || n, repeat('x', n % 300), n % 3 = 0,
            timestamp '2024-01-01' + n % 700 * interval '1 minute', timestamp '2024-02-01' - n * interval '1 second'
        from generate_series(1, 2500) as n;"
for table in own sqlmodel; do
    on "$table"
    sql "$seed"
done
seeded='select count(*) from tasks'
check 'both tables start with the same rows' '2508 2508' "$(on own && sql "$seeded") $(on sqlmodel && sql "$seeded")"

# observe TABLE NAME METHOD PATH [CURL_OPTION…]: prints the response, and stores its entity tag
observe() {
    on "$1"
    table=$1
    shift
    tag=$(cat "$work/tag.$table" 2>/dev/null || echo none)
    number=$#
    for word in "$@"; do
        set -- "$@" "$(printf %s "$word" | sed "s/@TAG/$tag/")"
    done
    shift "$number"
    as "$@"
    new_tag=$(header ETag | tr -d '"')
    [ -z "$new_tag" ] || echo "$new_tag" >"$work/tag.$table"
    { printf '%s\n\n' "$headers" && cat "$body_file" && echo; } | sed -E \
        -e '/^(Date|X-Request-Id|Server-Timing):/d' -e 's/^(ETag): .*/\1: …/' \
        -e "s/\"$this_year-[0-9]{2}-[0-9]{2}T[0-9:.]+Z\"/\"a time from now\"/g"
}

this_year=$(date -u +%Y)

# same STATUS NAME METHOD PATH [CURL_OPTION…]: both responses are equal and have this status. @TAG is the last entity
# tag.
same() {
    expected_status=$1
    shift
    observe own "$@" >"$work/own"
    own_status=$status
    observe sqlmodel "$@" >"$work/sqlmodel"
    check "$*" "$expected_status $expected_status" "$own_status $status"
    cmp -s "$work/own" "$work/sqlmodel" ||
        fail "$*: the responses differ" "$(diff "$work/own" "$work/sqlmodel" | cut -c 1-200)"
}

# --- Reading ---

while read -r query; do
    same 200 ada GET "/api/tasks$query"
done <<'END_OF_QUERIES'

?status=pending
?status=completed&sort=title
?completed=true&sort=updated_at&order=asc
?completed=false&sort=created_at&order=asc
?sort=title&order=desc
?sort=updated_at
?search=MILK
?search=%25
?search=_off_
?search=%5C
?search=%C3%A0
?search=oat&status=pending&sort=title
?limit=3
?limit=3&offset=2
?limit=1&offset=100
?limit=2&sort=title&order=asc&search=e
END_OF_QUERIES
same 200 carol GET /api/tasks
same 200 carol GET '/api/tasks?sort=title'
same 200 carol GET '/api/tasks?sort=updated_at&order=asc&status=pending'
same 200 carol GET '/api/tasks?limit=1000&offset=1100'
# Times that RFC 3339 cannot express.
same 200 eve GET /api/tasks
same 200 eve GET /api/tasks/6
same 200 dave GET /api/tasks
same 200 ada HEAD /api/tasks
for id in 1 2 3 4 5; do
    same 200 ada GET "/api/tasks/$id"
done
same 404 ada GET /api/tasks/8
same 404 ada GET /api/tasks/2147483647
same 404 ada GET /api/tasks/2147483648
same 404 ada GET /api/tasks/99999999999999999999
same 422 ada GET /api/tasks/abc
same 422 ada GET '/api/tasks?limit=x'

# --- Writing ---

while read -r expected_status json; do
    same "$expected_status" ada POST /api/tasks --data-raw "$json"
done <<END_OF_BODIES
201 {"title":"  trimmed  "}
201 {"title":"all","description":"of them","completed":true,"id":1,"user_id":"bob"}
201 {"title":"empty","description":""}
201 {"title":"null","description":null}
201 {"title":"$(text_of 255 🦀)","description":"$(text_of 10000 ש)"}
422 {"title":"$(text_of 256 🦀)"}
422 {"title":"x","description":"$(text_of 10001 x)"}
422 {"title":"a\u0000b"}
422 {"title":""}
422 {"title":"x","completed":"true"}
END_OF_BODIES
same 200 ada PUT /api/tasks/1 --data-raw '{"title":"changed"}'
same 200 ada PUT /api/tasks/1 --data-raw '{"description":null}'
same 200 ada PUT /api/tasks/2 --data-raw '{"description":"","completed":false}'
same 200 ada PUT /api/tasks/3 --data-raw '{}'
same 422 ada PUT /api/tasks/3 --data-raw "{\"title\":\"$(text_of 256 x)\"}"
same 404 ada PUT /api/tasks/8 --data-raw '{"title":"not mine"}'
same 200 ada PATCH /api/tasks/4/complete
same 200 ada PATCH /api/tasks/4/complete --data-raw '{"completed":true}'
same 200 ada PATCH /api/tasks/3/complete --data-raw '{}'
same 404 ada PATCH /api/tasks/8/complete

# --- Preconditions ---

same 200 ada GET /api/tasks/5
same 304 ada GET /api/tasks/5 --header 'If-None-Match: "@TAG"'
same 200 ada PUT /api/tasks/5 --data-raw '{"title":"by tag"}' --header 'If-Match: "@TAG"'
same 200 ada PATCH /api/tasks/5/complete --header 'If-Match: "@TAG"'
same 412 ada PUT /api/tasks/5 --data-raw '{"title":"lost"}' --header 'If-Match: "0123456789abcdef0123456789abcdef"'
same 412 ada PATCH /api/tasks/5/complete --header 'If-Match: "0123456789abcdef0123456789abcdef"'
same 412 ada DELETE /api/tasks/5 --header 'If-Match: "0123456789abcdef0123456789abcdef"'
same 412 ada PUT /api/tasks/5 --data-raw '{"title":"lost"}' --header 'If-None-Match: *'
same 404 ada PUT /api/tasks/8 --data-raw '{"title":"lost"}' --header 'If-Match: *'
same 204 ada DELETE /api/tasks/5 --header 'If-Match: "@TAG"'
same 404 ada DELETE /api/tasks/5
same 204 ada DELETE /api/tasks/2
same 200 ada GET '/api/tasks?order=asc'

# --- The tables at the end ---

rows="set timezone = 'UTC'; select id, user_id, title, description, completed,
    case when created_at < '$this_year-01-01' then created_at::text end,
    case when updated_at < '$this_year-01-01' then updated_at::text end from tasks order by id"
on own
sql "$rows" | sed 's/+00//g' >"$work/own"
on sqlmodel
sql "$rows" >"$work/sqlmodel"
check_that 'both tables end with the same rows' cmp "$work/own" "$work/sqlmodel"
check_that 'the tables have more than 2,500 rows' test "$(wc -l <"$work/own")" -gt 2500
