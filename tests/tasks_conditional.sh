# User story: two of my devices change the same task; the later one gets a 412 and does not undo the other's change.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

tag() {
    header ETag
}

# novelty: whether the response has another tag than $seen
novelty() {
    case $(tag) in
        '') echo none ;;
        "$seen") echo same ;;
        *) echo new ;;
    esac
}

# after_method: the part of "PATCH/complete" that follows the id
after_method() {
    case $call in
        */*) echo "/${call#*/}" ;;
    esac
}

# renew: creates a task; sets $task and $seen, its tag
renew() {
    send ada POST /api/tasks '{"title":"milk","description":"oat"}'
    id=$(json .id)
    task=/api/tasks/$id
    seen=$(tag)
}

# overtake: another client changes the task first
overtake() {
    send ada PUT "$task" '{"title":"cream"}'
}

# --- The tag ---

renew
check_that 'a new task has a strong tag' expr "$seen" : '"[0-9]*-[0-9]*"$'
as ada GET "$task"
check 'GET has the same tag' "200 $seen" "$status $(tag)"
as ada HEAD "$task"
check 'HEAD has the same tag' "200 $seen" "$status $(tag)"
for write in 'PUT|{"title":"milk"}' 'PATCH/complete|' 'PATCH/complete|{"completed":true}'; do
    call=${write%%|*}
    as ada GET "$task"
    seen=$(tag)
    send ada "${call%%/*}" "$task$(after_method)" "${write#*|}"
    check "$write changes the tag" '200 new' "$status $(novelty)"
    written=$(tag)
    as ada GET "$task"
    check "$write answers with the new tag" "$written" "$(tag)"
done
send ada PUT "$task" '{}'
check 'PUT {} keeps the tag' "200 $written" "$status $(tag)"
seen=$written
sql "update tasks set title = 'by hand' where id = $id"
as ada GET "$task"
check 'a write by another program changes the tag' '200 new' "$status $(novelty)"
as ada GET /api/tasks
check 'a list has no tag' '200 ' "$status $(tag)"
as ada DELETE "$task"
check 'the response to DELETE has no tag' '204 ' "$status $(tag)"

# --- If-None-Match on a read ---

renew
for value in "$seen" "W/$seen" '*' "\"x\", $seen" ", $seen ,"; do
    as ada GET "$task" --header "If-None-Match: $value"
    check "If-None-Match: $value is a 304 with the tag, without a body" "304 $seen  no-store Origin 0" \
        "$status $(tag) $(header Content-Type) $(header Cache-Control) $(header Vary) $((0 + $(wc -c <"$body_file")))"
    as ada HEAD "$task" --header "If-None-Match: $value"
    check "If-None-Match: $value of HEAD is a 304" "304 $seen" "$status $(tag)"
done
as ada GET "$task" --header 'If-None-Match: "x"'
check 'If-None-Match with another tag gets the task' "200 $seen milk" "$status $(tag) $(json .title)"
as ada GET "$task" --header 'If-None-Match: "x"' --header "If-None-Match: $seen"
check 'If-None-Match may be sent twice' 304 "$status"
overtake
as ada GET "$task" --header "If-None-Match: $seen"
check 'If-None-Match after a change gets the task' '200 cream' "$(response .title)"
for value in '*' malformed; do
    as ada GET /api/tasks --header "If-None-Match: $value"
    check "If-None-Match: $value of a list is ignored" 200 "$status"
    send ada POST /api/tasks '{"title":"milk"}' --header "If-Match: $value"
    check "If-Match: $value of a creation is ignored" 201 "$status"
done
as ada GET /api/tasks/2147483647 --header 'If-None-Match: *'
check 'If-None-Match: * of an absent task is a 404' '404 RESOURCE_NOT_FOUND' "$(refusal)"

# --- Both headers on a write ---

# each_write STATUS HEADER…: every write with these headers, each on a new task, which another client has changed if
# $overtaken is set. SEEN stands for the tag.
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
                check "$write with $*: nothing is changed" "200 $before" "$status $body"
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
check 'GET with an If-Match that fails is a 412' '412 PRECONDITION_FAILED' "$(refusal)"
as ada GET "$task" --header "If-Match: $seen"
check 'GET with an If-Match that holds gets the task' '200 milk' "$(response .title)"
first=$seen
send ada PUT "$task" '{"title":"cream"}' --header "If-Match: $seen"
send ada PUT "$task" '{"title":"butter"}' --header "If-Match: $(tag)"
check 'the tag of a response is valid for the next write' '200 butter' "$(response .title)"
send ada PUT "$task" '{"title":"milk","description":"oat"}'
send ada PUT "$task" '{"title":"late"}' --header "If-Match: $first"
check 'writing the same values back does not restore the tag' '412 PRECONDITION_FAILED' "$(refusal)"
send ada PUT "$task" '{"title":""}' --header 'If-Match: "x"'
check 'an invalid body is a 422 before the 412' '422 VALIDATION_ERROR body.title string_too_short' "$(violation)"
send ada PUT /api/tasks/abc '{}' --header 'If-Match: "x"'
check 'an invalid id is a 422 before the 412' '422 VALIDATION_ERROR path.id int_parsing' "$(violation)"

# --- An absent task, and another user's ---

# response_to_bob METHOD PATH JSON HEADER: the response without the headers that differ between any two responses
response_to_bob() {
    send bob "$1" "$2" "$3" --header "$4"
    printf '%s\n%s\n' "$headers" "$body" | grep -v -e '^Date:' -e '^X-Request-Id:' -e '^Server-Timing:'
}

renew
for value in "If-Match: $seen" 'If-Match: "x"' 'If-Match: *' 'If-None-Match: *' "If-None-Match: $seen"; do
    for write in 'GET|' 'PUT|{"title":"mine now"}' 'PUT|{}' 'PATCH/complete|{}' 'PATCH/complete|{"completed":true}' \
        'DELETE|'; do
        call=${write%%|*}
        tail=$(after_method)
        check "$write with $value: another user's task is answered like an absent one" \
            "$(response_to_bob "${call%%/*}" "/api/tasks/2147483647$tail" "${write#*|}" "$value")" \
            "$(response_to_bob "${call%%/*}" "$task$tail" "${write#*|}" "$value")"
        send bob "${call%%/*}" "$task$tail" "${write#*|}" --header "$value"
        check "$write with $value: another user's task is a 404" '404 RESOURCE_NOT_FOUND' "$(refusal)"
    done
done
as ada GET "$task"
check 'her task is unchanged' "200 $seen" "$status $(tag)"

# --- Concurrent writes ---

# blocked_by STATEMENT END: a conditional PUT waits for a transaction that has run STATEMENT and ends by END; prints the
# status and the code or title of the PUT
blocked_by() {
    renew
    mkfifo "$work/psql"
    psql --no-psqlrc --quiet <"$work/psql" >/dev/null 2>&1 &
    session=$!
    exec 3>"$work/psql"
    printf 'begin; %s;\n' "$1" | sed "s/ID/$id/" >&3
    wait_until 10 is_locked
    (
        send ada PUT "$task" '{"title":"mine"}' --header "If-Match: $seen" &&
            response '.error_code // .title' >"$work/blocked"
    ) &
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
check 'PUT waits for an open change; 412 after its commit' '412 PRECONDITION_FAILED' "$(blocked_by "$change" commit)"
check 'PUT waits for an open change; 200 after its rollback' '200 mine' "$(blocked_by "$change" rollback)"
check 'PUT waits for an open deletion; 404 after its commit' '404 RESOURCE_NOT_FOUND' \
    "$(blocked_by 'delete from tasks where id = ID' commit)"

renew
for number in 1 2 3 4 5 6 7 8 9 10; do
    (
        curl --silent --max-time 20 --output /dev/null --write-out '%{http_code}\n' --request PUT "$base$task" \
            --header "Authorization: Bearer $(token ada)" --header "If-Match: $seen" \
            --data-raw "{\"title\":\"$number\"}" >"$work/race.$number"
    ) &
    racers="${racers:-} $!"
done
# shellcheck disable=SC2086 # one word a process
wait $racers
check 'of ten concurrent writes with the same tag, one succeeds' '1 200, 9 412' \
    "$(cat "$work"/race.* | sort | uniq -c | awk '{ printf "%s%s %s", sep, $1, $2; sep = ", " }')"

# --- A page on another origin ---

page='Origin: http://localhost:3000'
request OPTIONS "$task" --header "$page" --header 'Access-Control-Request-Method: PUT' \
    --header 'Access-Control-Request-Headers: authorization, content-type, if-match'
check 'a preflight allows both headers' 'Authorization, Content-Type, If-Match, If-None-Match' \
    "$(header Access-Control-Allow-Headers)"
as ada GET "$task" --header "$page"
check_contains 'a page may read the ETag' ' ETag,' "$(header Access-Control-Expose-Headers)"
as ada GET "$task" --header "$page" --header 'If-None-Match: *'
check 'a page can read a 304' '304 http://localhost:3000' "$status $(header Access-Control-Allow-Origin)"
as ada PUT "$task" --data-raw '{}' --header "$page" --header 'If-Match: "x"'
check 'a page can read a 412' '412 http://localhost:3000' "$status $(header Access-Control-Allow-Origin)"
