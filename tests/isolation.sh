# User story: other users of the service cannot see, change or detect my tasks.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

create ada 'the cake for Bob'
adas=$id
as ada GET "/api/tasks/$adas"
adas_task=$body
create bob 'milk'
bobs=$id
absent=2147483647
beyond=99999999999999999999

# response_to_bob METHOD PATH [JSON]: the response without the headers that differ between any two responses
response_to_bob() {
    if [ $# = 3 ]; then
        send bob "$1" "$2" "$3"
    else
        as bob "$1" "$2"
    fi
    printf '%s\n%s\n' "$headers" "$body" | grep -v -e '^Date:' -e '^X-Request-Id:' -e '^Server-Timing:'
}

# --- Another user's task is answered like an absent one, to the byte ---

# same_as_absent METHOD PATH_AFTER_THE_ID [JSON]
same_as_absent() {
    response_for_absent=$(response_to_bob "$1" "/api/tasks/$absent$2" ${3:+"$3"})
    check_contains "$1 /api/tasks/{id}$2 ${3:-}: an absent task is a 4xx" 'HTTP/1.1 4' "$response_for_absent"
    check "$1 /api/tasks/{id}$2 ${3:-}: another user's task is answered like an absent one" "$response_for_absent" \
        "$(response_to_bob "$1" "/api/tasks/$adas$2" ${3:+"$3"})"
}

same_as_absent GET ''
same_as_absent HEAD ''
same_as_absent GET '/'
same_as_absent PUT '' '{"title":"mine now"}'
same_as_absent PUT '' '{"user_id":"bob"}'
same_as_absent PUT '' '{}'
same_as_absent PUT '' '{"title":""}'
same_as_absent PUT '' '{bad'
same_as_absent PATCH /complete
same_as_absent PATCH /complete '{"completed":true}'
same_as_absent PATCH /complete '{"completed":"true"}'
same_as_absent DELETE ''
same_as_absent POST '' '{"title":"mine now"}'
check 'an id out of range is answered like an absent one' \
    "$(response_to_bob GET "/api/tasks/$absent")" "$(response_to_bob GET "/api/tasks/$beyond")"
as bob GET "/api/tasks/$adas"
check "another user's task is a 404" '404 RESOURCE_NOT_FOUND Task not found' "$(refusal) $(json .message)"
as ada GET "/api/tasks/$adas"
check 'after all attempts her task is unchanged' "$adas_task" "$body"

# --- Lists ---

as bob GET /api/tasks
check 'a list has only the own tasks' "200 [$bobs]" "$(response '[.[].id]')"
for query in search=cake user_id=ada userId=ada user=ada owner=ada 'sub=ada&limit=1000' status=pending \
    completed=false sort=title; do
    as bob GET "/api/tasks?$query"
    check "?$query shows none of her tasks" '200 false' "$(response 'any(.user_id != "bob")')"
done
as bob GET '/api/tasks?limit=1'
check 'X-Total-Count counts only the own tasks' 1 "$(header X-Total-Count)"
as bob GET '/api/tasks?offset=1'
check 'an offset beyond the own tasks is empty' '200 []' "$(response .)"
as carol GET /api/tasks
check 'a user without tasks has an empty list' '200 []' "$(response .)"

# --- Only the token names the user ---

send bob POST /api/tasks "{\"title\":\"smuggled\",\"user_id\":\"ada\",\"userId\":\"ada\",\"id\":$adas}"
check 'a user_id in the body of a POST is ignored' '201 bob' "$(response .user_id)"
check 'an id in the body of a POST is ignored' true "$(json ".id != $adas")"
send bob PUT "/api/tasks/$bobs" '{"title":"milk","user_id":"ada"}'
check 'a user_id in the body of a PUT is ignored' '200 bob' "$(response .user_id)"
send bob PATCH "/api/tasks/$bobs/complete" '{"completed":true,"user_id":"ada"}'
check 'a user_id in the body of a PATCH is ignored' '200 bob' "$(response .user_id)"
send bob POST '/api/tasks?user_id=ada' '{"title":"smuggled"}'
check 'a user_id in the query of a POST is ignored' '201 bob' "$(response .user_id)"
for path in /api/ada/tasks /api/users/ada/tasks "/api/ada/tasks/$adas" "/api/tasks/ada/$adas"; do
    as bob GET "$path"
    check "a path with a user ($path) is a 404" '404 Not Found' "$(response .message)"
done
as bob GET /api/tasks --header 'X-User-Id: ada' --header 'X-Forwarded-User: ada' --cookie 'user_id=ada'
check 'headers and cookies that name another user are ignored' '200 false' "$(response 'any(.user_id != "bob")')"
as ada GET /api/tasks
check 'her list is unchanged' "200 [$adas]" "$(response '[.[].id]')"

# --- User ids are compared exactly ---

for other in Ada ADA 'ada ' ' ada' ada@example.com 'a%' 'ad_' '%' '*' "ada' or '1'='1" "' or 1=1 --" 'àda' 'аda'; do
    as "$other" GET "/api/tasks/$adas"
    found=$status
    as "$other" GET /api/tasks
    check "the user '$other' is another user" '404 200 []' "$found $(response .)"
done

# --- A deletion affects only the own task ---

as ada DELETE "/api/tasks/$adas"
as bob GET "/api/tasks/$bobs"
check 'her deletion keeps his task' 200 "$status"
as ada GET /api/tasks
check 'her list is empty' '200 []' "$(response .)"
