# User story: two of my devices change the same task, and the slower one is told instead of undoing the other's change.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

tag() {
    header ETag
}

# novelty: whether the answer has another tag than $seen
novelty() {
    case $(tag) in
        '') echo none ;;
        "$seen") echo same ;;
        *) echo new ;;
    esac
}

# after_method: what of "PATCH/complete" comes behind the id
after_method() {
    case $call in
        */*) echo "/${call#*/}" ;;
    esac
}

# renew: a task to be changed; sets $task and $seen, its tag
renew() {
    send ada POST /api/tasks '{"title":"milk","description":"oat"}'
    id=$(json .id)
    task=/api/tasks/$id
    seen=$(tag)
}

# overtake: somebody else is faster
overtake() {
    send ada PUT "$task" '{"title":"cream"}'
}

# --- The tag ---

renew
check_that 'a new task has a strong tag' expr "$seen" : '"[0-9]*-[0-9]*"$'
as ada GET "$task"
check 'reading it shows the same' "200 $seen" "$status $(tag)"
as ada HEAD "$task"
check 'so does HEAD' "200 $seen" "$status $(tag)"
for write in 'PUT|{"title":"milk"}' 'PATCH/complete|' 'PATCH/complete|{"completed":true}'; do
    call=${write%%|*}
    as ada GET "$task"
    seen=$(tag)
    send ada "${call%%/*}" "$task$(after_method)" "${write#*|}"
    check "$write gives it another" '200 new' "$status $(novelty)"
    written=$(tag)
    as ada GET "$task"
    check "$write tells the new one" "$written" "$(tag)"
done
send ada PUT "$task" '{}'
check 'a write of nothing leaves it' "200 $written" "$status $(tag)"
seen=$written
sql "update tasks set title = 'by hand' where id = $id"
as ada GET "$task"
check 'what something else writes gives another, too' '200 new' "$status $(novelty)"
as ada GET /api/tasks
check 'a list has none' '200 ' "$status $(tag)"
as ada DELETE "$task"
check 'nor has a deletion' '204 ' "$status $(tag)"

# --- If-None-Match: I have it already ---

renew
for value in "$seen" "W/$seen" '*' "\"x\", $seen" ", $seen ,"; do
    as ada GET "$task" --header "If-None-Match: $value"
    check "If-None-Match: $value is answered 304, with the tag and without a body" "304 $seen  no-store Origin 0" \
        "$status $(tag) $(header Content-Type) $(header Cache-Control) $(header Vary) $(wc -c <"$body_file" | tr -d ' ')"
    as ada HEAD "$task" --header "If-None-Match: $value"
    check "so it is to HEAD" "304 $seen" "$status $(tag)"
done
as ada GET "$task" --header 'If-None-Match: "x"'
check 'with another tag the task comes' "200 $seen milk" "$status $(tag) $(json .title)"
as ada GET "$task" --header 'If-None-Match: "x"' --header "If-None-Match: $seen"
check 'the header may stand twice' 304 "$status"
overtake
as ada GET "$task" --header "If-None-Match: $seen"
check 'after a change the task comes' '200 cream' "$(answer .title)"
as ada GET /api/tasks --header 'If-None-Match: *'
check 'a list has no tag, and always comes' 200 "$status"
as ada GET /api/tasks/2147483647 --header 'If-None-Match: *'
check 'a task that is not there is not found' '404 RESOURCE_NOT_FOUND' "$(refusal)"

# --- If-Match: only if it is still as I saw it ---

# each_write STATUS HEADER…: what every write answers, each to a task of its own, overtaken where $overtaken says so; SEEN
# stands for the tag
each_write() {
    expected=$1
    shift
    for write in 'PUT|{"completed":true}' 'PUT|{}' 'PATCH/complete|' 'PATCH/complete|{"completed":true}' 'DELETE|'; do
        renew
        [ -z "$overtaken" ] || overtake
        as ada GET "$task"
        before=$body
        call=${write%%|*}
        printf '%s\n' "$@" | SEEN=$seen perl -pe 's/SEEN/$ENV{SEEN}/g' >"$work/conditions"
        send ada "${call%%/*}" "$task$(after_method)" "${write#*|}" --header "@$work/conditions"
        case $expected.$call in
            2*.DELETE) check "$write with $*" 204 "$status" ;;
            2*) check "$write with $*" "200 $(tag)" "$status $(tag)" ;;
            412.*)
                check "$write with $*" '412 PRECONDITION_FAILED' "$(refusal)"
                as ada GET "$task"
                check 'and nothing is changed' "200 $before" "$status $body"
                ;;
            *) check "$write with $*" "$expected" "$(refusal)" ;;
        esac
    done
}

overtaken=
each_write 2xx 'If-Match: SEEN'
each_write 2xx 'If-Match: "x", SEEN'
each_write 2xx 'If-Match: "x"' 'If-Match: SEEN'
each_write 2xx 'If-Match: *'
each_write 2xx 'If-None-Match: "x"'
each_write 412 'If-Match: "x"'
each_write 412 'If-Match: W/SEEN'
each_write 412 'If-None-Match: SEEN'
each_write 412 'If-None-Match: W/SEEN'
each_write 412 'If-None-Match: *'
each_write 412 'If-Match: SEEN' 'If-None-Match: SEEN'
each_write '400 BAD_REQUEST' 'If-Match: SEEN SEEN'
each_write '400 BAD_REQUEST' 'If-Match: unquoted'
each_write '400 BAD_REQUEST' 'If-None-Match: '"'"'x'"'"
overtaken=yes
each_write 412 'If-Match: SEEN'
each_write 2xx 'If-Match: *'
each_write 2xx 'If-None-Match: SEEN'

renew
as ada GET "$task" --header 'If-Match: "x"'
check 'a read may have the condition, too' '412 PRECONDITION_FAILED' "$(refusal)"
as ada GET "$task" --header "If-Match: $seen"
check 'and gets the task if it holds' '200 milk' "$(answer .title)"
first=$seen
send ada PUT "$task" '{"title":"cream"}' --header "If-Match: $seen"
send ada PUT "$task" '{"title":"butter"}' --header "If-Match: $(tag)"
check 'the tag of an answer is good for the next write' '200 butter' "$(answer .title)"
send ada PUT "$task" '{"title":"milk","description":"oat"}'
send ada PUT "$task" '{"title":"late"}' --header "If-Match: $first"
check 'the same texts again are not the same state' '412 PRECONDITION_FAILED' "$(refusal)"
send ada PUT "$task" '{"title":""}' --header 'If-Match: "x"'
check 'a body that does not hold is told first' '422 VALIDATION_ERROR body.title string_too_short' "$(violation)"
send ada PUT /api/tasks/abc '{}' --header 'If-Match: "x"'
check 'so is an id that is none' '422 VALIDATION_ERROR path.id int_parsing' "$(violation)"

# --- A task that is not there, or another's ---

# answer_to_bob METHOD PATH JSON VALUE: all that he can tell one answer from another by
answer_to_bob() {
    send bob "$1" "$2" "$3" --header "$4"
    printf '%s\n%s\n' "$headers" "$body" | grep -v -e '^Date:' -e '^X-Request-Id:' -e '^Server-Timing:'
}

renew
for value in "If-Match: $seen" 'If-Match: "x"' 'If-Match: *' 'If-None-Match: *' "If-None-Match: $seen"; do
    for write in 'GET|' 'PUT|{"title":"mine now"}' 'PUT|{}' 'PATCH/complete|{}' 'PATCH/complete|{"completed":true}' 'DELETE|'; do
        call=${write%%|*}
        tail=$(after_method)
        check "$write with $value: another's task is answered as an absent one" \
            "$(answer_to_bob "${call%%/*}" "/api/tasks/2147483647$tail" "${write#*|}" "$value")" \
            "$(answer_to_bob "${call%%/*}" "$task$tail" "${write#*|}" "$value")"
        send bob "${call%%/*}" "$task$tail" "${write#*|}" --header "$value"
        check 'which is 404' '404 RESOURCE_NOT_FOUND' "$(refusal)"
    done
done
as ada GET "$task"
check 'her task is as it was' "200 $seen" "$status $(tag)"

# --- At the same moment ---

# blocked_by STATEMENT: a conditional PUT waits for a transaction that has changed the task; $status, $body of the PUT
blocked_by() {
    renew
    mkfifo "$work/psql"
    psql --no-psqlrc --quiet <"$work/psql" >/dev/null 2>&1 &
    session=$!
    exec 3>"$work/psql"
    printf 'begin; %s;\n' "$1" | sed "s/ID/$id/" >&3
    wait_until 10 is_locked
    (send ada PUT "$task" '{"title":"mine"}' --header "If-Match: $seen" && answer '.error_code // .title' >"$work/blocked") &
    waiting=$!
    wait_until 10 is_waited_for
    printf '%s;\n' "$2" >&3
    exec 3>&-
    wait "$session" "$waiting" || true
    rm "$work/psql"
    cat "$work/blocked"
}

is_locked() {
    [ "$(sql "select count(*) from pg_locks where relation = 'tasks'::regclass and mode = 'RowExclusiveLock'")" != 0 ]
}

is_waited_for() {
    [ "$(sql 'select count(*) from pg_locks where not granted')" != 0 ]
}

change="update tasks set title = 'faster' where id = ID"
check 'a change that is on its way is waited for' '412 PRECONDITION_FAILED' "$(blocked_by "$change" commit)"
check 'one that is taken back does no harm' '200 mine' "$(blocked_by "$change" rollback)"
check 'a deletion leaves nothing to be changed' '404 RESOURCE_NOT_FOUND' \
    "$(blocked_by 'delete from tasks where id = ID' commit)"

renew
for number in 1 2 3 4 5 6 7 8 9 10; do
    (
        curl --silent --max-time 20 --output /dev/null --write-out '%{http_code}\n' --request PUT "$base$task" \
            --header "Authorization: Bearer $(token ada)" --header "If-Match: $seen" --data-raw "{\"title\":\"$number\"}" \
            >"$work/race.$number"
    ) &
    racers="${racers:-} $!"
done
# shellcheck disable=SC2086 # one word a process
wait $racers
check 'of ten that saw the same, one wins' '1 200, 9 412' \
    "$(cat "$work"/race.* | sort | uniq -c | awk '{ printf "%s%s %s", sep, $1, $2; sep = ", " }')"

# --- A page on another origin ---

page='Origin: http://localhost:3000'
request OPTIONS "$task" --header "$page" --header 'Access-Control-Request-Method: PUT' \
    --header 'Access-Control-Request-Headers: authorization, content-type, if-match'
check 'a page may send both headers' 'Authorization, Content-Type, If-Match, If-None-Match' \
    "$(header Access-Control-Allow-Headers)"
as ada GET "$task" --header "$page"
check_contains 'and may read the tag' ' ETag,' "$(header Access-Control-Expose-Headers)"
as ada GET "$task" --header "$page" --header 'If-None-Match: *'
check 'it can read a 304' '304 http://localhost:3000' "$status $(header Access-Control-Allow-Origin)"
as ada PUT "$task" --data-raw '{}' --header "$page" --header 'If-Match: "x"'
check 'and a 412' '412 http://localhost:3000' "$status $(header Access-Control-Allow-Origin)"
