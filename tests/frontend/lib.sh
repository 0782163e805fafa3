# shellcheck shell=sh source=tests/lib.sh disable=SC2034,SC2119,SC2120 # used by the files that source this
# Words for the tests with a real frontend: Better Auth, a page, and a browser. A test file sources this instead of
# lib.sh.
. "$(dirname "$0")/lib.sh"

frontend=$root/tests/frontend
frontend_process=
"$dev" packages

# run_checks WHAT COMMAND…: does the checks that the command prints, a line each: name, expected, seen, with tabs
run_checks() {
    what=$1
    shift
    run_status=0
    "$@" >"$work/seen" || run_status=$?
    while IFS="$(printf '\t')" read -r name expected seen; do
        check "$name" "$expected" "$seen"
    done <"$work/seen"
    check "$what gets to its end" 0 "$run_status"
}

# in_browser PROGRAM SCENARIO [VARIABLE=VALUE…]
in_browser() {
    program=$1 scenario=$2
    shift 2
    run_checks "the browser's '$scenario'" \
        env CHROMIUM="$(command -v chromium)" "$@" node "$frontend/$program" "$scenario"
}

# start_frontend [VARIABLE=VALUE…]: those that tests/frontend/server.mjs knows. Its origin, $page, stays the same from
# one start to the next.
start_frontend() {
    stop_frontend
    : "${page_port:=$("$dev" free-port)}"
    page=http://localhost:$page_port
    env NEON_DATABASE_URL="$database_url" PORT="$page_port" "$@" \
        node "$frontend/server.mjs" >>"$work/frontend.log" 2>&1 &
    frontend_process=$!
    helpers=$frontend_process
    wait_until 30 frontend_answers_or_ended
    frontend_answers || { tail -n 20 "$work/frontend.log" && exit 1; }
}

frontend_answers() {
    curl --silent --output /dev/null "$page/mails"
}

frontend_answers_or_ended() {
    frontend_answers || ! kill -s 0 "$frontend_process" 2>/dev/null
}

stop_frontend() {
    [ -n "$frontend_process" ] || return 0
    kill "$frontend_process" 2>/dev/null || true
    wait "$frontend_process" 2>/dev/null || true
    frontend_process='' helpers=''
}

# at_frontend NAME METHOD PATH [CURL_OPTION…]: what the frontend's server answers to the person NAME
at_frontend() {
    jar=$work/cookies.$1
    method=$2
    path=$3
    shift 3
    curl --silent --show-error --max-time 20 --request "$method" --cookie "$jar" --cookie-jar "$jar" \
        --header "Origin: $page" --header 'Content-Type: application/json' "$@" "$page$path"
}

# sign_up NAME: prints the user's id
sign_up() {
    at_frontend "$1" POST /api/auth/sign-up/email \
        --data-raw "{\"name\":\"$1\",\"email\":\"$1@example.com\",\"password\":\"correct horse battery\"}" |
        jq -r .user.id
}

# sign_in NAME: a new session
sign_in() {
    rm -f "$work/cookies.$1"
    at_frontend "$1" POST /api/auth/sign-in/email \
        --data-raw "{\"email\":\"$1@example.com\",\"password\":\"correct horse battery\"}" >/dev/null
}

# sign_out NAME. The browser would drop the cookies; curl 7.88 does not write a file in which none is left.
sign_out() {
    at_frontend "$1" POST /api/auth/sign-out >/dev/null
    rm "$work/cookies.$1"
}

# plugin_token NAME: of the plugin `jwt()`
plugin_token() {
    at_frontend "$1" GET /api/auth/token | jq -r .token
}

# minted_token NAME LIBRARY [SECONDS]: of the project's own code, with jose or jsonwebtoken
minted_token() {
    at_frontend "$1" GET "/api/token/$2?seconds=${3:-3600}" | jq -r .token
}

# cookie NAME COOKIE: Better Auth's, as the browser of NAME has it
cookie() {
    awk -v cookie="better-auth.$2" '$6 == cookie { print $7 }' "$work/cookies.$1"
}

# mail SUBJECT ADDRESS: the token in the last such mail
mail() {
    curl --silent --show-error --max-time 20 "$page/mails" |
        jq -r --arg subject "$1" --arg to "$2" 'map(select(.subject == $subject and .to == $to)) | last.token'
}

# follow_mail NAME TOKEN: what Better Auth says when NAME follows the link in a mail
follow_mail() {
    at_frontend "$1" GET "/api/auth/verify-email?token=$2" | jq -r '.status // .code'
}

# header_of TOKEN FIELD | claim_of TOKEN FIELD
header_of() {
    decode "${1%%.*}" "$2"
}

claim_of() {
    rest=${1#*.}
    decode "${rest%%.*}" "$2"
}

# decode PART FIELD
decode() {
    PART=$1 perl -MMIME::Base64=decode_base64url -e 'print decode_base64url($ENV{PART})' | jq -r ".$2"
}
