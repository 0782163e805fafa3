# User story: I open one task.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

send ada POST /api/tasks '{"title":"milk","description":"oat","completed":true}'
task=$body
id=$(json .id)

as ada GET "/api/tasks/$id"
check 'a task is what its creation told' "200 $task" "$status $body"
check 'it is JSON' application/json "$(header Content-Type)"
length=$(header Content-Length)
as ada GET "/api/tasks/$id/"
check 'one trailing slash is forgiven' "200 $task" "$status $body"
as ada HEAD "/api/tasks/$id"
check 'HEAD has the headers of GET' "200 $length application/json" \
    "$status $(header Content-Length) $(header Content-Type)"
raw "HEAD /api/tasks/$id HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer $(token ada)\\r\\nConnection: close\\r\\n\\r\\n"
check 'HEAD has no body' '200 ' "$status $body"
as ada HEAD "/api/tasks/$id/"
check 'HEAD forgives a trailing slash, too' 200 "$status"
as ada GET "/api/tasks/$id?completed=false&x=y"
check 'a query does not matter' "200 $task" "$status $body"
as ada GET "/api/tasks/00$id"
check 'zeros before an id do not matter' "200 $task" "$status $body"
as ada GET "/api/tasks/$id" --header 'Content-Type: application/json' --data-raw '{bad'
check 'a body does not matter' "200 $task" "$status $body"

# --- Ids that no task has ---

as ada GET /api/tasks/2147483647
not_found=$body
check 'an id that is not there is not found' '404 RESOURCE_NOT_FOUND Task not found' "$(refusal) $(json .message)"
for other in 0 -1 -2147483648 2147483648 4294967297 9223372036854775807 9223372036854775808 18446744073709551616 \
    123456789012345678901234567890 -9223372036854775809; do
    as ada GET "/api/tasks/$other"
    check "an integer that no id can be ($other) is not found, in the same words" "404 $not_found" "$status $body"
done

# --- What is no id ---

for other in abc 1.0 +1 1e3 0x1 1,000 null undefined NaN - -- 1-1 --1 %20 1%20 %201 %00 1%00 "1'" \
    '1;select%201' %EF%BC%91 %D9%A1 %2B1 1a; do
    as ada GET "/api/tasks/$other"
    check "'$other' is no id" '422 VALIDATION_ERROR path.id int_parsing' "$(violation)"
done
for method in PUT DELETE; do
    send ada "$method" /api/tasks/abc '{}'
    check "$method asks for an id, too" '422 VALIDATION_ERROR path.id int_parsing' "$(violation)"
done
send ada PATCH /api/tasks/abc/complete '{}'
check 'PATCH asks for an id, too' '422 VALIDATION_ERROR path.id int_parsing' "$(violation)"

# --- Paths nearby ---

for path in "/api/tasks/$id/x" "/api/tasks/$id//" "/api/tasks//" "/api/tasks//$id" "/api//tasks/$id" "/api/task/$id" \
    "/api/Tasks/$id" "/API/tasks/$id" "/api/tasks/$id/complete/x" "/tasks/$id" "/v1/api/tasks/$id"; do
    as ada GET "$path"
    check "$path is no path of ours" '404 RESOURCE_NOT_FOUND Not Found' "$(refusal) $(json .message)"
done
