# User story: the backend accepts the tokens of my frontend, and nothing else.
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

# --- Valid tokens ---

check 'a token of ./dev token is accepted' '201 ada' "$(verdict "$("$dev" token ada)")"
check 'a user id with quotes, backslash and emoji is accepted unchanged' '201 O'\''Brien "x\y" 🦀' \
    "$(verdict "$("$dev" token 'O'\''Brien "x\y" 🦀')")"
accepted 'a header without typ is accepted if there is a sub' ada "$untyped" \
    "{\"sub\":\"ada\",\"email\":\"ada@example.com\",\"exp\":$later}"
accepted 'typ is case-insensitive' ada '{"alg":"HS256","typ":"jwt"}' "{\"sub\":\"ada\",\"exp\":$later}"
accepted 'an unknown header parameter is ignored' ada '{"alg":"HS256","typ":"JWT","kid":"1"}' \
    "{\"sub\":\"ada\",\"exp\":$later}"
accepted 'without sub the user is userId' bob "$typed" \
    "{\"userId\":\"bob\",\"email\":\"bob@example.com\",\"iat\":$now,\"nbf\":$now,\"exp\":$later}"
accepted 'without sub the user is user_id' bob "$typed" "{\"user_id\":\"bob\",\"exp\":$later}"
accepted 'without the other claims the user is id' bob "$typed" "{\"id\":\"bob\",\"exp\":$later}"
accepted 'sub is preferred to the other claims' ada "$typed" \
    "{\"id\":\"d\",\"userId\":\"c\",\"user_id\":\"b\",\"sub\":\"ada\",\"exp\":$later}"
accepted 'sub: null counts as absent' bob "$typed" "{\"sub\":null,\"userId\":\"bob\",\"exp\":$later}"
accepted 'an integer sub is read as its digits' 42 "$typed" "{\"sub\":42,\"exp\":$later}"
accepted 'nbf may be 30 s in the future' ada "$typed" "{\"sub\":\"ada\",\"nbf\":$((now + 30)),\"exp\":$later}"
accepted 'iat may be in the future' ada "$typed" "{\"sub\":\"ada\",\"iat\":$((now + 600)),\"exp\":$later}"
accepted 'exp may be a fraction' ada "$typed" "{\"sub\":\"ada\",\"exp\":$later.5}"
accepted 'iss and aud are ignored unless configured' ada "$typed" \
    "{\"sub\":\"ada\",\"iss\":\"https://a.example\",\"aud\":[\"b\"],\"exp\":$later}"
accepted 'a token of 8 KB is accepted' ada "$typed" \
    "{\"sub\":\"ada\",\"image\":\"$(text_of 6000 x)\",\"exp\":$later}"
session="\"session\":{\"userId\":\"ada\",\"expiresAt\":\"2999-01-01T00:00:00.000Z\"}"
accepted 'a session cookie cache names its user' ada "$untyped" \
    "{$session,\"user\":{\"id\":\"ada\",\"email\":\"ada@example.com\"},\"iat\":$now,\"exp\":$later}"
for scheme in bearer BEARER bEaReR; do
    request GET /api/tasks --header "Authorization: $scheme $(token ada)"
    check "the scheme $scheme is accepted" 200 "$status"
done

# --- Expired tokens ---

expired 'a token is expired a minute after exp' "{\"sub\":\"ada\",\"exp\":$((now - 60))}"
expired 'a token is expired at exp: there is no leeway' "{\"sub\":\"ada\",\"exp\":$now}"
verdict "$("$dev" token ada -60)" >/dev/null
check 'the challenge says that the token has expired' \
    'Bearer error="invalid_token", error_description="Token has expired"' \
    "$(header WWW-Authenticate)"
expired 'a token is expired even if nbf holds' "{\"sub\":\"ada\",\"nbf\":0,\"exp\":1}"
ended_session='{"userId":"ada","expiresAt":"2001-01-01T00:00:00.000Z"}'
check 'a session cookie cache expires with its session' '401 TOKEN_EXPIRED' \
    "$(verdict "$("$dev" sign "$untyped" "{\"session\":$ended_session,\"user\":{\"id\":\"ada\"},\"exp\":$later}")")"
forged=$(BETTER_AUTH_SECRET='another secret, just as long as it' "$dev" sign "$typed" '{"sub":"ada","exp":1}')
check 'a forged expired token is INVALID_TOKEN, not TOKEN_EXPIRED' '401 INVALID_TOKEN' "$(verdict "$forged")"

# --- Invalid tokens ---

refused 'a token without exp is refused' "$typed" '{"sub":"ada"}'
refused 'an exp that is a string is refused' "$typed" "{\"sub\":\"ada\",\"exp\":\"$later\"}"
refused 'an exp in milliseconds is refused' "$typed" "{\"sub\":\"ada\",\"exp\":${later}000}"
refused 'an exp that is null is refused' "$typed" '{"sub":"ada","exp":null}'
refused 'nbf 2 min in the future is refused' "$typed" "{\"sub\":\"ada\",\"nbf\":$((now + 120)),\"exp\":$later}"
refused 'an nbf that is a string is refused' "$typed" "{\"sub\":\"ada\",\"nbf\":\"$now\",\"exp\":$later}"

for algorithm in none None NONE HS384 HS512 hs256 RS256 ES256 EdDSA PS256 ''; do
    refused "the algorithm '$algorithm' is refused, whatever the signature" "{\"alg\":\"$algorithm\",\"typ\":\"JWT\"}" \
        "{\"sub\":\"ada\",\"exp\":$later}"
done
refused 'a header without alg is refused' '{"typ":"JWT"}' "{\"sub\":\"ada\",\"exp\":$later}"
refused 'a header with crit is refused' '{"alg":"HS256","crit":["x"],"x":1}' "{\"sub\":\"ada\",\"exp\":$later}"
for typ in at+jwt logout+jwt better-auth.session-cache+jwt JWE; do
    refused "the type $typ is refused" "{\"alg\":\"HS256\",\"typ\":\"$typ\"}" "{\"sub\":\"ada\",\"exp\":$later}"
done
refused 'a header that is not an object is refused' '["HS256"]' "{\"sub\":\"ada\",\"exp\":$later}"
refused 'claims that are not an object are refused' "$typed" '["ada"]'
refused 'claims that are not JSON are refused' "$typed" 'sub=ada'

refused 'the token of a mail that verifies an address is refused' "$untyped" \
    "{\"email\":\"ada@example.com\",\"userId\":\"ada\",\"iat\":$now,\"exp\":$later}"
refused 'the token of a mail that changes an address is refused' "$typed" \
    "{\"sub\":\"ada\",\"email\":\"ada@example.com\",\"updateTo\":\"eve@example.com\",\"exp\":$later}"
refused 'a mail token with requestType is refused' "$typed" \
    "{\"userId\":\"ada\",\"email\":\"ada@example.com\",\"requestType\":\"change-email-verification\",\"exp\":$later}"

refused 'a token that names no user is refused' "$typed" "{\"exp\":$later}"
refused 'a token with only an e-mail address is refused' "$typed" \
    "{\"email\":\"ada@example.com\",\"name\":\"Ada\",\"exp\":$later}"
for sub in '""' true 1.5 '["ada"]' '{"id":"ada"}' '"a\u0000b"'; do
    refused "sub: $sub is refused; the other claims do not replace it" "$typed" \
        "{\"sub\":$sub,\"userId\":\"ada\",\"exp\":$later}"
done
refused "a session cookie cache of two users is refused" "$untyped" \
    "{$session,\"user\":{\"id\":\"eve\"},\"exp\":$later}"

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
check 'claims of another token are refused' '401 INVALID_TOKEN' \
    "$(verdict "${signed%%.*}.${other_claims%.*}.$signature")"
check 'alg none without a signature is refused' '401 INVALID_TOKEN' \
    "$(verdict "$(printf '{"alg":"none","typ":"JWT"}' | base64 | tr -d '=\n' | tr '+/' '-_').$claims.")"
check 'a truncated signature is refused' '401 INVALID_TOKEN' "$(verdict "${good%????}")"
check 'a token without a signature is refused' '401 INVALID_TOKEN' "$(verdict "$signed")"
check 'a token with an empty signature is refused' '401 INVALID_TOKEN' "$(verdict "$signed.")"
check 'a padded token is refused' '401 INVALID_TOKEN' "$(verdict "$good=")"
check 'a token with a fourth part is refused' '401 INVALID_TOKEN' "$(verdict "$good.x")"
check 'an encrypted token of five parts is refused' '401 INVALID_TOKEN' "$(verdict a.b.c.d.e)"
check 'an opaque session token is refused' '401 INVALID_TOKEN' "$(verdict "$(text_of 32 x)")"
check 'an opaque signed session token is refused' '401 INVALID_TOKEN' "$(verdict "$(text_of 32 x).$(text_of 43 y)%3D")"
verdict x >/dev/null
check_contains 'the challenge is error="invalid_token"' 'Bearer error="invalid_token", error_description="' \
    "$(header WWW-Authenticate)"
verdict "$("$dev" sign "$typed" "{\"sub\":\"ada\",\"image\":\"$(text_of 20000 x)\",\"exp\":$later}")" >/dev/null
check_contains 'a token of more than 16 KiB is refused' "$status" '401 431'

# --- Keys in the table jwks; tests/better_auth.sh has a table and tokens of Better Auth ---

# message KID: why a token with this kid and a wrong signature is refused
message() {
    verdict "$("$dev" sign "{\"alg\":\"EdDSA\",\"kid\":\"$1\"}" "{\"sub\":\"ada\",\"exp\":$later}")" >/dev/null
    response .message
}

sql 'create table jwks (id text, "publicKey" text, "createdAt" timestamptz)'
# The public key of RFC 8037, appendix A.2.
sql "insert into jwks values
    ('a', '{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}', now())"
check 'a token is verified with the key that it names' '401 Invalid token: signature verification failed' \
    "$(message a)"
check_contains 'a token that names another key is refused' 'names no key' "$(message b)"

# --- Requests without a token ---

# no_token NAME CURL_OPTION…
no_token() {
    name="no token: $1"
    shift
    request GET /api/tasks "$@"
    check "$name" '401 AUTHENTICATION_REQUIRED Bearer' "$(refusal) $(header WWW-Authenticate)"
}

no_token 'no Authorization header'
no_token 'an empty Authorization header' --header 'Authorization;'
no_token 'Bearer without a token' --header 'Authorization: Bearer'
no_token 'Bearer followed by a space' --header 'Authorization: Bearer '
no_token 'Basic credentials' --header 'Authorization: Basic YWRhOmFkYQ=='
no_token 'a token without a scheme' --header "Authorization: $good"
no_token 'a token in a cookie' --cookie "better-auth.session_token=$good; token=$good; Authorization=$good"
no_token 'a token in another header' --header "X-Authorization: Bearer $good" --header "X-Access-Token: $good"
for name in token access_token authorization Authorization; do
    request GET "/api/tasks?$name=$good"
    check "a token in the query ($name) is ignored" '401 AUTHENTICATION_REQUIRED' "$(refusal)"
done
request GET /api/tasks --header "Authorization: Bearer $good" --header "Authorization: Bearer $(token eve)"
check 'two Authorization headers are refused' '401 INVALID_TOKEN' "$(refusal)"
request GET /api/tasks --header "Authorization: Bearer $good" --header "Authorization: Bearer $good"
check 'the same Authorization header twice is refused' '401 INVALID_TOKEN' "$(refusal)"
request GET /api/tasks --header "Authorization: Bearer $(printf '\302\240')$good"
check 'a token after a non-ASCII space is refused' '401 INVALID_TOKEN' "$(refusal)"
request GET /api/tasks --header "Authorization: Bearer $good$(printf '\377')"
check 'a token with a byte that is not UTF-8 is refused' '401 INVALID_TOKEN' "$(refusal)"

# --- Authentication comes first ---

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
check 'a path that only starts with /api needs no token' '404 RESOURCE_NOT_FOUND' "$(refusal)"

# --- The secret is used byte for byte ---

stop_server
BETTER_AUTH_SECRET=$(printf '  "Gehe1m" mit Umläuten = 100%%, \\n und Blanks  ')
start_server
check 'a secret with spaces, quotes and umlauts is used unchanged' '201 ada' "$(verdict "$("$dev" token ada)")"
check 'a secret is not trimmed' '401 INVALID_TOKEN' \
    "$(verdict "$(BETTER_AUTH_SECRET='"Gehe1m" mit Umläuten = 100%, \n und Blanks' "$dev" token ada)")"
check 'a token of the former secret is refused' '401 INVALID_TOKEN' "$(verdict "$good")"
