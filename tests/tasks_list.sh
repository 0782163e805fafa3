# User story: I list my tasks, newest first, or filtered, searched, sorted and in pages.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

# listed NAME EXPECTED_TITLES QUERY
listed() {
    as ada GET "/api/tasks$3"
    check "$1" "200 $2" "$(response '[.[].title] | join(",")')"
}

# total NAME EXPECTED
total() {
    check "$1" "$2" "$(header X-Total-Count)"
}

# refused NAME VIOLATIONS QUERY
refused() {
    as ada GET "/api/tasks$3"
    check "$1" "422 VALIDATION_ERROR $2" "$(violation)"
}

# --- The list ---

as ada GET /api/tasks
check 'a list without tasks is an empty array' '200 []' "$status $body"
check 'a list is JSON' application/json "$(header Content-Type)"

for title in one two three; do
    create ada "$title"
done
last_created=$body
listed 'a list is a bare array, newest first' three,two,one ''
check 'a list has the task that POST answered with' "$last_created" "$(json '.[0]')"
check 'each task has all fields' "$(task_fields)" "$(json 'map(keys | join(" ")) | unique | .[]')"
total 'a whole list has no X-Total-Count' ''
listed 'one trailing slash is accepted' three,two,one /

as ada GET /api/tasks
length=$(header Content-Length)
as ada HEAD /api/tasks
check 'HEAD has the headers of GET' "200 $length application/json" \
    "$status $(header Content-Length) $(header Content-Type)"
as ada HEAD '/api/tasks?limit=1'
total 'HEAD has X-Total-Count' 3

sql "update tasks set created_at = '2020-01-01', updated_at = '2020-01-01'"
listed 'equal created_at: larger id first' three,two,one ''
listed 'equal created_at: the same order in pages' two '?limit=1&offset=1'
listed 'equal created_at, order=asc: smaller id first' one,two,three '?order=asc'

# --- Filters ---

sql "delete from tasks"
sql "insert into tasks (user_id, title, description, completed, created_at, updated_at) values
    ('ada', 'banana', 'Yellow',     false, '2020-01-01', '2020-06-03'),
    ('ada', 'Apple',  'red & 100%', true,  '2020-01-02', '2020-06-02'),
    ('ada', 'cherry', null,         false, '2020-01-03', '2020-06-01'),
    ('ada', 'ÄPFEL_', '',           true,  '2020-01-04', '2020-06-04'),
    ('bob', 'banana', 'Yellow',     false, '2020-01-05', '2020-06-05')"

listed 'no filter: all tasks' ÄPFEL_,cherry,Apple,banana ''
listed 'status=pending' cherry,banana '?status=pending'
listed 'status=completed' ÄPFEL_,Apple '?status=completed'
listed 'status=all' ÄPFEL_,cherry,Apple,banana '?status=all'
for value in open 'done' '' PENDING pending%20 null; do
    listed "an unknown status ($value) is ignored" ÄPFEL_,cherry,Apple,banana "?status=$value"
done
listed 'completed=true' ÄPFEL_,Apple '?completed=true'
listed 'completed=false' cherry,banana '?completed=false'
for value in maybe '' null; do
    listed "an unknown completed ($value) is ignored" ÄPFEL_,cherry,Apple,banana "?completed=$value"
done
listed 'status overrides completed' cherry,banana '?status=pending&completed=true'
listed 'status overrides completed in any order' cherry,banana '?completed=true&status=pending'
listed 'an unknown status does not override completed' ÄPFEL_,Apple '?status=open&completed=true'

listed 'search finds a part of a title' banana '?search=nan'
listed 'search finds a part of a description' banana '?search=ello'
listed 'search ignores case in the title' Apple '?search=aPPLE'
listed 'search ignores case in the description' banana '?search=YELLOW'
listed 'search ignores case in other alphabets' ÄPFEL_ '?search=%C3%A4pfel'
listed 'search takes % literally' Apple '?search=%25'
listed 'search takes _ literally' ÄPFEL_ '?search=_'
listed 'search does not use % as a wildcard' '' '?search=b%25a'
listed 'search takes a backslash literally' '' '?search=%5C'
listed 'search takes a quote literally' '' "?search=%27%20or%20%271%27=%271"
listed 'search reads + as a space' Apple '?search=red+%26'
listed 'search is percent-decoded' Apple '?search=red%20%26%20100'
listed 'search without a match is empty' '' '?search=nothing'
listed 'an empty search is ignored' ÄPFEL_,cherry,Apple,banana '?search='
listed 'search and status are combined' Apple '?search=a&status=completed'
listed 'search for an absent emoji is empty' '' '?search=%F0%9F%A6%80'
refused 'search with a NUL character is a 422' 'query.search string_nul' '?search=%00'

# --- Order ---

listed 'sort=created_at is newest first' ÄPFEL_,cherry,Apple,banana '?sort=created_at'
listed 'sort=created is the same' ÄPFEL_,cherry,Apple,banana '?sort=created'
listed 'sort=created_at&order=asc' banana,Apple,cherry,ÄPFEL_ '?sort=created_at&order=asc'
listed 'sort=created_at&order=desc' ÄPFEL_,cherry,Apple,banana '?sort=created_at&order=desc'
listed 'sort=updated_at is last changed first' ÄPFEL_,banana,Apple,cherry '?sort=updated_at'
listed 'sort=updated is the same' ÄPFEL_,banana,Apple,cherry '?sort=updated'
listed 'sort=updated_at&order=asc' cherry,Apple,banana,ÄPFEL_ '?sort=updated_at&order=asc'
listed 'sort=title is ascending and ignores case' Apple,banana,cherry '?sort=title&limit=3'
listed 'sort=title&order=asc' Apple,banana,cherry '?sort=title&order=asc&limit=3'
listed 'sort=title&order=desc' cherry,banana,Apple '?sort=title&order=desc&offset=1'
listed 'order=asc alone is oldest first' banana,Apple,cherry,ÄPFEL_ '?order=asc'
for value in unknown color '' id 'title;drop%20table%20tasks' CREATED_AT; do
    listed "an unknown sort ($value) is ignored" ÄPFEL_,cherry,Apple,banana "?sort=$value"
done
for value in up '' ASCENDING null; do
    listed "an unknown order ($value) is ignored" ÄPFEL_,cherry,Apple,banana "?order=$value"
done
listed 'an unknown sort does not change order' banana,Apple,cherry,ÄPFEL_ '?sort=unknown&order=asc'
listed 'filter and order are combined' ÄPFEL_,Apple '?status=completed&sort=updated_at&order=desc'

# --- Aliases ---

listed 'sort_by is sort' ÄPFEL_,banana,Apple,cherry '?sort_by=updated_at'
listed 'sort_order is order' banana,Apple,cherry,ÄPFEL_ '?sort_order=asc'
listed 'skip is offset' banana '?skip=3'
total 'with skip X-Total-Count counts the whole list' 4
listed 'q is search' banana '?q=nan'
listed 'an alias is ignored where its parameter is given' Apple \
    '?search=red&q=nan&sort=title&sort_by=updated_at&offset=0&skip=9'
refused 'a wrong alias is named as it was sent' 'query.skip int_parsing' '?skip=x'

# --- Pages ---

listed 'limit=1' ÄPFEL_ '?limit=1'
total 'with limit X-Total-Count counts the whole list' 4
listed 'limit=2&offset=1' cherry,Apple '?limit=2&offset=1'
total 'with limit and offset X-Total-Count counts the whole list' 4
listed 'offset=3' banana '?offset=3'
total 'with offset X-Total-Count counts the whole list' 4
listed 'offset=0' ÄPFEL_,cherry,Apple,banana '?offset=0'
total 'with offset=0 X-Total-Count counts the whole list' 4
listed 'limit=1000 is the largest' ÄPFEL_,cherry,Apple,banana '?limit=1000'
listed 'an offset at the end is empty' '' '?offset=4'
total 'beyond the end X-Total-Count counts the whole list' 4
listed 'an offset far beyond the end is empty' '' '?offset=1000000000000&limit=5'
listed 'a page of a filtered list' Apple '?status=completed&limit=1&offset=1'
total 'X-Total-Count counts the filtered list' 2
listed 'a page of a search without a match is empty' '' '?search=nothing&limit=5'
total 'X-Total-Count of a search without a match is 0' 0
as nobody GET '/api/tasks?limit=5'
check 'a page of an empty list is empty' '200 [] 0' "$status $body $(header X-Total-Count)"
listed 'a page of a sorted list' banana,cherry '?sort=title&limit=2&offset=1'

refused 'limit=0 is too small' 'query.limit greater_than_equal' '?limit=0'
refused 'limit=1001 is too large' 'query.limit less_than_equal' '?limit=1001'
refused 'limit=-1 is too small' 'query.limit greater_than_equal' '?limit=-1'
refused 'offset=-1 is too small' 'query.offset greater_than_equal' '?offset=-1'
for value in abc 1.5 '' 1e3 0x10 null 5%20 99999999999999999999; do
    refused "limit=$value is not an integer" 'query.limit int_parsing' "?limit=$value"
    refused "offset=$value is not an integer" 'query.offset int_parsing' "?offset=$value"
done
refused 'all errors are in one response' 'query.limit int_parsing, query.offset greater_than_equal' \
    '?limit=x&offset=-1'

listed 'unknown parameters are ignored' ÄPFEL_,cherry,Apple,banana '?page=2&per_page=1&unknown=high&user_id=bob&=&&x'
listed 'malformed percent-encoding is accepted' ÄPFEL_,cherry,Apple,banana '?x=%&y=%zz&z=%ff'
listed 'an empty query is accepted' ÄPFEL_,cherry,Apple,banana '?'

# --- Long lists ---

sql "insert into tasks (user_id, title, description, completed, created_at, updated_at)
    select 'ada', n, null, false, timestamptz '2020-01-01' + (n / 7) * interval '1 s', now()
    from generate_series(1, 2500) as n"
as ada GET /api/tasks
check 'a list of several pages is complete' '200 2504' "$(response length)"
check 'a list of several pages is chunked' 'chunked,' "$(header Transfer-Encoding),$(header Content-Length)"
as ada HEAD /api/tasks
check 'HEAD of a list of several pages has no Content-Length' '200 application/json ' \
    "$status $(header Content-Type) $(header Content-Length)"
as ada GET '/api/tasks?limit=1000'
check 'limit=1000 has a Content-Length' \
    ",$(printf %s "$body" | wc -c)" "$(header Transfer-Encoding),$(header Content-Length)"
as ada GET '/api/tasks?offset=3'
check 'a list after an offset may have several pages' '200 2501' "$(response length)"
total 'X-Total-Count of several pages counts the whole list' 2504
as ada GET '/api/tasks?sort=title&order=desc'
check 'several pages sorted by title are in order' true \
    "$(json '[.[] | [(.title | ascii_downcase), .id]] | . == (sort | reverse)')"
sql "insert into tasks (user_id, title, description, completed, created_at, updated_at)
    select 'eve', n, repeat('x', 100000), false, now(), now() from generate_series(1, 6) as n"
as eve GET '/api/tasks?limit=5'
check 'a limit holds over several pages' '200 5' "$(response length)"
as ada GET /api/tasks
whole=$(json '[.[].id]')
offset=0
pages=
while [ "$offset" -lt 2504 ]; do
    as ada GET "/api/tasks?limit=1000&offset=$offset"
    pages="$pages$(json '[.[].id]')"
    offset=$((offset + 1000))
done
check 'pages by offset make up the list: none repeated, none missing' "$whole" \
    "$(printf '%s' "$pages" | jq -sc add)"
