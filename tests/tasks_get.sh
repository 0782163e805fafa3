# User story: I open one task.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

send ada POST /api/tasks '{"title":"milk","description":"oat","completed":true}'
task=$body
id=$(json .id)

as ada GET "/api/tasks/$id"
check 'GET has the task that POST answered with' "200 $task" "$status $body"
check 'the response is JSON' application/json "$(header Content-Type)"
length=$(header Content-Length)
as ada GET "/api/tasks/$id/"
check 'one trailing slash is accepted' "200 $task" "$status $body"
as ada HEAD "/api/tasks/$id"
check 'HEAD has the headers of GET' "200 $length application/json" \
    "$status $(header Content-Length) $(header Content-Type)"
raw "HEAD /api/tasks/$id HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer $(token ada)\r\nConnection: close\r\n\r\n"
check 'HEAD has no body' '200 ' "$status $body"
as ada HEAD "/api/tasks/$id/"
check 'HEAD accepts one trailing slash' 200 "$status"
as ada GET "/api/tasks/$id?completed=false&x=y"
check 'a query is ignored' "200 $task" "$status $body"
as ada GET "/api/tasks/00$id"
check 'leading zeros of an id are ignored' "200 $task" "$status $body"
as ada GET "/api/tasks/$id" --header 'Content-Type: application/json' --data-raw '{bad'
check 'a body is ignored' "200 $task" "$status $body"
as ada GET "/api/tasks/$id" --header 'Content-Encoding: gzip' --data-raw x
check 'so is an encoded one, which would be refused elsewhere' "200 $task" "$status $body"

# --- Integers that are no task's id ---

as ada GET /api/tasks/2147483647
not_found=$body
check 'an absent task is a 404' '404 RESOURCE_NOT_FOUND Task not found' "$(refusal) $(json .message)"
for other in 0 -1 -2147483648 2147483648 4294967297 9223372036854775807 9223372036854775808 18446744073709551616 \
    123456789012345678901234567890 -9223372036854775809; do
    as ada GET "/api/tasks/$other"
    check "the integer $other gets the same 404" "404 $not_found" "$status $body"
done

# --- Ids that are not integers ---

for other in abc 1.0 +1 1e3 0x1 1,000 null undefined NaN - -- 1-1 --1 %20 1%20 %201 %00 1%00 "1'" \
    '1;select%201' %EF%BC%91 %D9%A1 %2B1 1a; do
    as ada GET "/api/tasks/$other"
    check "the id '$other' is a 422" '422 VALIDATION_ERROR path.id int_parsing' "$(violation)"
done
for method in PUT DELETE; do
    send ada "$method" /api/tasks/abc '{}'
    check "$method of an id that is not an integer is a 422" '422 VALIDATION_ERROR path.id int_parsing' "$(violation)"
done
send ada PATCH /api/tasks/abc/complete '{}'
check 'PATCH of an id that is not an integer is a 422' '422 VALIDATION_ERROR path.id int_parsing' "$(violation)"

# --- Similar paths ---

for path in "/api/tasks/$id/x" "/api/tasks/$id//" "/api/tasks//" "/api/tasks//$id" "/api//tasks/$id" "/api/task/$id" \
    "/api/Tasks/$id" "/API/tasks/$id" "/api/tasks/$id/complete/x" "/tasks/$id" "/v1/api/tasks/$id"; do
    as ada GET "$path"
    check "the path $path is a 404" '404 RESOURCE_NOT_FOUND Not Found' "$(refusal) $(json .message)"
done
