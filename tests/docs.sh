# User story: I try the API out in my browser, as FastAPI's /docs let me, with what the server alone sends.
# shellcheck shell=sh source=tests/frontend/lib.sh
. "$(dirname "$0")/frontend/lib.sh"

start_database
start_server

# --- What is sent ---

request GET /docs
check 'the page is HTML that nobody stores' '200 text/html; charset=utf-8 no-store nosniff' \
    "$status $(header Content-Type) $(header Cache-Control) $(header X-Content-Type-Options)"
policy="default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
policy="${policy}base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
check 'it loads from this server alone, and evaluates nothing' "$policy" "$(header Content-Security-Policy)"
length=$(header Content-Length)
request HEAD /docs
check 'HEAD has the headers of GET' "200 $length" "$status $(header Content-Length)"

request GET /docs
bundle=/$(grep -o 'docs/[0-9.]*/swagger-ui-bundle\.js' "$body_file")
request GET "$bundle" --header 'Accept-Encoding: br, gzip'
check 'a file of Swagger UI is compressed, and kept for a year' \
    '200 text/javascript; charset=utf-8 gzip public, max-age=31536000, immutable' \
    "$status $(header Content-Type) $(header Content-Encoding) $(header Cache-Control)"
check 'caches tell clients apart by encoding' 'Accept-Encoding Origin ' "$(header Vary | sort | tr '\n' ' ')"
check_that 'it is valid gzip' gunzip -t <"$body_file"
check_contains 'of Swagger UI' 'SwaggerUIBundle' "$(gunzip -c <"$body_file" | head -c 1000)"
etag=$(header ETag)
request GET "$bundle" --header "If-None-Match: $etag"
check 'a client that has it gets no second copy' "304 $etag 0" \
    "$status $(header ETag) $(wc -c <"$body_file" | tr -d ' ')"
request GET "$bundle" --header 'Accept-Encoding: identity'
check 'a client that accepts no gzip is told so' '406 NOT_ACCEPTABLE no-store' "$(refusal) $(header Cache-Control)"
for file in LICENSE NOTICE; do
    request GET "${bundle%/*}/$file"
    check "Swagger UI's $file comes with it" '200 text/plain; charset=utf-8' "$status $(header Content-Type)"
done
for path in /docs/none /docs/1.0/swagger-ui-bundle.js "$bundle/" /docs//; do
    request GET "$path"
    check "$path is not there" '404 RESOURCE_NOT_FOUND' "$(refusal)"
done
request POST /docs
check 'a page is only read' '405 GET, HEAD' "$status $(header Allow)"

# --- What a person does with it ---

in_browser docs.mjs use "API=$base" "TOKEN=$(token ada)"
check 'what was created there was deleted there' 0 "$(sql 'select count(*) from tasks')"
in_browser docs.mjs slash "API=$base"
