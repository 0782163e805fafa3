# User story: a malformed request gets a proper error, and other requests are still served.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database
start_server

# rejected STATUS CODE NAME REQUEST: `raw` waits until the server closes the connection
rejected() {
    raw "$4"
    check "$3: status and code" "$1 $2" "$(refusal)"
    common="$(header Content-Type)|$(header Cache-Control)|$(header X-Content-Type-Options)|$(header Vary)"
    check "$3: the response has the form of every error" 'application/json|no-store|nosniff|Origin|true' \
        "$common|$(json '.detail == .message')"
    check "$3: it has Connection: close" close "$(header Connection)"
}

get='GET /health HTTP/1.1\r\nHost: x\r\n'
post='POST /api/tasks HTTP/1.1\r\nHost: x\r\n'

rejected 400 BAD_REQUEST 'text that is not HTTP' 'hello\r\n\r\n'
rejected 400 BAD_REQUEST 'the beginning of TLS' '\026\003\001\002\000\001'
rejected 400 BAD_REQUEST 'an extra word in the request line' 'GET /health x HTTP/1.1\r\nHost: x\r\n\r\n'
rejected 400 BAD_REQUEST 'no Host' 'GET /health HTTP/1.1\r\n\r\n'
rejected 400 BAD_REQUEST 'two Hosts' "${get}Host: y\r\n\r\n"
rejected 400 BAD_REQUEST 'lines that end with LF only' 'GET /health HTTP/1.1\nHost: x\n\n'
rejected 400 BAD_REQUEST 'a folded header' "${get}X: a\r\n b\r\n\r\n"
rejected 400 BAD_REQUEST 'a NUL character in a header' "${get}X: a\0b\r\n\r\n"
rejected 400 BAD_REQUEST 'a space before a colon' "${get}X : a\r\n\r\n"
rejected 400 BAD_REQUEST 'two Content-Length headers' "${post}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"
for length in -1 +1 '1, 1' 1.0 0x1 ''; do
    rejected 400 BAD_REQUEST "the Content-Length '$length'" "${post}Content-Length: $length\r\n\r\nx"
done
rejected 400 BAD_REQUEST 'Content-Length and chunked' \
    "${post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
rejected 400 BAD_REQUEST 'a chunk size that is not a number' "${post}Transfer-Encoding: chunked\r\n\r\nzz\r\n"
rejected 400 BAD_REQUEST 'chunks in HTTP/1.0' 'POST /api/tasks HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'
rejected 413 PAYLOAD_TOO_LARGE 'a Content-Length of 1 MiB and 1 byte' "${post}Content-Length: 1048577\r\n\r\n"
rejected 413 PAYLOAD_TOO_LARGE 'a Content-Length of 30 GB' "${post}Content-Length: 30000000000\r\n\r\n"
rejected 413 PAYLOAD_TOO_LARGE 'a Content-Length of 40 digits' "${post}Content-Length: $(text_of 40 9)\r\n\r\n"
rejected 414 URI_TOO_LONG 'a target of more than 8 KiB' "GET /$(text_of 8192 x) HTTP/1.1\r\nHost: x\r\n\r\n"
rejected 431 HEADERS_TOO_LARGE 'a head of more than 16 KiB' "${get}X: $(text_of 16384 x)\r\n\r\n"
rejected 431 HEADERS_TOO_LARGE 'more than 100 headers' "${get}$(text_of 100 'X: y\r\n')\r\n"
rejected 501 NOT_IMPLEMENTED 'a transfer coding other than chunked' "${post}Transfer-Encoding: gzip\r\n\r\n"
rejected 501 NOT_IMPLEMENTED 'a transfer coding beside chunked' \
    "${post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
rejected 501 NOT_IMPLEMENTED 'CONNECT' 'CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n'
rejected 505 VERSION_NOT_SUPPORTED 'HTTP/2.0' 'GET /health HTTP/2.0\r\nHost: x\r\n\r\n'
rejected 505 VERSION_NOT_SUPPORTED 'HTTP/1.2' 'GET /health HTTP/1.2\r\nHost: x\r\n\r\n'

# --- Unusual, but valid ---

# answered STATUS NAME REQUEST
answered() {
    raw "$3"
    check "$2 is answered" "$1" "$status"
}

answered 200 'HTTP/1.0' 'GET /health HTTP/1.0\r\n\r\n'
answered 200 'a target in absolute form' 'GET http://x/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
answered 200 'a scheme in upper case' 'GET HTTP://x/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
answered 200 'an upgrade that is ignored' "${get}Connection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n"
answered 404 'OPTIONS *' 'OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
answered 405 'a method of 200 letters' "$(text_of 200 M) /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
answered 200 'a head of 100 headers' "${get}$(text_of 98 'X: y\r\n')Connection: close\r\n\r\n"
raw "${get}\r\n${get}Connection: close\r\n\r\n"
check 'two pipelined requests are both answered' 2 "$(grep -o 'HTTP/1.1 200' "$work/raw_response" | wc -l | tr -d ' ')"
as ada POST /api/tasks --header 'Expect: 100-continue' --data-raw '{"title":"patient"}'
check 'Expect: 100-continue gets 100, then the response' '100 201 patient' \
    "$(printf '%s\n' "$headers" | sed -n '1s,^HTTP/1.1 \([0-9]*\).*,\1,p') $(response .title)"

# --- Slow clients ---

stop_server
start_server REQUEST_TIMEOUT_MS=200
rejected 408 REQUEST_TIMEOUT 'an incomplete head' "$get"
rejected 408 REQUEST_TIMEOUT 'an incomplete body' "${post}Origin: http://localhost:3000\r\nContent-Length: 10\r\n\r\n{"
check 'the page can read the 408' http://localhost:3000 "$(header Access-Control-Allow-Origin)"

# --- At the end ---

request GET /health
check 'the server still works' 200 "$status"
check_lacks 'the log has no ERROR and no panic' "$(cat "$work/server.log")" ERROR panicked
