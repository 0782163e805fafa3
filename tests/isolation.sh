# User story: others use the same service, and none of them sees, changes or even notices my tasks.
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

# answer_to_bob METHOD PATH [JSON]: all that he can tell one answer from another by
answer_to_bob() {
    if [ $# = 3 ]; then
        send bob "$1" "$2" "$3"
    else
        as bob "$1" "$2"
    fi
    printf '%s\n%s\n' "$headers" "$body" | grep -v -e '^Date:' -e '^X-Request-Id:' -e '^Server-Timing:'
}

# --- Another's task is as good as none, to the byte ---

# same_as_absent METHOD PATH_AFTER_THE_ID [JSON]
same_as_absent() {
    answer_for_absent=$(answer_to_bob "$1" "/api/tasks/$absent$2" ${3:+"$3"})
    check_contains "$1 /api/tasks/{id}$2 ${3:-}: an absent task is answered" 'HTTP/1.1 4' "$answer_for_absent"
    check "$1 /api/tasks/{id}$2 ${3:-}: another's task is answered as an absent one" "$answer_for_absent" \
        "$(answer_to_bob "$1" "/api/tasks/$adas$2" ${3:+"$3"})"
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
check 'an id beyond all integers is answered as an absent one, too' \
    "$(answer_to_bob GET "/api/tasks/$absent")" "$(answer_to_bob GET "/api/tasks/$beyond")"
as bob GET "/api/tasks/$adas"
check "another's task is not found" '404 RESOURCE_NOT_FOUND Task not found' "$(refusal) $(json .message)"
as ada GET "/api/tasks/$adas"
check 'after all these attempts her task is as it was' "$adas_task" "$body"

# --- Lists ---

as bob GET /api/tasks
check 'a list holds only my tasks' "200 [$bobs]" "$(answer '[.[].id]')"
for query in search=cake user_id=ada userId=ada user=ada owner=ada 'sub=ada&limit=1000' status=pending completed=false sort=title; do
    as bob GET "/api/tasks?$query"
    check "?$query shows none of her tasks" '200 false' "$(answer 'any(.user_id != "bob")')"
done
as bob GET '/api/tasks?limit=1'
check 'X-Total-Count counts only my tasks' 1 "$(header X-Total-Count)"
as bob GET '/api/tasks?offset=1'
check 'behind my last task there is nothing of hers' '200 []' "$(answer .)"
as carol GET /api/tasks
check 'who has no tasks has an empty list' '200 []' "$(answer .)"

# --- Only the token says who is asking ---

send bob POST /api/tasks "{\"title\":\"smuggled\",\"user_id\":\"ada\",\"userId\":\"ada\",\"id\":$adas}"
check 'a user_id in the body of a POST is ignored' '201 bob' "$(answer .user_id)"
check 'an id in the body of a POST is ignored' true "$(json ".id != $adas")"
send bob PUT "/api/tasks/$bobs" '{"title":"milk","user_id":"ada"}'
check 'a user_id in the body of a PUT is ignored' '200 bob' "$(answer .user_id)"
send bob PATCH "/api/tasks/$bobs/complete" '{"completed":true,"user_id":"ada"}'
check 'a user_id in the body of a PATCH is ignored' '200 bob' "$(answer .user_id)"
send bob POST '/api/tasks?user_id=ada' '{"title":"smuggled"}'
check 'a user_id in the query of a POST is ignored' '201 bob' "$(answer .user_id)"
for path in /api/ada/tasks /api/users/ada/tasks "/api/ada/tasks/$adas" "/api/tasks/ada/$adas"; do
    as bob GET "$path"
    check "a user in the path ($path) is no path of ours" '404 Not Found' "$(answer .message)"
done
as bob GET /api/tasks --header 'X-User-Id: ada' --header 'X-Forwarded-User: ada' --cookie 'user_id=ada'
check 'headers and cookies that name her are ignored' '200 false' "$(answer 'any(.user_id != "bob")')"
as ada GET /api/tasks
check 'none of this put anything into her list' "200 [$adas]" "$(answer '[.[].id]')"

# --- Users are told apart exactly ---

for other in Ada ADA 'ada ' ' ada' ada@example.com 'a%' 'ad_' '%' '*' "ada' or '1'='1" "' or 1=1 --" 'àda' 'аda'; do
    as "$other" GET "/api/tasks/$adas"
    found=$status
    as "$other" GET /api/tasks
    check "the user '$other' is somebody else" '404 200 []' "$found $(answer .)"
done

# --- She deletes hers, he keeps his ---

as ada DELETE "/api/tasks/$adas"
as bob GET "/api/tasks/$bobs"
check 'what she deletes is not mine' 200 "$status"
as ada GET /api/tasks
check 'her list is empty' '200 []' "$(answer .)"
