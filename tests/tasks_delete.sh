# User story: I throw a task away, and it is gone.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

create ada kept
kept=$id
create ada 'thrown away'
thrown=$id

as ada DELETE "/api/tasks/$thrown"
check 'a deletion has nothing to say' '204 0' "$status $(wc -c <"$body_file" | tr -d ' ')"
check 'it has no Content-Length' '' "$(header Content-Length)"
check 'it has no Content-Type' '' "$(header Content-Type)"
check 'it has no Transfer-Encoding' '' "$(header Transfer-Encoding)"
check 'it is not to be stored, nor guessed at' 'no-store nosniff Origin' \
    "$(header Cache-Control) $(header X-Content-Type-Options) $(header Vary)"

as ada GET "/api/tasks/$thrown"
check 'the task is gone' '404 RESOURCE_NOT_FOUND' "$(refusal)"
gone=$body
as ada DELETE "/api/tasks/$thrown"
check 'it cannot be deleted again' "404 $gone" "$status $body"
send ada PUT "/api/tasks/$thrown" '{"title":"back"}'
check 'it cannot be changed' "404 $gone" "$status $body"
as ada PATCH "/api/tasks/$thrown/complete"
check 'it cannot be ticked off' "404 $gone" "$status $body"
as ada GET /api/tasks
check 'the others are still there' "200 [$kept]" "$(answer '[.[].id]')"
check 'it is gone from the database' 1 "$(sql 'select count(*) from tasks')"
create ada next
check 'its id is not used again' true "$([ "$id" -gt "$thrown" ] && echo true)"

as ada DELETE "/api/tasks/$id/"
check 'one trailing slash is forgiven' 204 "$status"
create ada x
send ada DELETE "/api/tasks/$id" '{"id":1}'
check 'a body does not matter' 204 "$status"
create ada x
as ada DELETE "/api/tasks/$id" --header 'Content-Type: application/json'
check 'nor does a Content-Type without a body' 204 "$status"
create ada x
as ada DELETE "/api/tasks/$id?id=$kept&cascade=true"
check 'nor does a query' 204 "$status"

for other in 2147483647 2147483648 0 -1 99999999999999999999; do
    as ada DELETE "/api/tasks/$other"
    check "$other is not there" "404 $gone" "$status $body"
done
as ada DELETE /api/tasks
check 'all of them cannot be deleted at once' '405 METHOD_NOT_ALLOWED' "$(refusal)"
as ada GET /api/tasks
check 'after all this the other task is as it was' "200 [$kept]" "$(answer '[.[].id]')"

create ada x
connections=$(curl --silent --header "Authorization: Bearer $(token ada)" --write-out '%{num_connects}\n' \
    --request DELETE "$base/api/tasks/$id" --next --silent --write-out '%{num_connects}\n' --output /dev/null "$base/health" |
    tr '\n' ' ')
check 'the connection serves on after a 204' '1 0 ' "$connections"
