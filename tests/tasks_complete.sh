# User story: I mark a task as completed, or as pending again.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server
create ada milk
path=/api/tasks/$id/complete

# completes NAME EXPECTED CURL_OPTION…
completes() {
    name=$1
    expected=$2
    shift 2
    as ada PATCH "$path" "$@"
    check "$name" "200 $expected" "$(response .completed)"
}

# refused NAME VIOLATIONS JSON: and nothing is changed
refused() {
    as ada GET "/api/tasks/$id"
    before=$body
    send ada PATCH "$path" "$3"
    check "$1" "422 VALIDATION_ERROR $2" "$(violation)"
    as ada GET "/api/tasks/$id"
    check "$1: nothing is changed" "$before" "$body"
}

json='Content-Type: application/json'

# --- Set ---

completes 'true completes the task' true --header "$json" --data-raw '{"completed":true}'
completes 'true again leaves it completed' true --header "$json" --data-raw '{"completed":true}'
completes 'false makes it pending' false --header "$json" --data-raw '{"completed":false}'
completes 'false again leaves it pending' false --header "$json" --data-raw '{"completed":false}'
completes 'unknown fields are ignored' true --header "$json" --data-raw '{"completed":true,"title":"x","user_id":"eve"}'
check 'unknown fields change nothing' milk "$(json .title)"
completes 'a repeated completed: the last one is used' false --data-raw '{"completed":true,"completed":false}'
completes 'a body is read as JSON whatever its Content-Type says' true --header 'Content-Type: text/plain' \
    --data-raw '{"completed":true}'

# --- Toggle: the task is completed now ---

completes 'no body toggles' false
completes 'no body toggles back' true
completes 'an empty body with Content-Type: application/json toggles' false --header "$json"
completes 'an empty body with Content-Length: 0 toggles' true --header "$json" --header 'Content-Length: 0'
completes 'an empty body in chunks toggles' false --header "$json" --header 'Transfer-Encoding: chunked' --data-raw ''
completes '{} toggles' true --header "$json" --data-raw '{}'
completes '{} between white space toggles' false --data-raw ' { } '
completes 'a body of white space toggles' true --header "$json" --data-raw ' '
completes 'a body of line breaks toggles' false --header "$json" --data-binary "$(printf '\r\n \t')"
completes 'a body without completed toggles' true --data-raw '{"done":false}'
completes 'a body of null toggles' false --header "$json" --data-raw null
completes 'a body of null in white space toggles' true --data-raw ' null '

path="/api/tasks/$id/complete?completed=true"
completes 'a completed in the query is ignored' false
path=/api/tasks/$id/complete/
completes 'one trailing slash is accepted' true
path=/api/tasks/$id/complete

# --- The response ---

as ada GET "/api/tasks/$id"
before=$body
as ada PATCH "$path"
answered=$body
check 'the response is JSON' '200 application/json' "$status $(header Content-Type)"
check 'the response has all fields' "$(task_fields)" "$(json 'keys | join(" ")')"
check 'a toggle changes updated_at' true "$(json ".updated_at > ($before | .updated_at)")"
check 'a toggle changes nothing else' true \
    "$(json "del(.completed, .updated_at) == ($before | del(.completed, .updated_at))")"
as ada GET "/api/tasks/$id"
check 'the response is the task after the change' "$answered" "$body"
send ada PATCH "$path" "$(printf '%s' "$answered" | jq -c '{completed}')"
check 'setting the same value changes updated_at' true "$(json ".updated_at > ($answered | .updated_at)")"

# --- An invalid body changes nothing ---

for value in '"true"' '"false"' 1 0 null '""' '[]' '{}'; do
    refused "completed: $value is not a boolean" 'body.completed bool_type' "{\"completed\":$value}"
done
for value in '[]' '"x"' true false 1; do
    refused "the body $value is not an object" 'body model_attributes_type' "$value"
done
refused 'malformed JSON does not toggle' 'body json_invalid' '{"completed":'
refused 'text that is not JSON does not toggle' 'body json_invalid' 'completed=true'
printf '\377' >"$work/json"
as ada PATCH "$path" --data-binary "@$work/json"
check 'a body that is not UTF-8 is a 400' '400 BAD_REQUEST' "$(refusal)"
{ text_of 1048576 ' ' && printf '{}'; } >"$work/json"
as ada PATCH "$path" --data-binary "@$work/json"
check 'a body of more than 1 MiB is a 413' '413 PAYLOAD_TOO_LARGE' "$(refusal)"

# --- Absent tasks ---

for other in 2147483647 2147483648 0 99999999999999999999; do
    as ada PATCH "/api/tasks/$other/complete"
    check "toggling the absent task $other is a 404" '404 RESOURCE_NOT_FOUND' "$(refusal)"
    send ada PATCH "/api/tasks/$other/complete" '{"completed":true}'
    check "setting the absent task $other is a 404" '404 RESOURCE_NOT_FOUND' "$(refusal)"
done

# --- Concurrent toggles ---

as ada GET "/api/tasks/$id"
before=$(json .completed)
count=0
while [ "$count" -lt 10 ]; do
    curl --silent --output /dev/null --request PATCH --header "Authorization: Bearer $(token ada)" "$base$path" &
    toggles="${toggles:-} $!"
    count=$((count + 1))
done
# shellcheck disable=SC2086 # one word a process
wait $toggles
as ada GET "/api/tasks/$id"
check 'ten concurrent toggles are all executed' "$before" "$(json .completed)"
