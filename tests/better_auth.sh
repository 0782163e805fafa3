# User story: my frontend runs the real Better Auth; the backend believes every access token that it issues, and nothing
# else that it signs.
# shellcheck shell=sh source=tests/frontend/lib.sh
. "$(dirname "$0")/frontend/lib.sh"

algorithms='EdDSA ES256 ES512 RS256 PS256'
old_secret=$BETTER_AUTH_SECRET

# has_expired TOKEN
has_expired() {
    [ "$(verdict "$1")" = '401 TOKEN_EXPIRED' ]
}

# --- The plugin's tokens, with the keys in the table of the same database ---

# retire_keys: so that Better Auth makes a new one when it is to sign again
retire_keys() {
    sql "update jwks set \"expiresAt\" = now() where \"expiresAt\" > now()"
}

start_database
start_server
check 'the server runs before Better Auth made its tables' '' "$(sql "select to_regclass('jwks')")"
start_frontend
ada=$(sign_up ada)
check 'and finds the keys there when it needs them' "201 $ada" "$(verdict "$(plugin_token ada)")"
for algorithm in $algorithms; do
    retire_keys # Better Auth goes on with the one it has, whatever the algorithm
    start_frontend ALGORITHM="$algorithm"
    sign_in ada
    plugin_token ada >"$work/token.$algorithm"
    token=$(cat "$work/token.$algorithm")
    check "Better Auth signs with $algorithm" "$algorithm null" "$(header_of "$token" alg) $(header_of "$token" typ)"
    check "a token signed with $algorithm is accepted" "201 $ada" "$(verdict "$token")"
done
check 'each has its key' 5 "$(sql 'select count(distinct alg) from jwks')"
for algorithm in $algorithms; do
    check "that with $algorithm holds as long as its key is there" "201 $ada" "$(verdict "$(cat "$work/token.$algorithm")")"
done
at_frontend ada GET /api/auth/get-session --dump-header "$work/session_headers" >/dev/null
token=$(tr -d '\r' <"$work/session_headers" | sed -n 's/^set-auth-jwt: //p')
check 'so does the token that comes with the session' "201 $ada" "$(verdict "$token")"
bob=$(sign_up bob)
check 'another person is another user' "201 $bob" "$(verdict "$(plugin_token bob)")"
request GET /api/tasks --header "Authorization: Bearer $(plugin_token bob)"
check 'who sees only their own tasks' "200 [\"$bob\"]" "$(answer 'map(.user_id) | unique')"
token=$(cat "$work/token.EdDSA")
case $token in
    *A) changed=${token%?}Q ;;
    *) changed=${token%?}A ;;
esac
check 'a token with a changed signature is refused' '401 INVALID_TOKEN' "$(verdict "$changed")"

# --- The session cookie cache, strategy jwt ---

check 'the cookie cache is a token signed with the secret' 'HS256 null' \
    "$(header_of "$(cookie ada session_data)" alg) $(header_of "$(cookie ada session_data)" typ)"
check 'it is accepted' "201 $ada" "$(verdict "$(cookie ada session_data)")"
check 'the session cookie itself is none' '401 INVALID_TOKEN' "$(verdict "$(cookie ada session_token)")"

# --- Tokens that a project mints with the secret ---

for library in jose jsonwebtoken; do
    check "a token minted with $library is accepted" "201 $ada" "$(verdict "$(minted_token ada "$library")")"
    check "one that has expired is not" '401 TOKEN_EXPIRED' "$(verdict "$(minted_token ada "$library" -1)")"
done

# --- What Better Auth signs with the same secret, and mails ---

# no_login NAME TOKEN
no_login() {
    check "$1: signed with the secret" HS256 "$(header_of "$2" alg)"
    check "$1: no login" '401 INVALID_TOKEN' "$(verdict "$2")"
}

carol=$(sign_up carol)
verification=$(mail verification carol@example.com)
no_login 'the mail to verify an address' "$verification"
check 'which Better Auth itself takes' true "$(follow_mail carol "$verification")"
sign_in carol
at_frontend carol POST /api/auth/change-email --data-raw '{"newEmail":"carol@new.example"}' >/dev/null
confirmation=$(mail 'confirmation of a change' carol@example.com)
no_login 'the mail to confirm a change of address' "$confirmation"
check 'which Better Auth itself takes, too' true "$(follow_mail carol "$confirmation")"
change=$(mail verification carol@new.example)
no_login 'the mail to the new address' "$change"
check 'which Better Auth takes as well' true "$(follow_mail carol "$change")"
check 'and then carol has that address' t "$(sql "select email = 'carol@new.example' from \"user\" where id = '$carol'")"
for token in "$verification" "$confirmation" "$change"; do
    check 'a mail is no login afterwards either' '401 INVALID_TOKEN' "$(verdict "$token")"
done
dave=$(sign_up dave)
at_frontend dave POST /api/auth/change-email --data-raw '{"newEmail":"dave@new.example"}' >/dev/null
no_login 'the mail to the new address of somebody never verified' "$(mail verification dave@new.example)"
check 'dave has signed in all the same' "201 $dave" "$(verdict "$(plugin_token dave)")"

# --- Sign-out and expiry ---

token=$(plugin_token bob)
cache=$(cookie bob session_data)
printf 'localhost\tFALSE\t/\tFALSE\t0\tbetter-auth.session_token\t%s\n' "$(cookie bob session_token)" >"$work/session"
cp "$work/session" "$work/cookies.bob"
check 'the session cookie alone gets a token' "201 $bob" "$(verdict "$(plugin_token bob)")"
sign_out bob
cp "$work/session" "$work/cookies.bob"
check 'after the sign-out it gets none' 'null null' "$(plugin_token bob) $(minted_token bob jose)"
check 'one from before holds until it expires' "201 $bob" "$(verdict "$token")"
check 'so does the cookie cache' "201 $bob" "$(verdict "$cache")"
check 'which is 15 minutes, and 5' '900 300' \
    "$(($(claim_of "$token" exp) - $(claim_of "$token" iat))) $(($(claim_of "$cache" exp) - $(claim_of "$cache" iat)))"
start_frontend TOKEN_LIFETIME=3s CACHE_SECONDS=3
sign_in bob
token=$(plugin_token bob)
cache=$(cookie bob session_data)
check 'a token that holds for 3 seconds is accepted' "201 $bob" "$(verdict "$token")"
check 'such a cookie cache, too' "201 $bob" "$(verdict "$cache")"
check_that 'then the token has expired' wait_until 10 has_expired "$token"
check_that 'and the cookie cache' wait_until 10 has_expired "$cache"
check 'the session goes on with a new one' "201 $bob" "$(verdict "$(plugin_token bob)")"

# --- What the plugin signs for other readers; other issuers ---

start_frontend CACHE_BY_PLUGIN=1
sign_in ada
check 'the plugin can sign the cookie cache' better-auth.session-cache+jwt "$(header_of "$(cookie ada session_data)" typ)"
check 'that is no access token' '401 INVALID_TOKEN' "$(verdict "$(cookie ada session_data)")"
check 'its access tokens are' "201 $ada" "$(verdict "$(plugin_token ada)")"
sql 'create database stranger'
start_frontend NEON_DATABASE_URL="${database_url%/*}/stranger"
sign_up eve >/dev/null
stranger=$(plugin_token eve)
check 'the token of another Better Auth is refused' '401 INVALID_TOKEN' "$(verdict "$stranger")"

# --- Rotation of the keys while requests run ---

# ask_on FILE: asks with a token just issued, again and again, until the file `stop` is there; notes answer and key. Told to
# come again it does, as a client would.
ask_on() {
    while [ ! -e "$work/stop" ]; do
        # Without --cookie-jar: the other one reads that file, too.
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

# rotate_under_load: three times, with two who ask all the while
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
    check "nobody is refused while keys change ($1)" 200 "$(cut -d ' ' -f 1 "$work/asked" | uniq)"
    check_that 'and they did change' [ "$(cut -d ' ' -f 2 "$work/asked" | sort -u | wc -l)" -ge 4 ]
}

stop_server
start_server # that one has just asked for the stranger's key, and for 30 seconds asks for no other
start_frontend
sign_in ada
retire_keys
retired=$(plugin_token ada)
rotate_under_load 'table'
check 'a token of a retired key holds' "201 $ada" "$(verdict "$retired")"
stop_server
start_server
check 'also for a server that has just started' "201 $ada" "$(verdict "$retired")"
sql "update jwks set \"expiresAt\" = now() - interval '30 days 1 second' where id = '$(header_of "$retired" kid)'"
stop_server
start_server
check 'thirty days after its retirement a key is no more' '401 INVALID_TOKEN' "$(verdict "$retired")"

# --- Rotation of the secret ---

new_secret=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n')
before=$(minted_token ada jose)
rotation="2:$new_secret,1:$old_secret"
start_frontend BETTER_AUTH_SECRETS="$rotation"
sign_in ada
after=$(cookie ada session_data)
check 'a server that knows only the old secret refuses what the new one signed' '401 INVALID_TOKEN' "$(verdict "$after")"
stop_server
start_server BETTER_AUTH_SECRETS="$rotation"
check 'with both it accepts what the new one signed' "201 $ada" "$(verdict "$after")"
check 'and what the old one signed' "201 $ada" "$(verdict "$before")"
check 'the keys of the plugin are the same' "201 $ada" "$(verdict "$(plugin_token ada)")"
stop_server
start_server BETTER_AUTH_SECRET= BETTER_AUTH_SECRETS="2:$new_secret"
check 'without the old one it refuses that' '401 INVALID_TOKEN' "$(verdict "$before")"
check 'and accepts the other' "201 $ada" "$(verdict "$after")"
stop_server

# --- The keys over HTTP, for a backend with a database of its own ---

sql 'create database elsewhere'
start_frontend
sign_in ada

# start_elsewhere [VARIABLE=VALUE…]
start_elsewhere() {
    stop_server
    start_server NEON_DATABASE_URL="${database_url%/*}/elsewhere" "$@"
}

start_elsewhere
check 'without a table and a URL the plugin has no token accepted' '401 INVALID_TOKEN' "$(verdict "$(plugin_token ada)")"
check 'while those signed with the secret are' "201 $ada" "$(verdict "$(minted_token ada jose)")"
start_elsewhere BETTER_AUTH_URL="$page"
for algorithm in $algorithms; do
    check "with a URL, one signed with $algorithm is accepted" "201 $ada" "$(verdict "$(cat "$work/token.$algorithm")")"
done
token=$(plugin_token ada)
check 'and one just issued' "201 $ada" "$(verdict "$token")"
check 'another issuer stays refused' '401 INVALID_TOKEN' "$(verdict "$stranger")"
start_elsewhere BETTER_AUTH_URL="$page/"
rotate_under_load 'HTTP'
token=$(plugin_token ada)
verdict "$token" >/dev/null
stop_frontend
check 'known keys serve while Better Auth is away' "201 $ada" "$(verdict "$token")"
start_elsewhere BETTER_AUTH_JWKS_URL="$page/api/auth/jwks"
request GET /api/tasks --header "Authorization: Bearer $token"
check 'a server that never reached it does not know: 503' '503 SERVICE_UNAVAILABLE' "$(refusal)"
check_that 'and says when to come again' [ "$(header Retry-After)" -gt 0 ]
check 'tokens signed with the secret need no keys' "201 $ada" "$(verdict "$before")"
start_frontend
is_accepted() {
    [ "$(verdict "$token")" = "201 $ada" ]
}
check_that 'it finds Better Auth when that is back' wait_until 30 is_accepted

# --- Issuer and audience ---

start_elsewhere BETTER_AUTH_URL="$page" BETTER_AUTH_ISSUER="$page" BETTER_AUTH_AUDIENCE="$page"
check 'the plugin names its address as issuer and audience' "201 $ada" "$(verdict "$token")"
check 'a token that names none is refused then' '401 INVALID_TOKEN' "$(verdict "$before")"
start_elsewhere BETTER_AUTH_URL="$page" BETTER_AUTH_ISSUER=https://another.example
check 'so is one of another issuer' '401 INVALID_TOKEN' "$(verdict "$token")"
start_elsewhere BETTER_AUTH_URL="$page" BETTER_AUTH_AUDIENCE=https://another.example
check 'or for another audience' '401 INVALID_TOKEN' "$(verdict "$token")"
