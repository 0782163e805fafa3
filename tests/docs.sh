# User story: I read in my browser what the API does, and the page can do nothing else.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

request GET /docs
policy=$(header Content-Security-Policy)
check 'the page is HTML' '200 text/html; charset=utf-8 nosniff' \
    "$status $(header Content-Type) $(header X-Content-Type-Options)"
check_contains 'it may load nothing' "default-src 'none'" "$policy"
style=$(perl -MDigest::SHA=sha256_base64 -0777 -ne \
    'm{<style>(.*?)</style>}s or die; my $sum = sha256_base64($1); print $sum, "=" x (-length($sum) % 4)' "$body_file")
check_contains 'but its own style' "style-src 'sha256-$style'" "$policy"
check 'it names no other host and has no script' '' "$(grep -Eio '<script|(src|href)="?(https?:)?//[^"]*' "$body_file" || true)"
length=$(header Content-Length | grep . || echo missing)
request HEAD /docs
check 'HEAD has the headers of GET' "200 $length" "$status $(header Content-Length)"

if browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome); then
    timeout 60 "$browser" --headless --no-sandbox --disable-gpu --enable-logging=stderr \
        --user-data-dir="$work/browser" --window-size=1000,1400 --screenshot="${SCREENSHOT:-$work/docs.png}" "$base/docs" >"$work/browser.log" 2>&1 || true
    check_lacks 'a browser shows it without a complaint' "ran $(tr '[:upper:]' '[:lower:]' <"$work/browser.log")" \
        refused violates uncaught
    check_that 'and draws it' test -s "${SCREENSHOT:-$work/docs.png}"
else
    echo 'no browser here: the page was not shown in one'
fi
