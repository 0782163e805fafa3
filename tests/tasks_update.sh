# User story: I change some fields of a task, and the others keep their values.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

# renew: creates the task to be changed
renew() {
    send ada POST /api/tasks '{"title":"milk","description":"oat","completed":true}'
    id=$(json .id)
    before=$body
}

# part: the fields that a client can change
part='[.title, .description, .completed] | tojson'

# updated NAME EXPECTED_PART JSON
updated() {
    renew
    send ada PUT "/api/tasks/$id" "$3"
    check "$1" "200 $2" "$(response "$part")"
}

# refused NAME VIOLATIONS JSON: and nothing is changed
refused() {
    renew
    send ada PUT "/api/tasks/$id" "$3"
    check "$1" "422 VALIDATION_ERROR $2" "$(violation)"
    as ada GET "/api/tasks/$id"
    check "$1: nothing is changed" "200 $before" "$status $body"
}

# --- A field that is absent keeps its value ---

updated 'title alone' '["cream","oat",true]' '{"title":"cream"}'
updated 'description alone' '["milk","soy",true]' '{"description":"soy"}'
updated 'completed alone' '["milk","oat",false]' '{"completed":false}'
updated 'title and description' '["cream","soy",true]' '{"title":"cream","description":"soy"}'
updated 'title and completed' '["cream","oat",false]' '{"title":"cream","completed":false}'
updated 'description and completed' '["milk","soy",false]' '{"description":"soy","completed":false}'
updated 'several fields' '["cream","soy",false]' '{"title":"cream","description":"soy","completed":false}'
updated 'null removes a description' '["milk",null,true]' '{"description":null}'
updated 'an empty description is stored as empty' '["milk","",true]' '{"description":""}'
updated 'a title is trimmed, a description is not' '["cream"," soy ",true]' '{"title":" cream\n","description":" soy "}'
updated 'unknown fields are ignored' '["cream","oat",true]' '{"title":"cream","unknown":"high","others":[]}'
updated 'a repeated field: the last one is used' '["b","oat",true]' '{"title":"a","title":"b"}'
updated 'emoji, right-to-left text and quotes are kept' "[\"🦀 שלום '\",\"oat\",true]" "{\"title\":\"🦀 שלום '\"}"
updated 'a title of 255 emoji is accepted' \
    "[\"$(text_of 255 🦀)\",\"oat\",true]" "{\"title\":\"$(text_of 255 🦀)\"}"

# --- The response ---

renew
send ada PUT "/api/tasks/$id" '{"title":"cream"}'
answered=$body
check 'the response is JSON' '200 application/json' "$status $(header Content-Type)"
check 'the response has all fields' "$(task_fields)" "$(json 'keys | join(" ")')"
check 'updated_at is later' true "$(json ".updated_at > $(printf '%s' "$before" | jq .updated_at)")"
check 'created_at, id and user_id stay' true \
    "$(json "[.created_at, .id, .user_id] == ($before | [.created_at, .id, .user_id])")"
as ada GET "/api/tasks/$id"
check 'the response is the task after the change' "$answered" "$body"
send ada PUT "/api/tasks/$id" '{"title":"cream"}'
check 'updated_at is later when the same value is written' true \
    "$(json ".updated_at > $(printf '%s' "$answered" | jq .updated_at)")"
send ada PUT "/api/tasks/$id/" '{"title":"butter"}'
check 'one trailing slash is accepted' '200 butter' "$(response .title)"

renew
for nothing in '{}' '{"unknown":1}' '{"user_id":"eve"}'; do
    send ada PUT "/api/tasks/$id" "$nothing"
    check "$nothing changes nothing, not even updated_at" "200 $before" "$status $body"
done
send ada PUT "/api/tasks/$id" '{"id":1,"user_id":"eve","title":"x",
    "created_at":"1999-01-01T00:00:00Z","updated_at":"1999-01-01T00:00:00Z"}'
check 'id, user_id and timestamps of the client are ignored' true \
    "$(json "[.created_at, .id, .user_id] == ($before | [.created_at, .id, .user_id]) and .updated_at > .created_at")"
as ada PUT "/api/tasks/$id" --header 'Content-Type: text/plain' --data-raw '{"title":"plain"}'
check 'a body is read as JSON whatever its Content-Type says' '200 plain' "$(response .title)"

renew
create ada 'another'
send ada PUT "/api/tasks/$(printf '%s' "$before" | jq .id)" '{"title":"cream"}'
as ada GET "/api/tasks/$id"
check 'other tasks keep their values' '200 another' "$(response .title)"

# --- An invalid body changes nothing ---

refused 'a title of null' 'body.title string_type' '{"title":null,"completed":false}'
refused 'an empty title' 'body.title string_too_short' '{"title":""}'
refused 'a title of white space' 'body.title string_too_short' '{"title":" \n ","description":"soy"}'
refused 'a title of 256 characters' 'body.title string_too_long' "{\"title\":\"$(text_of 256 🦀)\"}"
refused 'a title that is a number' 'body.title string_type' '{"title":1}'
refused 'a NUL character in a title' 'body.title string_nul' '{"title":"a\u0000"}'
refused 'a description that is a number' 'body.description string_type' '{"description":1}'
refused 'a description of 10,001 characters' 'body.description string_too_long' \
    "{\"description\":\"$(text_of 10001 x)\"}"
refused 'a NUL character in a description' 'body.description string_nul' '{"description":"\u0000"}'
refused 'completed as text' 'body.completed bool_type' '{"completed":"false"}'
refused 'completed as a number' 'body.completed bool_type' '{"completed":0}'
refused 'completed as null' 'body.completed bool_type' '{"completed":null}'
refused 'a valid field beside an invalid one' 'body.completed bool_type' '{"title":"cream","completed":1}'
refused 'all errors are in one response' \
    'body.title string_too_short, body.description string_type, body.completed bool_type' \
    '{"title":"","description":[],"completed":"no"}'
refused 'a body of null' 'body model_attributes_type' null
refused 'a body of []' 'body model_attributes_type' '[]'
refused 'a body of "x"' 'body model_attributes_type' '"x"'
refused 'a body of 1' 'body model_attributes_type' 1
refused 'an empty body' 'body json_invalid' ''
refused 'malformed JSON' 'body json_invalid' '{"title":"cream"'

renew
printf '{"title":"\300\200"}' >"$work/json"
as ada PUT "/api/tasks/$id" --data-binary "@$work/json"
check 'a body that is not UTF-8 is a 400' '400 BAD_REQUEST' "$(refusal)"
{ printf '{"title":"cream","x":"' && text_of 1048576 x && printf '"}'; } >"$work/json"
as ada PUT "/api/tasks/$id" --data-binary "@$work/json"
check 'a body of more than 1 MiB is a 413' '413 PAYLOAD_TOO_LARGE' "$(refusal)"
as ada GET "/api/tasks/$id"
check 'a 400 and a 413 change nothing' "200 $before" "$status $body"

# --- Absent tasks ---

for json in '{"title":"cream"}' '{}'; do
    send ada PUT /api/tasks/2147483647 "$json"
    check "$json for an absent task is a 404" '404 RESOURCE_NOT_FOUND' "$(refusal)"
    send ada PUT /api/tasks/99999999999999999999 "$json"
    check "$json for an id out of range is a 404" '404 RESOURCE_NOT_FOUND' "$(refusal)"
done
as ada GET /api/tasks
check 'PUT never creates a task' '200 0' "$(response '[.[] | select(.id > 2000000000)] | length')"
