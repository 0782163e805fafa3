# User story: I delete a task, and it is gone.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

create ada kept
kept=$id
create ada 'thrown away'
thrown=$id

as ada DELETE "/api/tasks/$thrown"
check 'DELETE is a 204 without body' '204 0' "$status $(wc -c <"$body_file" | tr -d ' ')"
check 'the 204 has no Content-Length' '' "$(header Content-Length)"
check 'the 204 has no Content-Type' '' "$(header Content-Type)"
check 'the 204 has no Transfer-Encoding' '' "$(header Transfer-Encoding)"
check 'the 204 has the headers of every response' 'no-store nosniff Origin' \
    "$(header Cache-Control) $(header X-Content-Type-Options) $(header Vary)"

as ada GET "/api/tasks/$thrown"
check 'GET of the deleted task is a 404' '404 RESOURCE_NOT_FOUND' "$(refusal)"
gone=$body
as ada DELETE "/api/tasks/$thrown"
check 'DELETE of the deleted task is a 404' "404 $gone" "$status $body"
send ada PUT "/api/tasks/$thrown" '{"title":"back"}'
check 'PUT of the deleted task is a 404' "404 $gone" "$status $body"
as ada PATCH "/api/tasks/$thrown/complete"
check 'PATCH of the deleted task is a 404' "404 $gone" "$status $body"
as ada GET /api/tasks
check 'the other task is still listed' "200 [$kept]" "$(response '[.[].id]')"
check 'the row is gone from the database' 1 "$(sql 'select count(*) from tasks')"
create ada next
check 'its id is not reused' true "$([ "$id" -gt "$thrown" ] && echo true)"

as ada DELETE "/api/tasks/$id/"
check 'one trailing slash is accepted' 204 "$status"
create ada x
send ada DELETE "/api/tasks/$id" '{"id":1}'
check 'a body is ignored' 204 "$status"
create ada x
as ada DELETE "/api/tasks/$id" --header 'Content-Type: application/json'
check 'a Content-Type without a body is ignored' 204 "$status"
create ada x
as ada DELETE "/api/tasks/$id?id=$kept&cascade=true"
check 'a query is ignored' 204 "$status"

for other in 2147483647 2147483648 0 -1 99999999999999999999; do
    as ada DELETE "/api/tasks/$other"
    check "DELETE of the absent task $other is a 404" "404 $gone" "$status $body"
done
as ada DELETE /api/tasks
check 'DELETE of the list is a 405' '405 METHOD_NOT_ALLOWED' "$(refusal)"
as ada GET /api/tasks
check 'the other task is still listed at the end' "200 [$kept]" "$(response '[.[].id]')"

create ada x
connections=$(curl --silent --header "Authorization: Bearer $(token ada)" --write-out '%{num_connects}\n' \
    --request DELETE "$base/api/tasks/$id" \
    --next --silent --write-out '%{num_connects}\n' --output /dev/null "$base/health" |
    tr '\n' ' ')
check 'the connection is reused after a 204' '1 0 ' "$connections"
