# User story: my frontend runs Better Auth; the backend accepts every access token that it issues, and nothing else that
# it signs.
# shellcheck shell=sh source=tests/frontend/lib.sh
. "$(dirname "$0")/frontend/lib.sh"

algorithms='EdDSA ES256 ES512 RS256 PS256'
old_secret=$BETTER_AUTH_SECRET

# has_expired TOKEN
has_expired() {
    [ "$(verdict "$1")" = '401 TOKEN_EXPIRED' ]
}

# --- The plugin's tokens, with the keys in the table of the same database ---

# retire_keys: Better Auth creates a new key at the next signature
retire_keys() {
    sql "update jwks set \"expiresAt\" = now() where \"expiresAt\" > now()"
}

start_database
start_server
check 'the server starts before the table jwks exists' '' "$(sql "select to_regclass('jwks')")"
start_frontend
ada=$(sign_up ada)
check 'a token signed with a key of the new table is accepted' "201 $ada" "$(verdict "$(plugin_token ada)")"
for algorithm in $algorithms; do
    retire_keys # Better Auth goes on with the one it has, whatever the algorithm
    start_frontend ALGORITHM="$algorithm"
    sign_in ada
    plugin_token ada >"$work/token.$algorithm"
    token=$(cat "$work/token.$algorithm")
    check "Better Auth signs with $algorithm" "$algorithm null" "$(header_of "$token" alg) $(header_of "$token" typ)"
    check "a token signed with $algorithm is accepted" "201 $ada" "$(verdict "$token")"
done
check 'each algorithm has a key' 5 "$(sql 'select count(distinct alg) from jwks')"
for algorithm in $algorithms; do
    check "a token signed with $algorithm is accepted while its key exists" \
        "201 $ada" "$(verdict "$(cat "$work/token.$algorithm")")"
done
at_frontend ada GET /api/auth/get-session --dump-header "$work/session_headers" >/dev/null
token=$(tr -d '\r' <"$work/session_headers" | sed -n 's/^set-auth-jwt: //p')
check 'the token in set-auth-jwt is accepted' "201 $ada" "$(verdict "$token")"
bob=$(sign_up bob)
check 'another account is another user' "201 $bob" "$(verdict "$(plugin_token bob)")"
request GET /api/tasks --header "Authorization: Bearer $(plugin_token bob)"
check 'the other user sees only their own tasks' "200 [\"$bob\"]" "$(response 'map(.user_id) | unique')"
token=$(cat "$work/token.EdDSA")
case $token in
    *A) changed=${token%?}Q ;;
    *) changed=${token%?}A ;;
esac
check 'a token with a changed signature is refused' '401 INVALID_TOKEN' "$(verdict "$changed")"

# --- The session cookie cache, strategy jwt ---

check 'the cookie cache is a token signed with the secret' 'HS256 null' \
    "$(header_of "$(cookie ada session_data)" alg) $(header_of "$(cookie ada session_data)" typ)"
check 'the cookie cache is accepted' "201 $ada" "$(verdict "$(cookie ada session_data)")"
check 'the session cookie itself is refused' '401 INVALID_TOKEN' "$(verdict "$(cookie ada session_token)")"

# --- Tokens that the frontend signs with the secret ---

for library in jose jsonwebtoken; do
    check "a token signed with $library is accepted" "201 $ada" "$(verdict "$(minted_token ada "$library")")"
    check "an expired token signed with $library is refused" \
        '401 TOKEN_EXPIRED' "$(verdict "$(minted_token ada "$library" -1)")"
done

# --- Mail tokens that Better Auth signs with the same secret ---

# no_login NAME TOKEN
no_login() {
    check "$1: signed with the secret" HS256 "$(header_of "$2" alg)"
    check "$1: refused as a login" '401 INVALID_TOKEN' "$(verdict "$2")"
}

carol=$(sign_up carol)
verification=$(mail verification carol@example.com)
no_login 'the mail to verify an address' "$verification"
check 'Better Auth accepts the mail that verifies an address' true "$(follow_mail carol "$verification")"
sign_in carol
at_frontend carol POST /api/auth/change-email --data-raw '{"newEmail":"carol@new.example"}' >/dev/null
confirmation=$(mail 'confirmation of a change' carol@example.com)
no_login 'the mail to confirm a change of address' "$confirmation"
check 'Better Auth accepts the mail that confirms a change' true "$(follow_mail carol "$confirmation")"
change=$(mail verification carol@new.example)
no_login 'the mail to the new address' "$change"
check 'Better Auth accepts the mail to the new address' true "$(follow_mail carol "$change")"
check 'carol has the new address' t "$(sql "select email = 'carol@new.example' from \"user\" where id = '$carol'")"
for token in "$verification" "$confirmation" "$change"; do
    check 'a used mail token is refused as a login' '401 INVALID_TOKEN' "$(verdict "$token")"
done
dave=$(sign_up dave)
at_frontend dave POST /api/auth/change-email --data-raw '{"newEmail":"dave@new.example"}' >/dev/null
no_login 'the mail to the new address of an unverified account' "$(mail verification dave@new.example)"
check 'the unverified account can use the API' "201 $dave" "$(verdict "$(plugin_token dave)")"

# --- Sign-out and expiry ---

token=$(plugin_token bob)
cache=$(cookie bob session_data)
printf 'localhost\tFALSE\t/\tFALSE\t0\tbetter-auth.session_token\t%s\n' "$(cookie bob session_token)" >"$work/session"
cp "$work/session" "$work/cookies.bob"
check 'the session cookie alone gets a token' "201 $bob" "$(verdict "$(plugin_token bob)")"
sign_out bob
cp "$work/session" "$work/cookies.bob"
check 'after the sign-out the session cookie gets no token' 'null null' "$(plugin_token bob) $(minted_token bob jose)"
check 'a token issued before the sign-out is accepted until it expires' "201 $bob" "$(verdict "$token")"
check 'the cookie cache is accepted until it expires' "201 $bob" "$(verdict "$cache")"
check 'these lifetimes are 15 and 5 minutes' '900 300' \
    "$(($(claim_of "$token" exp) - $(claim_of "$token" iat))) $(($(claim_of "$cache" exp) - $(claim_of "$cache" iat)))"
start_frontend TOKEN_LIFETIME=3s CACHE_SECONDS=3
sign_in bob
token=$(plugin_token bob)
cache=$(cookie bob session_data)
check 'a token with a lifetime of 3 s is accepted' "201 $bob" "$(verdict "$token")"
check 'a cookie cache with a lifetime of 3 s is accepted' "201 $bob" "$(verdict "$cache")"
check_that 'the token expires' wait_until 10 has_expired "$token"
check_that 'the cookie cache expires' wait_until 10 has_expired "$cache"
check 'the session gets a new token, which is accepted' "201 $bob" "$(verdict "$(plugin_token bob)")"

# --- Other tokens of the plugin, and other issuers ---

start_frontend CACHE_BY_PLUGIN=1
sign_in ada
check 'the plugin can sign the cookie cache' better-auth.session-cache+jwt \
    "$(header_of "$(cookie ada session_data)" typ)"
check 'a cookie cache signed by the plugin is refused' '401 INVALID_TOKEN' "$(verdict "$(cookie ada session_data)")"
check 'an access token of the same plugin is accepted' "201 $ada" "$(verdict "$(plugin_token ada)")"
sql 'create database other_issuer'
start_frontend NEON_DATABASE_URL="${database_url%/*}/other_issuer"
sign_up eve >/dev/null
other_issuer=$(plugin_token eve)
check 'a token of another Better Auth is refused' '401 INVALID_TOKEN' "$(verdict "$other_issuer")"

# --- Rotation of the keys under load ---

# ask_on FILE: sends requests with fresh tokens until the file `stop` exists, and retries a 503; writes status and key
# of each to FILE.
ask_on() {
    while [ ! -e "$work/stop" ]; do
        # Without --cookie-jar: the other process reads the same file.
        fresh=$(curl --silent --max-time 20 --cookie "$work/cookies.ada" "$page/api/auth/token" | jq -r .token)
        code=$(curl --silent --max-time 20 --retry 3 --retry-max-time 20 --output /dev/null --write-out '%{http_code}' \
            --header "Authorization: Bearer $fresh" "$base/api/tasks")
        echo "$code $(header_of "$fresh" kid)" >>"$1"
    done
}

# has_lines FILE COUNT
has_lines() {
    [ "$(wc -l <"$1")" -ge "$2" ]
}

# rotate_under_load NAME: rotates the keys while two processes send requests
rotate_under_load() {
    rm -f "$work/stop" "$work/asked.1" "$work/asked.2"
    : >"$work/asked.1"
    : >"$work/asked.2"
    ask_on "$work/asked.1" &
    first=$!
    ask_on "$work/asked.2" &
    helpers="$helpers $first $!"
    lines=0
    for _ in 1 2 3 4; do
        lines=$(($(wc -l <"$work/asked.1") + 5))
        wait_until 60 has_lines "$work/asked.1" "$lines" || break
        retire_keys
    done
    : >"$work/stop"
    wait "$first" "${helpers##* }"
    helpers=$frontend_process
    sort "$work/asked.1" "$work/asked.2" >"$work/asked"
    check "no request is refused while keys rotate ($1)" 200 "$(cut -d ' ' -f 1 "$work/asked" | uniq)"
    check_that "keys did rotate ($1)" [ "$(cut -d ' ' -f 2 "$work/asked" | sort -u | wc -l)" -ge 4 ]
}

stop_server
start_server # the other one has just fetched an unknown kid, and fetches no other for 30 seconds
start_frontend
sign_in ada
retire_keys
retired=$(plugin_token ada)
rotate_under_load 'table'
check 'a token of a retired key is accepted' "201 $ada" "$(verdict "$retired")"
stop_server
start_server
check 'a token of a retired key is accepted after a restart' "201 $ada" "$(verdict "$retired")"
sql "update jwks set \"expiresAt\" = now() - interval '30 days 1 second' where id = '$(header_of "$retired" kid)'"
stop_server
start_server
check 'a token of a key retired 30 days ago is refused' '401 INVALID_TOKEN' "$(verdict "$retired")"

# --- Rotation of the secret ---

new_secret=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n')
before=$(minted_token ada jose)
rotation="2:$new_secret,1:$old_secret"
start_frontend BETTER_AUTH_SECRETS="$rotation"
sign_in ada
after=$(cookie ada session_data)
check 'with the old secret alone, a token of the new one is refused' '401 INVALID_TOKEN' "$(verdict "$after")"
stop_server
start_server BETTER_AUTH_SECRETS="$rotation"
check 'with both secrets, a token of the new one is accepted' "201 $ada" "$(verdict "$after")"
check 'with both secrets, a token of the old one is accepted' "201 $ada" "$(verdict "$before")"
check 'with both secrets, a token of the plugin is accepted' "201 $ada" "$(verdict "$(plugin_token ada)")"
stop_server
start_server BETTER_AUTH_SECRET= BETTER_AUTH_SECRETS="2:$new_secret"
check 'with the new secret alone, a token of the old one is refused' '401 INVALID_TOKEN' "$(verdict "$before")"
check 'with the new secret alone, a token of the new one is accepted' "201 $ada" "$(verdict "$after")"
stop_server

# --- Keys over HTTP, for a backend with its own database ---

sql 'create database elsewhere'
start_frontend
sign_in ada

# start_elsewhere [VARIABLE=VALUE…]
start_elsewhere() {
    stop_server
    start_server NEON_DATABASE_URL="${database_url%/*}/elsewhere" "$@"
}

start_elsewhere
check 'without table and URL, a token of the plugin is refused' '401 INVALID_TOKEN' "$(verdict "$(plugin_token ada)")"
check 'without table and URL, a token signed with the secret is accepted' \
    "201 $ada" "$(verdict "$(minted_token ada jose)")"
start_elsewhere BETTER_AUTH_URL="$page"
for algorithm in $algorithms; do
    check "with a URL, a token signed with $algorithm is accepted" \
        "201 $ada" "$(verdict "$(cat "$work/token.$algorithm")")"
done
token=$(plugin_token ada)
check 'with a URL, a new token is accepted' "201 $ada" "$(verdict "$token")"
check 'with a URL, a token of another issuer is refused' '401 INVALID_TOKEN' "$(verdict "$other_issuer")"
start_elsewhere BETTER_AUTH_URL="$page/"
rotate_under_load 'HTTP'
token=$(plugin_token ada)
verdict "$token" >/dev/null
stop_frontend
check 'a token of a known key is accepted while Better Auth is down' "201 $ada" "$(verdict "$token")"
start_elsewhere BETTER_AUTH_JWKS_URL="$page/api/auth/jwks"
request GET /api/tasks --header "Authorization: Bearer $token"
check 'without keys, a token of the plugin is a 503' '503 SERVICE_UNAVAILABLE' "$(refusal)"
check_that 'the 503 has Retry-After' [ "$(header Retry-After)" -gt 0 ]
check 'without keys, a token signed with the secret is accepted' "201 $ada" "$(verdict "$before")"
start_frontend
is_accepted() {
    [ "$(verdict "$token")" = "201 $ada" ]
}
check_that 'after Better Auth is up again, a token of the plugin is accepted' wait_until 30 is_accepted

# --- Issuer and audience ---

start_elsewhere BETTER_AUTH_URL="$page" BETTER_AUTH_ISSUER="$page" BETTER_AUTH_AUDIENCE="$page"
check 'a token with the configured issuer and audience is accepted' "201 $ada" "$(verdict "$token")"
check 'a token without issuer and audience is refused' '401 INVALID_TOKEN' "$(verdict "$before")"
start_elsewhere BETTER_AUTH_URL="$page" BETTER_AUTH_ISSUER=https://another.example
check 'a token of another issuer is refused' '401 INVALID_TOKEN' "$(verdict "$token")"
start_elsewhere BETTER_AUTH_URL="$page" BETTER_AUTH_AUDIENCE=https://another.example
check 'a token for another audience is refused' '401 INVALID_TOKEN' "$(verdict "$token")"
