# User story: my frontend signs me in, and the backend believes its tokens and nothing else.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

now=$(date +%s)
later=$((now + 3600))
typed='{"alg":"HS256","typ":"JWT"}'
untyped='{"alg":"HS256"}'

# accepted NAME USER HEADER CLAIMS
accepted() {
    check "$1" "201 $2" "$(verdict "$("$dev" sign "$3" "$4")")"
}

# refused NAME HEADER CLAIMS
refused() {
    check "$1" '401 INVALID_TOKEN' "$(verdict "$("$dev" sign "$2" "$3")")"
}

# expired NAME CLAIMS
expired() {
    check "$1" '401 TOKEN_EXPIRED' "$(verdict "$("$dev" sign "$typed" "$2")")"
}

# --- Tokens that are good ---

check 'a token of ./dev token is accepted' '201 ada' "$(verdict "$("$dev" token ada)")"
check 'a name with quotes, backslash and emoji is taken as it is' '201 O'\''Brien "x\y" 🦀' \
    "$(verdict "$("$dev" token 'O'\''Brien "x\y" 🦀')")"
accepted 'a header without typ is accepted where the claims have a sub' ada "$untyped" \
    "{\"sub\":\"ada\",\"email\":\"ada@example.com\",\"exp\":$later}"
accepted 'typ is compared without regard to case' ada '{"alg":"HS256","typ":"jwt"}' "{\"sub\":\"ada\",\"exp\":$later}"
accepted 'an unknown header member is ignored' ada '{"alg":"HS256","typ":"JWT","kid":"1"}' "{\"sub\":\"ada\",\"exp\":$later}"
accepted 'userId is the user where there is no sub' bob "$typed" \
    "{\"userId\":\"bob\",\"email\":\"bob@example.com\",\"iat\":$now,\"nbf\":$now,\"exp\":$later}"
accepted 'user_id is the user where there is no sub' bob "$typed" "{\"user_id\":\"bob\",\"exp\":$later}"
accepted 'id is the user where there is nothing better' bob "$typed" "{\"id\":\"bob\",\"exp\":$later}"
accepted 'sub goes before the other claims' ada "$typed" \
    "{\"id\":\"d\",\"userId\":\"c\",\"user_id\":\"b\",\"sub\":\"ada\",\"exp\":$later}"
accepted 'a sub that is null counts as absent' bob "$typed" "{\"sub\":null,\"userId\":\"bob\",\"exp\":$later}"
accepted 'an integer id is taken as its digits' 42 "$typed" "{\"sub\":42,\"exp\":$later}"
accepted 'nbf may lie half a minute ahead' ada "$typed" "{\"sub\":\"ada\",\"nbf\":$((now + 30)),\"exp\":$later}"
accepted 'iat may lie ahead' ada "$typed" "{\"sub\":\"ada\",\"iat\":$((now + 600)),\"exp\":$later}"
accepted 'exp may be a fraction' ada "$typed" "{\"sub\":\"ada\",\"exp\":$later.5}"
accepted 'iss and aud are not looked at unless configured' ada "$typed" \
    "{\"sub\":\"ada\",\"iss\":\"https://a.example\",\"aud\":[\"b\"],\"exp\":$later}"
accepted 'a token of 8 KB is accepted' ada "$typed" \
    "{\"sub\":\"ada\",\"image\":\"$(text_of 6000 x)\",\"exp\":$later}"
session="\"session\":{\"userId\":\"ada\",\"expiresAt\":\"2999-01-01T00:00:00.000Z\"}"
accepted 'a session cookie cache names its user' ada "$untyped" \
    "{$session,\"user\":{\"id\":\"ada\",\"email\":\"ada@example.com\"},\"iat\":$now,\"exp\":$later}"
for scheme in bearer BEARER bEaReR; do
    request GET /api/tasks --header "Authorization: $scheme $(token ada)"
    check "the scheme may be written $scheme" 200 "$status"
done

# --- Tokens that have expired ---

expired 'a token is expired a minute after exp' "{\"sub\":\"ada\",\"exp\":$((now - 60))}"
expired 'a token is expired at exp: there is no leeway' "{\"sub\":\"ada\",\"exp\":$now}"
verdict "$("$dev" token ada -60)" >/dev/null
check 'the challenge says that the token has expired' \
    'Bearer error="invalid_token", error_description="Token has expired"' \
    "$(header WWW-Authenticate)"
expired 'a token is expired where nbf is fine' "{\"sub\":\"ada\",\"nbf\":0,\"exp\":1}"
check 'a session cookie cache ends with its session' '401 TOKEN_EXPIRED' "$(verdict "$("$dev" sign "$untyped" "{
    \"session\":{\"userId\":\"ada\",\"expiresAt\":\"2001-01-01T00:00:00.000Z\"},\"user\":{\"id\":\"ada\"},\"exp\":$later}")")"
check 'a forged token is not told that it has expired' '401 INVALID_TOKEN' \
    "$(verdict "$(BETTER_AUTH_SECRET='another secret, just as long as it' "$dev" sign "$typed" '{"sub":"ada","exp":1}')")"

# --- Tokens that do not hold ---

refused 'a token without exp is refused' "$typed" '{"sub":"ada"}'
refused 'an exp that is text is refused' "$typed" "{\"sub\":\"ada\",\"exp\":\"$later\"}"
refused 'an exp in milliseconds is refused' "$typed" "{\"sub\":\"ada\",\"exp\":${later}000}"
refused 'an exp that is null is refused' "$typed" '{"sub":"ada","exp":null}'
refused 'nbf two minutes ahead is refused' "$typed" "{\"sub\":\"ada\",\"nbf\":$((now + 120)),\"exp\":$later}"
refused 'an nbf that is text is refused' "$typed" "{\"sub\":\"ada\",\"nbf\":\"$now\",\"exp\":$later}"

for algorithm in none None NONE HS384 HS512 hs256 RS256 ES256 EdDSA PS256 ''; do
    refused "the algorithm '$algorithm' is refused, whatever the signature" "{\"alg\":\"$algorithm\",\"typ\":\"JWT\"}" \
        "{\"sub\":\"ada\",\"exp\":$later}"
done
refused 'a header without alg is refused' '{"typ":"JWT"}' "{\"sub\":\"ada\",\"exp\":$later}"
refused 'a header with crit is refused' '{"alg":"HS256","crit":["x"],"x":1}' "{\"sub\":\"ada\",\"exp\":$later}"
for typ in at+jwt logout+jwt better-auth.session-cache+jwt JWE; do
    refused "the type $typ is refused" "{\"alg\":\"HS256\",\"typ\":\"$typ\"}" "{\"sub\":\"ada\",\"exp\":$later}"
done
refused 'a header that is no object is refused' '["HS256"]' "{\"sub\":\"ada\",\"exp\":$later}"
refused 'claims that are no object are refused' "$typed" '["ada"]'
refused 'claims that are no JSON are refused' "$typed" 'sub=ada'

refused 'a mail to verify an address is no login' "$untyped" \
    "{\"email\":\"ada@example.com\",\"userId\":\"ada\",\"iat\":$now,\"exp\":$later}"
refused 'a mail to change an address is no login' "$typed" \
    "{\"sub\":\"ada\",\"email\":\"ada@example.com\",\"updateTo\":\"eve@example.com\",\"exp\":$later}"
refused 'a mail with a requestType is no login' "$typed" \
    "{\"userId\":\"ada\",\"email\":\"ada@example.com\",\"requestType\":\"change-email-verification\",\"exp\":$later}"

refused 'a token that names no user is refused' "$typed" "{\"exp\":$later}"
refused 'an e-mail address is no identity' "$typed" "{\"email\":\"ada@example.com\",\"name\":\"Ada\",\"exp\":$later}"
for sub in '""' true 1.5 '["ada"]' '{"id":"ada"}' '"a\u0000b"'; do
    refused "a sub that is $sub is refused, and no other claim looked at" "$typed" \
        "{\"sub\":$sub,\"userId\":\"ada\",\"exp\":$later}"
done
refused "a session cookie cache of two users is refused" "$untyped" "{$session,\"user\":{\"id\":\"eve\"},\"exp\":$later}"

good=$(token ada)
signed=${good%.*}
signature=${good##*.}
claims=${signed#*.}
check 'a token signed with another secret is refused' '401 INVALID_TOKEN' \
    "$(verdict "$(BETTER_AUTH_SECRET='another secret, just as long as it' "$dev" token ada)")"
check 'a token signed with an empty secret is refused' '401 INVALID_TOKEN' "$(verdict "$signed.$(
    SIGNED=$signed perl -MDigest::SHA=hmac_sha256 -MMIME::Base64=encode_base64url -e \
        'print encode_base64url(hmac_sha256($ENV{SIGNED}, ""))'
)")"
other_claims=$("$dev" token eve)
other_claims=${other_claims#*.}
check 'claims that were exchanged are refused' '401 INVALID_TOKEN' \
    "$(verdict "${signed%%.*}.${other_claims%.*}.$signature")"
check 'alg none without a signature is refused' '401 INVALID_TOKEN' \
    "$(verdict "$(printf '{"alg":"none","typ":"JWT"}' | base64 | tr -d '=\n' | tr '+/' '-_').$claims.")"
check 'a signature that was cut is refused' '401 INVALID_TOKEN' "$(verdict "${good%????}")"
check 'a token without a signature is refused' '401 INVALID_TOKEN' "$(verdict "$signed")"
check 'a token with an empty signature is refused' '401 INVALID_TOKEN' "$(verdict "$signed.")"
check 'a padded token is refused' '401 INVALID_TOKEN' "$(verdict "$good=")"
check 'a token with a fourth part is refused' '401 INVALID_TOKEN' "$(verdict "$good.x")"
check 'an encrypted token of five parts is refused' '401 INVALID_TOKEN' "$(verdict a.b.c.d.e)"
check 'an opaque session token is refused' '401 INVALID_TOKEN' "$(verdict "$(text_of 32 x)")"
check 'an opaque signed session token is refused' '401 INVALID_TOKEN' "$(verdict "$(text_of 32 x).$(text_of 43 y)%3D")"
verdict x >/dev/null
check_contains 'the challenge says that the token is not valid' 'Bearer error="invalid_token", error_description="' \
    "$(header WWW-Authenticate)"
verdict "$("$dev" sign "$typed" "{\"sub\":\"ada\",\"image\":\"$(text_of 20000 x)\",\"exp\":$later}")" >/dev/null
check_contains 'a token beyond 16 KiB is refused' "$status" '401 431'

# --- Requests without a token ---

# no_token NAME CURL_OPTION…
no_token() {
    name=$1
    shift
    request GET /api/tasks "$@"
    check "$name" '401 AUTHENTICATION_REQUIRED Bearer' "$(refusal) $(header WWW-Authenticate)"
}

no_token 'no Authorization header'
no_token 'an empty Authorization header' --header 'Authorization;'
no_token 'Bearer with nothing behind it' --header 'Authorization: Bearer'
no_token 'Bearer with a blank behind it' --header 'Authorization: Bearer '
no_token 'Basic is no bearer token' --header 'Authorization: Basic YWRhOmFkYQ=='
no_token 'a token without a scheme is none' --header "Authorization: $good"
no_token 'a token in a cookie is none' --cookie "better-auth.session_token=$good; token=$good; Authorization=$good"
no_token 'a token in another header is none' --header "X-Authorization: Bearer $good" --header "X-Access-Token: $good"
for name in token access_token authorization Authorization; do
    request GET "/api/tasks?$name=$good"
    check "a token in the query ($name) is none" '401 AUTHENTICATION_REQUIRED' "$(refusal)"
done
request GET /api/tasks --header "Authorization: Bearer $good" --header "Authorization: Bearer $(token eve)"
check 'two Authorization headers are refused' '401 INVALID_TOKEN' "$(refusal)"
request GET /api/tasks --header "Authorization: Bearer $good" --header "Authorization: Bearer $good"
check 'the same Authorization header twice is refused' '401 INVALID_TOKEN' "$(refusal)"
request GET /api/tasks --header "Authorization: Bearer $(printf '\302\240')$good"
check 'a token behind a blank that is not ASCII is refused' '401 INVALID_TOKEN' "$(refusal)"
request GET /api/tasks --header "Authorization: Bearer $good$(printf '\377')"
check 'a token with a byte that is no text is refused' '401 INVALID_TOKEN' "$(refusal)"

# --- Authentication is judged first ---

while read -r request_method request_path; do
    request "$request_method" "$request_path" --data-raw '{bad'
    check "without a token $request_method $request_path is 401" '401 AUTHENTICATION_REQUIRED' "$(refusal)"
done <<END
POST /api/tasks
PUT /api/tasks/1
PUT /api/tasks/abc
DELETE /api/tasks/1
DELETE /api/tasks
PATCH /api/tasks/1/complete
PATCH /api/tasks/abc/complete
GET /api/tasks/abc
GET /api/tasks/
GET /api/tasks?limit=abc
GET /api
GET /api/
GET /api/nothing
GET /api/ada/tasks
OPTIONS /api/tasks
END
request HEAD /api/tasks
check 'without a token HEAD /api/tasks is 401' '401 Bearer' "$status $(header WWW-Authenticate)"
request GET /api/nothing --header 'Authorization: Bearer x'
check 'with a bad token an unknown path is 401' '401 INVALID_TOKEN' "$(refusal)"
request GET /apis
check 'a path that only begins like /api needs no token' '404 RESOURCE_NOT_FOUND' "$(refusal)"

# --- The secret is taken as the bytes it is ---

stop_server
BETTER_AUTH_SECRET=$(printf '  "Gehe1m" mit Umläuten = 100%%, \\n und Blanks  ')
start_server
check 'a secret with blanks, quotes and other letters is taken as it is' '201 ada' "$(verdict "$("$dev" token ada)")"
check 'a secret is not trimmed' '401 INVALID_TOKEN' \
    "$(verdict "$(BETTER_AUTH_SECRET='"Gehe1m" mit Umläuten = 100%, \n und Blanks' "$dev" token ada)")"
check 'yesterday'\''s secret is no good any more' '401 INVALID_TOKEN' "$(verdict "$good")"
