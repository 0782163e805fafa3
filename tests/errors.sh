# User story: every error has the same form, says what is wrong, and shows no internals.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

# The form of every error: `detail` is a list for a 422, else it equals `message`.
form='
    (keys == ["detail", "error_code", "message"])
    and (.error_code | test("^[A-Z]+(_[A-Z]+)*$"))
    and (.message | type == "string" and length > 0)
    and (if .error_code == "VALIDATION_ERROR" then
            (.detail | type == "array" and length > 0) and all(.detail[];
                keys == ["loc", "msg", "type"] and (.loc | type == "array" and all(.[]; type == "string"))
                and (.msg | type == "string" and length > 0) and (.type | type == "string" and length > 0))
        else .detail == .message end)'

# error STATUS CODE METHOD PATH [CURL_OPTION…]
error() {
    expected="$1 $2"
    shift 2
    as ada "$@"
    check "$1 $2: status and code" "$expected" "$(refusal)"
    check "$1 $2: the body has the form of every error" true "$(json "$form")"
    check "$1 $2: the headers are those of every response" 'application/json|no-store|nosniff|Origin' \
        "$(header Content-Type)|$(header Cache-Control)|$(header X-Content-Type-Options)|$(header Vary)"
}

create ada milk
printf '\377' >"$work/bytes"
text_of 1048577 ' ' >"$work/large"
error 400 BAD_REQUEST POST /api/tasks --data-binary "@$work/bytes"
error 404 RESOURCE_NOT_FOUND GET /api/tasks/2147483647
error 404 RESOURCE_NOT_FOUND GET /api/nothing
error 404 RESOURCE_NOT_FOUND GET /nothing
error 405 METHOD_NOT_ALLOWED DELETE /api/tasks
error 413 PAYLOAD_TOO_LARGE POST /api/tasks --data-binary "@$work/large"
error 415 UNSUPPORTED_MEDIA_TYPE POST /api/tasks --header 'Content-Encoding: gzip' --data-binary "@$work/bytes"
check 'a 415 says which encoding is accepted' identity "$(header Accept-Encoding)"
for encoding in 'Content-Encoding: Identity' 'Content-Encoding;'; do
    send ada POST /api/tasks '{"title":"plain"}' --header "$encoding"
    check "$encoding: the body is taken as it is" 201 "$status"
done
error 422 VALIDATION_ERROR POST /api/tasks --data-raw '{"title":"","description":1}'
error 422 VALIDATION_ERROR POST /api/tasks --data-raw '{bad'
error 422 VALIDATION_ERROR GET '/api/tasks?limit=x&offset=y'
error 422 VALIDATION_ERROR GET /api/tasks/abc
for header in 'X: y' 'Authorization: Bearer x' "Authorization: Bearer $("$dev" token ada -60)"; do
    request GET /api/tasks --header "$header"
    check 'a 401 has the form of every error' '401 true' "$(response "$form")"
    check 'a 401 has the headers of every response' 'application/json|no-store|nosniff|Origin' \
        "$(header Content-Type)|$(header Cache-Control)|$(header X-Content-Type-Options)|$(header Vary)"
done

send ada POST /api/tasks '{"title":"","description":1}'
check 'the message joins all errors of a 422' true \
    "$(json '[.message] == [[.detail[] | (.loc | join(".")) + ": " + .msg] | join("; ")]')"
check 'an error of a 422 has loc, msg and type' \
    '{"loc":["body","title"],"msg":"Title should have at least 1 character","type":"string_too_short"}' \
    "$(json '.detail[0]')"

# --- 405 and Allow ---

while read -r path allow; do
    for method in GET POST PUT PATCH DELETE TRACE FOO get; do
        case ", $allow," in
            *", $method,"*) continue ;;
        esac
        as ada "$method" "$path" --data-raw '{}'
        check "$method $path is not allowed" "405 METHOD_NOT_ALLOWED|$allow" "$(refusal)|$(header Allow)"
    done
done <<END
/ GET, HEAD
/health GET, HEAD
/ready GET, HEAD
/openapi.json GET, HEAD
/api/tasks GET, HEAD, POST
/api/tasks/ GET, HEAD, POST
/api/tasks/$id GET, HEAD, PUT, DELETE
/api/tasks/$id/ GET, HEAD, PUT, DELETE
/api/tasks/abc GET, HEAD, PUT, DELETE
/api/tasks/$id/complete PATCH
/api/tasks/$id/complete/ PATCH
END
as ada HEAD "/api/tasks/$id/complete"
check 'HEAD of a path without GET is a 405' '405 PATCH' "$status $(header Allow)"
as ada GET "/api/tasks/$id"
check 'the refused methods changed nothing' '200 milk false' "$(response '.title + " " + (.completed | tostring)')"

# --- 404 ---

for path in /favicon.ico /robots.txt /.env /index.html //health /health/x /Health /health.json /healthz /docs.html \
    /api /api/ /api/taskss /api/tasks/../tasks /api/./tasks /api/tasks%2F1 '/api/tasks;x' /%61pi/tasks; do
    as ada GET "$path"
    check "the path $path is a 404" '404 RESOURCE_NOT_FOUND Not Found' "$(refusal) $(json .message)"
done
as ada HEAD /api/nothing
check 'a 404 of HEAD has its headers' '404 application/json' "$status $(header Content-Type)"

# --- 503 and 500: a statement that the database refuses; the client sees no cause ---

sql 'alter table tasks rename column title to heading'
for request_line in 'GET /api/tasks' 'GET /api/tasks?search=x' 'POST /api/tasks' "GET /api/tasks/$id" \
    "PUT /api/tasks/$id" "DELETE /api/tasks/$id" "PATCH /api/tasks/$id/complete"; do
    method=${request_line% *}
    [ "$method" != DELETE ] || sql 'alter table tasks rename column user_id to whose'
    send ada "$method" "${request_line#* }" '{"title":"x"}' --header 'Origin: http://localhost:3000'
    [ "$method" != DELETE ] || sql 'alter table tasks rename column whose to user_id'
    check "$request_line: a table that does not fit is a 503" '503 SERVICE_UNAVAILABLE' "$(refusal)"
    check "$request_line: the body has the form of every error" true "$(json "$form")"
    check "$request_line: the page can read it" 'http://localhost:3000' "$(header Access-Control-Allow-Origin)"
    check_lacks "$request_line: no text of the database reaches the client" \
        "$(printf '%s\n%s' "$headers" "$body" | tr '[:upper:]' '[:lower:]')" \
        column title heading relation select sql postgres 'db error' 42703
done
check_logged 'the log has the cause' 'title'
sql 'alter table tasks rename column heading to title'
as ada GET "/api/tasks/$id"
check 'after the table is repaired, GET works again' '200 milk' "$(response .title)"
sql "alter table tasks add check (title <> 'refused')"
send ada POST /api/tasks '{"title":"refused"}'
check 'a title that a rule of the database refuses is a 422' \
    '422 VALIDATION_ERROR body.title check_violation' "$(violation)"
sql 'alter table tasks add check (1 / (length(title) - 7) < 2)'
send ada POST /api/tasks '{"title":"by zero"}'
check 'any other failed statement is a 500' '500 INTERNAL_ERROR' "$(refusal)"
check_lacks 'and the client does not see why' "$body" zero 22012
