# User story: I create a task, and it is stored exactly as I wrote it.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

# created NAME EXPECTED FILTER JSON
created() {
    send ada POST /api/tasks "$4"
    check "$1" "201 $2" "$(response "$3")"
}

# refused NAME VIOLATIONS JSON
refused() {
    send ada POST /api/tasks "$3"
    check "$1" "422 VALIDATION_ERROR $2" "$(violation)"
}

# --- A new task ---

send ada POST /api/tasks '{"title":"Buy milk"}'
check 'a title suffices' 201 "$status"
check 'the response is JSON' application/json "$(header Content-Type)"
id=$(json .id)
check 'Location is the path of the task' "/api/tasks/$id" "$(header Location)"
check 'a task has the fields of the specification and no other' "$(task_fields)" "$(json 'keys | join(" ")')"
check 'the fields have these types' 'boolean string null number string string string' \
    "$(json '[.completed, .created_at, .description, .id, .title, .updated_at, .user_id | type] | join(" ")')"
check 'the id is an integer of at least 1' true "$(json '.id >= 1 and (.id | floor) == .id')"
check 'user_id is the user of the token' ada "$(json .user_id)"
check 'a new task is not completed' false "$(json .completed)"
check 'created_at equals updated_at' true "$(json '.created_at == .updated_at')"
check 'timestamps are RFC 3339 in UTC with microseconds' true \
    "$(json '.created_at | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z$")')"
check 'created_at is now' true "$(json '(.created_at[0:19] + "Z" | fromdate) - now | fabs < 60')"
task=$body
as ada GET "$(header Location)"
check 'GET of the Location has the same task' "200 $task" "$status $body"
first=$id
send ada POST /api/tasks '{"title":"Buy milk"}'
check 'the same title again creates another task' '201 true' "$(response ".id > $first")"
send ada POST /api/tasks/ '{"title":"x"}'
check 'one trailing slash is accepted' 201 "$status"

created 'a description is stored' 'oat' .description '{"title":"milk","description":"oat"}'
created 'description: null is stored as null' null .description '{"title":"milk","description":null}'
created 'an empty description is stored as empty' '""' '.description | tojson' '{"title":"milk","description":""}'
created 'a description is not trimmed' '"  oat \n"' '.description | tojson' '{"title":"milk","description":"  oat \n"}'
created 'a task can be created with completed: true' true .completed '{"title":"milk","completed":true}'
created 'a task can be created with completed: false' false .completed '{"title":"milk","completed":false}'

# --- The title ---

created 'white space around a title is trimmed' '"a  b"' '.title | tojson' '{"title":" \t\r\n a  b \n"}'
created 'Unicode white space is trimmed' '"a"' '.title | tojson' '{"title":"\u3000\u00a0\u2003a\u2028"}'
created 'a title of 1 character is accepted' 1 '.title | length' '{"title":"x"}'
created 'a title of 255 letters is accepted' 255 '.title | length' "{\"title\":\"$(text_of 255 x)\"}"
created 'a title of 255 emoji is accepted: characters are counted, not bytes' 255 '.title | length' \
    "{\"title\":\"$(text_of 255 🦀)\"}"
created 'a title of 255 characters between white space is accepted' 255 '.title | length' \
    "{\"title\":\"   $(text_of 255 x)   \"}"
accented=$(printf 'e\314\201') # two characters
created 'a combining mark counts as a character' 255 '.title | length' "{\"title\":\"x$(text_of 127 "$accented")\"}"
refused 'a title of 256 letters is too long' 'body.title string_too_long' "{\"title\":\"$(text_of 256 x)\"}"
refused 'a title of 256 emoji is too long' 'body.title string_too_long' "{\"title\":\"$(text_of 256 🦀)\"}"
refused 'a title of 128 letters with as many combining marks is too long' 'body.title string_too_long' \
    "{\"title\":\"$(text_of 128 "$accented")\"}"
refused 'a title is required' 'body.title missing' '{}'
refused 'an empty title is too short' 'body.title string_too_short' '{"title":""}'
refused 'a title of white space only is too short' 'body.title string_too_short' '{"title":" \t\n\u3000"}'
refused 'a NUL character in a title is a 422' 'body.title string_nul' '{"title":"a\u0000b"}'
for value in null 1 1.5 true '["x"]' '{"a":"x"}'; do
    refused "title: $value is not a string" 'body.title string_type' "{\"title\":$value}"
done

# --- The description ---

# description_of LENGTH CHARACTER
description_of() {
    { printf '{"title":"x","description":"' && text_of "$1" "$2" && printf '"}'; } >"$work/json"
    as ada POST /api/tasks --data-binary "@$work/json"
}

for character in x 🦀 ע; do
    description_of 10000 "$character"
    check "a description of 10,000 times $character is accepted" '201 10000' "$(response '.description | length')"
    description_of 10001 "$character"
    check "a description of 10,001 times $character is too long" \
        '422 VALIDATION_ERROR body.description string_too_long' "$(violation)"
done
refused 'a NUL character in a description is a 422' 'body.description string_nul' \
    '{"title":"x","description":"\u0000"}'
for value in 1 true '["x"]' '{"a":"x"}'; do
    refused "description: $value is not a string" 'body.description string_type' \
        "{\"title\":\"x\",\"description\":$value}"
done

# --- completed ---

for value in '"true"' '"false"' 1 0 null '""' '[]' '{}'; do
    refused "completed: $value is not a boolean" 'body.completed bool_type' "{\"title\":\"x\",\"completed\":$value}"
done
refused 'all errors are in one response' \
    'body.title string_too_short, body.description string_type, body.completed bool_type' \
    '{"title":"","description":1,"completed":"no"}'

# --- Text is returned byte for byte ---

# kept KIND TEXT
kept() {
    printf %s "$2" >"$work/expected"
    jq -Rs '{title: ., description: .}' "$work/expected" >"$work/json"
    as ada POST /api/tasks --data-binary "@$work/json"
    as ada GET "$(header Location)"
    jq -j .title "$body_file" >"$work/title"
    jq -j .description "$body_file" >"$work/description"
    check_that "a title keeps $1" cmp "$work/expected" "$work/title"
    check_that "a description keeps $1" cmp "$work/expected" "$work/description"
}

kept 'emoji, also of several characters' '🦀🎉 👩‍👩‍👧‍👦 🏳️‍🌈 👋🏽 1️⃣'
kept 'right-to-left text' 'שלום עולם مرحبا بالعالم'
kept 'direction marks' "$(printf 'a\342\200\217(\327\220)\342\200\216b\342\200\256c')"
kept 'a decomposed letter' "$(printf 'e\314\201 A\314\212 \352\260\200\341\206\250')"
kept 'a composed letter' "$(printf '\303\251 \303\205 \342\204\253 \357\254\201')"
kept 'many combining marks on one letter' "$(printf 'Z\315\221\315\253\314\203\314\244a\314\220')"
kept 'many scripts' '中文 日本語 한국어 ไทย हिन्दी Ελληνικά Кириллица'
kept 'characters outside the basic plane' '𝒜 𠜎 𐍈'
kept 'invisible characters' "$(printf 'a\342\200\213b\342\200\214c\342\200\215d\357\273\277e\302\255f\342\200\250g')"
kept 'quotes and backslashes' "\"'\`\\ \\n \\u0041 \\\\ \"\" ''"
kept 'SQL' "'; drop table tasks; -- \$1 %s \\x00"
kept 'markup' '<script>alert(1)</script> &amp; <!-- -->'
kept 'wildcards' '100% _ * ? [a-z]'
created 'control characters are stored' '"a\u0001\u001f\u007fb"' '.title | tojson' '{"title":"a\u0001\u001f\u007fb"}'
created 'a surrogate pair is one character' 🦀 .title '{"title":"\ud83e\udd80"}'
refused 'half a surrogate pair is not JSON' 'body json_invalid' '{"title":"\ud83e"}'

# --- The body ---

refused 'a body of null is not an object' 'body model_attributes_type' null
refused 'a body of [] is not an object' 'body model_attributes_type' '[]'
refused 'a body of ["x"] is not an object' 'body model_attributes_type' '["x"]'
refused 'a body of "x" is not an object' 'body model_attributes_type' '"x"'
refused 'a body of 1 is not an object' 'body model_attributes_type' 1
refused 'a body of true is not an object' 'body model_attributes_type' true
refused 'an empty body is not JSON' 'body json_invalid' ''
refused 'a body of white space is not JSON' 'body json_invalid' '   '
refused 'a truncated body is not JSON' 'body json_invalid' '{"title":"x"'
refused 'a body with a trailing brace is not JSON' 'body json_invalid' '{"title":"x"}}'
refused 'single quotes are not JSON' 'body json_invalid' "{'title':'x'}"
refused 'a trailing comma is not JSON' 'body json_invalid' '{"title":"x",}'
refused 'a form is not JSON' 'body json_invalid' 'title=x'
refused 'NaN is not JSON' 'body json_invalid' '{"title":"x","n":NaN}'
send ada POST /api/tasks "$(printf '{\n  "title": x}')"
check_contains 'the error of malformed JSON has the line' 'line 2' "$(json '.detail[0].msg')"
check_contains 'the error of malformed JSON has the column' 'column 12' "$(json '.detail[0].msg')"

created 'unknown fields are ignored' 'x' .title \
    '{"title":"x","unknown":"high","others":["a"],"none":null,"nested":{"title":"y"},"user_id":7}'
created 'created_at and updated_at of the client are ignored' true '.created_at > "2020" and .updated_at > "2020"' \
    '{"title":"x","created_at":"1999-01-01T00:00:00Z","updated_at":"1999-01-01T00:00:00Z"}'
created 'a repeated field: the last one is used' b .title '{"title":"a","title":"b"}'
created 'a repeated field: an earlier invalid value is ignored' b .title '{"title":1,"title":"b"}'
refused 'a repeated field: the last value must be valid' 'body.title string_type' '{"title":"b","title":1}'
created 'a field name may be escaped' x .title '{"\u0074itle":"x"}'
refused 'field names are case-sensitive' 'body.title missing' '{"Title":"x"}'

for type in text/plain application/x-www-form-urlencoded 'application/json; charset=utf-8' application/xml nonsense; do
    as ada POST /api/tasks --header "Content-Type: $type" --data-raw '{"title":"x"}'
    check "a body is read as JSON with Content-Type: $type" 201 "$status"
done
as ada POST /api/tasks --header 'Content-Type:' --data-raw '{"title":"x"}'
check 'a body is read as JSON without Content-Type' 201 "$status"
as ada POST /api/tasks --header 'Transfer-Encoding: chunked' --data-raw '{"title":"chunked"}'
check 'a body may be chunked' '201 chunked' "$(response .title)"

printf '{"title":"a\377b"}' >"$work/json"
as ada POST /api/tasks --data-binary "@$work/json"
check 'a body that is not UTF-8 is a 400' '400 BAD_REQUEST' "$(refusal)"
printf '{"title":"x","unknown":"\355\240\200"}' >"$work/json"
as ada POST /api/tasks --data-binary "@$work/json"
check 'a surrogate encoded in UTF-8 is a 400' '400 BAD_REQUEST' "$(refusal)"

# --- Limits ---

# body_of BYTES: a valid body of this size
body_of() {
    { printf '{"title":"large","unknown":"' && text_of $(($1 - 30)) x && printf '"}'; } >"$work/json"
}
body_of 1048576
check 'the body for the next check has 1 MiB' 1048576 "$(wc -c <"$work/json" | tr -d ' ')"
as ada POST /api/tasks --data-binary "@$work/json"
check 'a body of 1 MiB is accepted' '201 large' "$(response .title)"
body_of 1048577
as ada POST /api/tasks --data-binary "@$work/json"
check 'a body of 1 MiB and 1 byte is a 413' '413 PAYLOAD_TOO_LARGE' "$(refusal)"
as ada POST /api/tasks --data-binary "@$work/json" --header 'Transfer-Encoding: chunked'
check 'the same body in chunks is a 413' '413 PAYLOAD_TOO_LARGE' "$(refusal)"
request POST /api/tasks --data-binary "@$work/json"
check_contains 'the same body without a token is a 401 or 413' "$status" '401 413'

text_of 100000 '[' >"$work/json"
as ada POST /api/tasks --data-binary "@$work/json"
check 'unclosed deep nesting is not JSON' '422 VALIDATION_ERROR body json_invalid' "$(violation)"
{ printf '{"title":"x","unknown":' && text_of 100000 '{"a":' && printf 1 && text_of 100001 '}'; } >"$work/json"
as ada POST /api/tasks --data-binary "@$work/json"
check 'deep nesting in an unknown field is ignored' '201 x' "$(response .title)"
{ printf '{"title":' && text_of 100000 '[' && text_of 100000 ']' && printf '}'; } >"$work/json"
as ada POST /api/tasks --data-binary "@$work/json"
check 'deep nesting in the title is a 422' 422 "$status"
{ text_of 100000 '[' && text_of 100000 ']'; } >"$work/json"
as ada POST /api/tasks --data-binary "@$work/json"
check 'a deeply nested array is a 422' 422 "$status"
created 'the server still works' x .title '{"title":"x"}'
