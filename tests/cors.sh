# User story: my frontend has another origin; its pages can read every response, and pages of other origins none.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

page=http://localhost:3000
exposed='WWW-Authenticate, Location, ETag, Retry-After, X-Total-Count, X-Request-Id, Server-Timing'

# cors_headers: the CORS headers of the last response, and Vary
cors_headers() {
    printf '%s|%s|%s|%s\n' "$(header Access-Control-Allow-Origin)" "$(header Access-Control-Allow-Credentials)" \
        "$(header Access-Control-Expose-Headers)" "$(header Vary)"
}
readable="$page|true|$exposed|Origin"
unreadable='|||Origin'

# --- Every response is readable, whatever its status ---

# can_be_read STATUS METHOD PATH [CURL_OPTION…]
can_be_read() {
    expected=$1
    shift
    as ada "$@" --header "Origin: $page"
    check "$1 $2 ($expected) can be read by the page" "$expected $readable" "$status $(cors_headers)"
}

can_be_read 201 POST /api/tasks --data-raw '{"title":"x"}'
id=$(json .id)
can_be_read 200 GET /api/tasks
can_be_read 200 GET '/api/tasks?limit=1'
can_be_read 200 HEAD /api/tasks
can_be_read 200 GET "/api/tasks/$id"
can_be_read 200 PUT "/api/tasks/$id" --data-raw '{}'
can_be_read 200 PATCH "/api/tasks/$id/complete"
can_be_read 204 DELETE "/api/tasks/$id"
can_be_read 404 GET "/api/tasks/$id"
can_be_read 404 GET /api/nothing
can_be_read 404 GET /nothing
can_be_read 405 DELETE /api/tasks
can_be_read 405 POST /health
can_be_read 422 POST /api/tasks --data-raw '{}'
can_be_read 422 GET '/api/tasks?limit=x'
can_be_read 422 GET /api/tasks/x
text_of 1048577 ' ' >"$work/large"
can_be_read 413 POST /api/tasks --data-binary "@$work/large"
printf '\377' >"$work/bytes"
can_be_read 400 POST /api/tasks --data-binary "@$work/bytes"
for path in / /health /ready /openapi.json; do
    can_be_read 200 GET "$path"
done
for path in /api/tasks /api/nothing; do
    request GET "$path" --header "Origin: $page"
    check "GET $path without a token (401) can be read by the page" "401 $readable" "$status $(cors_headers)"
done
# refused_by_engine STATUS METHOD REST: REST follows /health, without its last line end
refused_by_engine() {
    raw "$2 /health$3\r\nHost: x\r\nOrigin: $page\r\n\r\n"
    check "$1 of the HTTP engine can be read by the page" "$1 $readable" "$status $(cors_headers)"
}
refused_by_engine 414 GET "?$(text_of 8192 x) HTTP/1.1"
refused_by_engine 431 GET " HTTP/1.1$(text_of 101 '\r\nX: y')"
refused_by_engine 501 CONNECT ' HTTP/1.1'
refused_by_engine 505 GET ' HTTP/2.0'
request GET /api/tasks --header "Origin: $page" --header "Authorization: Bearer $("$dev" token ada -60)"
check 'a 401 for an expired token can be read by the page' "401 TOKEN_EXPIRED $readable" "$(refusal) $(cors_headers)"

# --- Origins ---

# origin_is allowed|refused ORIGIN: for responses and preflights
origin_is() {
    allowed=$2
    [ "$1" = allowed ] || allowed=
    as ada GET /api/tasks --header "Origin: $2"
    check "the origin '$2' is $1" "200 $allowed Origin" "$status $(header Access-Control-Allow-Origin) $(header Vary)"
    request OPTIONS /api/tasks --header "Origin: $2" --header 'Access-Control-Request-Method: GET'
    check "a preflight of the origin '$2' is $1" "204 $allowed Origin" \
        "$status $(header Access-Control-Allow-Origin) $(header Vary)"
}

request GET /health --header "Origin: $base"
request GET /health --header 'Origin: http://first.example'
check_logged 'a refused origin is logged' 'origin "http://first.example" is not in ALLOWED_ORIGINS'
check_lacks 'an allowed origin is not, nor is that of the server itself' "$(cat "$work/server.log")" \
    "origin \"$base\"" 'origin "http://localhost:3000"'
origin_is allowed http://localhost:3000
origin_is allowed http://127.0.0.1:3000
for origin in null https://localhost:3000 http://localhost http://localhost:3001 http://localhost:30000 \
    http://localhost:3000.evil.example http://evil.example http://evil.example/http://localhost:3000 \
    http://localhost:3000@evil.example http://xlocalhost:3000 http://localhost:3000/ '*' file:// \
    'http://localhost:3000, http://evil.example' 'http://localhost:3000 http://evil.example' http://localhost:300; do
    origin_is refused "$origin"
done
as ada GET /api/tasks
check 'a response without Origin has Vary and no CORS headers' "200 $unreadable" "$status $(cors_headers)"
as ada GET /api/tasks --header 'Origin: http://evil.example'
check 'a response to a refused origin has Vary and no CORS headers' "200 $unreadable" "$status $(cors_headers)"
request GET /api/tasks --header 'Origin: http://evil.example'
check 'a 401 to a refused origin has Vary and no CORS headers' "401 $unreadable" "$status $(cors_headers)"

# --- Preflights ---

methods='GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'
always='Authorization, Content-Type, If-Match, If-None-Match'

# preflight PATH METHOD [HEADERS]
preflight() {
    request OPTIONS "$1" --header "Origin: $page" --header "Access-Control-Request-Method: $2" \
        ${3:+--header "Access-Control-Request-Headers: $3"}
}

for path in / /api/tasks /api/tasks/ /api/tasks/1 /api/tasks/1/ /api/tasks/1/complete /api/tasks/abc /api/nothing \
    /nothing /health /api; do
    preflight "$path" PATCH 'authorization,content-type'
    check "a preflight of $path needs no token and is not redirected" "204 $readable $methods 7200" \
        "$status $(cors_headers) $(header Access-Control-Allow-Methods) $(header Access-Control-Max-Age)"
done
for method in GET HEAD POST PUT PATCH DELETE OPTIONS TRACE x; do
    preflight /api/tasks "$method"
    check "a preflight for $method lists all methods" "204 $methods" "$status $(header Access-Control-Allow-Methods)"
done
check 'a preflight has no body' 0 "$(wc -c <"$body_file" | tr -d ' ')"
check 'a preflight has no Content-Length' '' "$(header Content-Length)"
check 'a preflight has Cache-Control: no-store' no-store "$(header Cache-Control)"
check 'a preflight without requested headers lists the default ones' "$always" "$(header Access-Control-Allow-Headers)"
preflight /api/tasks POST 'authorization,content-type'
check 'requested default headers are not repeated' "$always" "$(header Access-Control-Allow-Headers)"
preflight /api/tasks POST 'authorization, x-request-id,x-trace, X-Requested-With'
check 'other requested headers are added' \
    "$always, x-request-id, x-trace, X-Requested-With" "$(header Access-Control-Allow-Headers)"
preflight /api/tasks POST 'x-good, bad name, bad(name), "bad", *'
check_contains 'an invalid name among the requested headers is skipped' "$always, x-good" \
    "$(header Access-Control-Allow-Headers)"
check_lacks 'an invalid name is not echoed' "$(header Access-Control-Allow-Headers)" bad
request OPTIONS /api/tasks --header 'Origin: http://evil.example' --header 'Access-Control-Request-Method: GET' \
    --header 'Access-Control-Request-Headers: authorization'
check 'a preflight of a refused origin has no CORS headers' '204 |||Origin ' \
    "$status $(cors_headers) $(printf '%s\n' "$headers" | grep -i '^access-control' || true)"
request OPTIONS /api/tasks --header 'Access-Control-Request-Method: GET'
check 'a preflight without Origin has no CORS headers' '204 |||Origin' "$status $(cors_headers)"
request OPTIONS /api/tasks --header "Origin: $page"
check 'OPTIONS without Access-Control-Request-Method is no preflight' "401 $readable" "$status $(cors_headers)"
as ada OPTIONS /api/tasks --header "Origin: $page"
check 'OPTIONS with a token that is no preflight is a 405' "405 $readable" "$status $(cors_headers)"
check_lacks 'no header is *, which browsers take literally with credentials' "$headers" '*'

# --- ALLOWED_ORIGINS ---

# with_origins LIST
with_origins() {
    stop_server
    start_server ALLOWED_ORIGINS="$1"
}

with_origins ' https://todo.example/ ,https://my-app-*.vercel.app, http://dev.example:8080// ,'
origin_is allowed https://todo.example
origin_is allowed http://dev.example:8080
origin_is allowed https://my-app-git-main-ada.vercel.app
origin_is allowed https://my-app-1.vercel.app
for origin in http://todo.example https://todo.example:8443 https://www.todo.example https://todo.example.evil.example \
    http://dev.example http://localhost:3000 https://my-app-x.y.vercel.app https://my-app-.vercel.app \
    https://my-app.vercel.app http://my-app-x.vercel.app https://my-app-x.vercel.app.evil.example \
    https://evil.example/my-app-x.vercel.app https://my-app-evil.example/.vercel.app \
    https://my-app-evil.example#.vercel.app https://my-app-x@evil.vercel.app https://my-app-x.vercel.app:8443 \
    https://my-app-*.vercel.app https://xmy-app-x.vercel.app null; do
    origin_is refused "$origin"
done

with_origins '*'
origin_is allowed https://anything.example
origin_is allowed http://localhost:1234
origin_is refused null
as ada GET /api/tasks --header 'Origin: https://anything.example'
check 'ALLOWED_ORIGINS=* echoes the origin' 'https://anything.example|true' \
    "$(header Access-Control-Allow-Origin)|$(header Access-Control-Allow-Credentials)"

with_origins ''
origin_is refused http://localhost:3000
