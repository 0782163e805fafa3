# User story: I see my tasks, newest first, or those that I look for, in the order that I like.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

# listed NAME EXPECTED_TITLES QUERY
listed() {
    as ada GET "/api/tasks$3"
    check "$1" "200 $2" "$(answer '[.[].title] | join(",")')"
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
check 'without tasks the list is an empty array' '200 []' "$status $body"
check 'a list is JSON' application/json "$(header Content-Type)"

for title in one two three; do
    create ada "$title"
done
last_created=$body
listed 'a list is a bare array, newest first' three,two,one ''
check 'each task in it is the task as its creation told' "$last_created" "$(json '.[0]')"
check 'each task has all seven members' '[7,7,7]' "$(json 'map(length)')"
total 'a whole list has no X-Total-Count' ''
listed 'one trailing slash is forgiven' three,two,one /

as ada GET /api/tasks
length=$(header Content-Length)
as ada HEAD /api/tasks
check 'HEAD has the headers of GET' "200 $length application/json" \
    "$status $(header Content-Length) $(header Content-Type)"
as ada HEAD '/api/tasks?limit=1'
total 'HEAD has X-Total-Count, too' 3

sql "update tasks set created_at = '2020-01-01', updated_at = '2020-01-01'"
listed 'tasks of the same moment: the one with the larger id first' three,two,one ''
listed 'so it is in pages' two '?limit=1&offset=1'
listed 'from the oldest on, the one with the smaller id first' one,two,three '?order=asc'

# --- Which tasks ---

sql "delete from tasks"
sql "insert into tasks (user_id, title, description, completed, created_at, updated_at) values
    ('ada', 'banana', 'Yellow',     false, '2020-01-01', '2020-06-03'),
    ('ada', 'Apple',  'red & 100%', true,  '2020-01-02', '2020-06-02'),
    ('ada', 'cherry', null,         false, '2020-01-03', '2020-06-01'),
    ('ada', 'ÄPFEL_', '',           true,  '2020-01-04', '2020-06-04'),
    ('bob', 'banana', 'Yellow',     false, '2020-01-05', '2020-06-05')"

listed 'all without a filter' ÄPFEL_,cherry,Apple,banana ''
listed 'status=pending' cherry,banana '?status=pending'
listed 'status=completed' ÄPFEL_,Apple '?status=completed'
listed 'status=all' ÄPFEL_,cherry,Apple,banana '?status=all'
for value in open 'done' '' PENDING pending%20 null; do
    listed "an unknown status ($value) is as good as none" ÄPFEL_,cherry,Apple,banana "?status=$value"
done
listed 'completed=true' ÄPFEL_,Apple '?completed=true'
listed 'completed=false' cherry,banana '?completed=false'
for value in maybe '' null; do
    listed "an unknown completed ($value) is as good as none" ÄPFEL_,cherry,Apple,banana "?completed=$value"
done
listed 'status goes before completed' cherry,banana '?status=pending&completed=true'
listed 'status goes before completed, wherever it stands' cherry,banana '?completed=true&status=pending'
listed 'an unknown status leaves completed alone' ÄPFEL_,Apple '?status=open&completed=true'

listed 'search finds a part of a title' banana '?search=nan'
listed 'search finds a part of a description' banana '?search=ello'
listed 'search takes upper and lower case as the same' Apple '?search=aPPLE'
listed 'search does so in the description' banana '?search=YELLOW'
listed 'search does so in other alphabets' ÄPFEL_ '?search=%C3%A4pfel'
listed 'search takes % as it is' Apple '?search=%25'
listed 'search takes _ as it is' ÄPFEL_ '?search=_'
listed 'search finds no % where there is none' '' '?search=b%25a'
listed 'search takes a backslash as it is' '' '?search=%5C'
listed 'search takes a quote as it is' '' "?search=%27%20or%20%271%27=%271"
listed 'in search + is a blank' Apple '?search=red+%26'
listed 'search may be encoded' Apple '?search=red%20%26%20100'
listed 'search finds nothing' '' '?search=nothing'
listed 'an empty search is as good as none' ÄPFEL_,cherry,Apple,banana '?search='
listed 'search and status go together' Apple '?search=a&status=completed'
listed 'search finds no emoji where there is none' '' '?search=%F0%9F%A6%80'
refused 'a NUL character cannot be searched for' 'query.search string_nul' '?search=%00'

# --- In which order ---

listed 'sort=created_at is newest first' ÄPFEL_,cherry,Apple,banana '?sort=created_at'
listed 'sort=created is the same' ÄPFEL_,cherry,Apple,banana '?sort=created'
listed 'sort=created_at&order=asc' banana,Apple,cherry,ÄPFEL_ '?sort=created_at&order=asc'
listed 'sort=created_at&order=desc' ÄPFEL_,cherry,Apple,banana '?sort=created_at&order=desc'
listed 'sort=updated_at is last changed first' ÄPFEL_,banana,Apple,cherry '?sort=updated_at'
listed 'sort=updated is the same' ÄPFEL_,banana,Apple,cherry '?sort=updated'
listed 'sort=updated_at&order=asc' cherry,Apple,banana,ÄPFEL_ '?sort=updated_at&order=asc'
listed 'sort=title is from A on, whatever the case' Apple,banana,cherry '?sort=title&limit=3'
listed 'sort=title&order=asc' Apple,banana,cherry '?sort=title&order=asc&limit=3'
listed 'sort=title&order=desc' cherry,banana,Apple '?sort=title&order=desc&offset=1'
listed 'order=asc alone is oldest first' banana,Apple,cherry,ÄPFEL_ '?order=asc'
for value in priority due_date '' id 'title;drop%20table%20tasks' CREATED_AT; do
    listed "an unknown sort ($value) is as good as none" ÄPFEL_,cherry,Apple,banana "?sort=$value"
done
for value in up '' ASCENDING null; do
    listed "an unknown order ($value) is as good as none" ÄPFEL_,cherry,Apple,banana "?order=$value"
done
listed 'an unknown sort leaves order alone' banana,Apple,cherry,ÄPFEL_ '?sort=priority&order=asc'
listed 'filter and order go together' ÄPFEL_,Apple '?status=completed&sort=updated_at&order=desc'

# --- Pages ---

listed 'limit=1' ÄPFEL_ '?limit=1'
total 'with limit X-Total-Count counts the whole list' 4
listed 'limit=2&offset=1' cherry,Apple '?limit=2&offset=1'
total 'with limit and offset X-Total-Count counts the whole list' 4
listed 'offset=3' banana '?offset=3'
total 'with offset X-Total-Count counts the whole list' 4
listed 'offset=0' ÄPFEL_,cherry,Apple,banana '?offset=0'
total 'with offset=0 X-Total-Count counts, too' 4
listed 'limit=1000 is the largest' ÄPFEL_,cherry,Apple,banana '?limit=1000'
listed 'an offset at the end' '' '?offset=4'
total 'behind the end X-Total-Count still counts the whole list' 4
listed 'an offset far behind the end' '' '?offset=1000000000000&limit=5'
listed 'a page of a filtered list' Apple '?status=completed&limit=1&offset=1'
total 'X-Total-Count counts what the filter leaves' 2
listed 'a page of what is not found' '' '?search=nothing&limit=5'
total 'X-Total-Count of nothing is 0' 0
as nobody GET '/api/tasks?limit=5'
check 'a page of a list without tasks' '200 [] 0' "$status $body $(header X-Total-Count)"
listed 'a page of a sorted list' banana,cherry '?sort=title&limit=2&offset=1'

refused 'limit=0 is none' 'query.limit greater_than_equal' '?limit=0'
refused 'limit=1001 is too large' 'query.limit less_than_equal' '?limit=1001'
refused 'limit=-1 is none' 'query.limit greater_than_equal' '?limit=-1'
refused 'offset=-1 is none' 'query.offset greater_than_equal' '?offset=-1'
for value in abc 1.5 '' 1e3 0x10 null 5%20 99999999999999999999; do
    refused "limit=$value is no number of ours" 'query.limit int_parsing' "?limit=$value"
    refused "offset=$value is no number of ours" 'query.offset int_parsing' "?offset=$value"
done
refused 'everything that is wrong is said at once' 'query.limit int_parsing, query.offset greater_than_equal' \
    '?limit=x&offset=-1'

listed 'unknown parameters are ignored' ÄPFEL_,cherry,Apple,banana '?page=2&per_page=1&priority=high&user_id=bob&=&&x'
listed 'a query that is no proper encoding is no harm' ÄPFEL_,cherry,Apple,banana '?x=%&y=%zz&z=%ff'
listed 'an empty query is none' ÄPFEL_,cherry,Apple,banana '?'

# --- Long lists ---

sql "insert into tasks (user_id, title, description, completed, created_at, updated_at)
    select 'ada', n, null, false, timestamptz '2020-01-01' + (n / 7) * interval '1 s', now()
    from generate_series(1, 2500) as n"
as ada GET /api/tasks
check 'a whole list is whole, however long' '200 2504' "$(answer length)"
check 'it comes in chunks, for it is longer than a page' 'chunked,' "$(header Transfer-Encoding),$(header Content-Length)"
as ada HEAD /api/tasks
check 'HEAD has no length of it either' '200 application/json ' \
    "$status $(header Content-Type) $(header Content-Length)"
as ada GET '/api/tasks?limit=1000'
check 'a page has a length' ",$(printf %s "$body" | wc -c)" "$(header Transfer-Encoding),$(header Content-Length)"
as ada GET '/api/tasks?offset=3'
check 'the rest behind an offset may be long, too' '200 2501' "$(answer length)"
total 'its X-Total-Count counts the whole list' 2504
as ada GET '/api/tasks?sort=title&order=desc'
check 'a long list by title is in order' true "$(json '[.[] | [(.title | ascii_downcase), .id]] | . == (sort | reverse)')"
as ada GET /api/tasks
whole=$(json '[.[].id]')
offset=0
pages=
while [ "$offset" -lt 2504 ]; do
    as ada GET "/api/tasks?limit=1000&offset=$offset"
    pages="$pages$(json '[.[].id]')"
    offset=$((offset + 1000))
done
check 'its pages together are the list: none twice, none missing' "$whole" \
    "$(printf '%s' "$pages" | jq -sc add)"
