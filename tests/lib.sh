# shellcheck shell=sh disable=SC2034,SC2119,SC2120 # used by the files that source this
# The harness of the acceptance tests: words to start a PostgreSQL and a server, to ask it something, and to check what
# it says. A test file sources this; whatever it starts ends with it, and its last line counts the checks.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
dev=$root/dev
server_binary=${SERVER_BINARY:-${CARGO_TARGET_DIR:-$root/target}/debug/todo-backend}
work=$(mktemp -d "${TMPDIR:-/tmp}/todo-backend.XXXXXX")
chmod 755 "$work" # PostgreSQL may run as somebody else
server=
helpers= # more processes to end
passed=0
failed=0
skipped=0
BETTER_AUTH_SECRET=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n')
export BETTER_AUTH_SECRET
unset ALLOWED_ORIGINS DATABASE_CA_FILE RUST_LOG 2>/dev/null || true
# Better Auth reads some of these, too.
unset BETTER_AUTH_AUDIENCE BETTER_AUTH_ISSUER BETTER_AUTH_JWKS_URL BETTER_AUTH_SECRETS BETTER_AUTH_URL \
    2>/dev/null || true
# The response to the last request; the body is also in the file, with every byte.
status='' headers='' body='' body_file=$work/body

# --- Checks ---

# check NAME EXPECTED ACTUAL
check() {
    if [ "$2" = "$3" ]; then
        pass "$1"
    else
        fail "$1" "expected: $2" "     got: $3"
    fi
}

# check_contains NAME PART WHOLE: every text contains the empty one, so that an empty PART would check nothing
check_contains() {
    [ -n "$2" ] || { fail "$1" 'an empty part was looked for' && return; }
    case $3 in
        *"$2"*) pass "$1" ;;
        *) fail "$1" "expected a part: $2" "            got: $3" ;;
    esac
}

# check_that NAME COMMAND…: the command succeeds
check_that() {
    name=$1
    shift
    if "$@"; then
        pass "$name"
    else
        fail "$name" "failed: $*"
    fi
}

# check_lacks NAME WHOLE PART…: neither the whole nor a part may be empty, or nothing would be checked
check_lacks() {
    check_name=$1 check_whole=$2 check_found=
    shift 2
    for part in "$@"; do
        case $check_whole in
            *"$part"*) check_found="$check_found $part" ;; # every text contains the empty one
        esac
        [ -n "$part" ] || check_found='an empty part'
    done
    if [ -n "$check_whole" ] && [ -z "$check_found" ]; then
        pass "$check_name"
    else
        fail "$check_name" "expected none of: $*" "           found:$check_found" "              in: $check_whole"
    fi
}

# skip WHAT: says at the end of ./dev test what was not checked, and why
skip() {
    skipped=$((skipped + 1))
    printf 'skipped - %s\n' "$1"
}

pass() {
    passed=$((passed + 1))
    printf 'ok - %s\n' "$1"
}

# fail NAME LINE…
fail() {
    failed=$((failed + 1))
    printf 'not ok - %s\n' "$1"
    shift
    printf '    %s\n' "$@" | cut -c 1-600
    [ -z "${STOP_AT_FAILURE:-}" ] || exit 1
}

# wait_until SECONDS COMMAND…
wait_until() {
    deadline=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -le "$deadline" ] || return 1
        sleep 0.05
    done
}

# --- The database and the server ---

# start_database [OPTION…]: PostgreSQL's, as `-c timezone=…`
start_database() {
    database_url=$("$dev" database start "$work/postgres" -c fsync=off "$@")
    PGPASSWORD=$(cat "$work/postgres/password")
    PGPORT=$(cat "$work/postgres/port")
    PGHOST=127.0.0.1 PGUSER=todo PGDATABASE=postgres
    export PGPASSWORD PGPORT PGHOST PGUSER PGDATABASE
}

# stop_database [MODE]
stop_database() {
    "$dev" database stop "$work/postgres" "${1:-fast}"
}

# sql STATEMENT
sql() {
    psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --command "$1"
}

# start_server [VARIABLE=VALUE…]: its log is in $work/server.log, that of earlier ones too
start_server() {
    port=$("$dev" free-port)
    base=http://127.0.0.1:$port
    env HOST=127.0.0.1 PORT="$port" NEON_DATABASE_URL="$database_url" "$@" \
        "$server_binary" >>"$work/server.log" 2>&1 &
    server=$!
    wait_until 10 server_answers || exit 1
}

server_answers() {
    curl --silent --fail --output /dev/null "$base/health"
}

# check_logged NAME PART: the log, which is written some milliseconds later, comes to say this
check_logged() {
    wait_until 10 grep -q -F -e "$2" "$work/server.log" || true
    check_contains "$1" "$2" "$(cat "$work/server.log")"
}

# stop_server [SIGNAL] sets $exit_status.
stop_server() {
    [ -n "$server" ] || return 0
    kill -s "${1:-TERM}" "$server" 2>/dev/null || true
    wait_until 30 server_has_ended || kill -s KILL "$server"
    exit_status=0
    wait "$server" 2>/dev/null || exit_status=$?
    server=
}

server_has_ended() {
    ! kill -s 0 "$server" 2>/dev/null
}

# --- Tools of others ---

# python_packages NAME sets $venv, which has what tests/NAME/requirements.txt names, each of one version. It is kept
# from one run to the next, for making it takes a while.
python_packages() {
    venv=${CARGO_TARGET_DIR:-$root/target}/python/$1
    requirements=$root/tests/$1/requirements.txt
    if ! cmp -s "$requirements" "$venv/requirements.txt"; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" --quiet --disable-pip-version-check install --no-deps --requirement "$requirements"
        cp "$requirements" "$venv/requirements.txt"
    fi
}

# --- Requests ---

# token NAME: always the same in one file
token() {
    [ -s "$work/token.$1" ] || "$dev" token "$1" 3600 >"$work/token.$1"
    cat "$work/token.$1"
}

# request METHOD PATH [CURL_OPTION…] sets $status, $headers and $body.
request() {
    method=$1
    url=$base$2
    shift 2
    if [ "$method" = HEAD ]; then
        set -- --head "$@"
    else
        set -- --request "$method" "$@"
    fi
    : >"$body_file"
    status=$(curl --silent --show-error --max-time 20 --globoff --path-as-is --dump-header "$work/headers" \
        --output "$body_file" --write-out '%{http_code}' "$@" "$url") || true
    headers=$(tr -d '\r' <"$work/headers")
    [ "$method" != HEAD ] || : >"$body_file" # where curl puts the headers
    body=$(cat "$body_file")
}

# as NAME METHOD PATH [CURL_OPTION…]: the same with a token of this user
as() {
    authorization="Authorization: Bearer $(token "$1")"
    shift
    request "$@" --header "$authorization"
}

# send NAME METHOD PATH JSON [CURL_OPTION…]: the same with a body
send() {
    name=$1 method=$2 path=$3 json=$4
    shift 4
    as "$name" "$method" "$path" --header 'Content-Type: application/json' --data-raw "$json" "$@"
}

# raw REQUEST: sends bytes, written as in printf, on a connection of their own, and reads until the server closes it;
# sets the same.
raw() {
    # shellcheck disable=SC2059 # the request is the format
    printf "$1" >"$work/raw"
    PORT=$port perl -MIO::Socket::INET -e '
        my $socket = IO::Socket::INET->new("127.0.0.1:$ENV{PORT}") or die "no connection\n";
        local $SIG{ALRM} = sub { die "the server did not close the connection within 15 s\n" };
        local $SIG{PIPE} = "IGNORE";
        alarm 15;
        local $/;
        print $socket <STDIN>;
        print <$socket>' <"$work/raw" 2>&1 | tr -d '\r' >"$work/raw_response"
    headers=$(sed '/^$/q' "$work/raw_response")
    sed '1,/^$/d' "$work/raw_response" >"$body_file"
    body=$(cat "$body_file")
    status=$(printf '%s\n' "$headers" | sed -n '1s,^HTTP/1\.[01] \([0-9]*\).*,\1,p')
}

# header NAME: its value in the last response; of several, one a line
header() {
    printf '%s\n' "$headers" | awk -v name="$1" '
        { colon = index($0, ":") }
        colon && tolower(substr($0, 1, colon - 1)) == tolower(name) {
            value = substr($0, colon + 1); sub(/^ +/, "", value); print value
        }'
}

# json FILTER: what jq makes of the last body
json() {
    jq -rc "$1" "$body_file" 2>&1
}

# task_fields: the names of the fields of a task, as the specification has them
task_fields() {
    jq -r '.components.schemas.Task.required | sort | join(" ")' "$root/specs/api/openapi.json"
}

# response FILTER: status and what jq makes of the body, in one line
response() {
    printf '%s %s\n' "$status" "$(json "$1")"
}

# refusal: status and error code
refusal() {
    response .error_code
}

# violation: status, error code, and where what does not hold
violation() {
    response '.error_code + " " + ([.detail[] | (.loc | join(".")) + " " + .type] | join(", "))'
}

# create NAME TITLE sets $id.
create() {
    send "$1" POST /api/tasks "$(jq -cn --arg title "$2" '{title: $title}')"
    id=$(json .id)
}

# verdict TOKEN: whom the server takes its bearer for, or why not
verdict() {
    request POST /api/tasks --header "Authorization: Bearer $1" --data-raw '{"title":"whose"}'
    response '.user_id // .error_code'
}

# text_of LENGTH CHARACTER
text_of() {
    CHARACTER=$2 perl -e 'print $ENV{CHARACTER} x shift' "$1"
}

# --- The end ---

finish() {
    code=$?
    trap '' HUP INT TERM
    set +e
    # shellcheck disable=SC2086 # one word a process
    [ -z "$helpers" ] || kill $helpers 2>/dev/null
    stop_server
    stop_database immediate
    [ "$code" = 0 ] || fail "$(basename "$0") runs to its end" "it ended with status $code"
    [ "$((passed + failed + skipped))" != 0 ] || fail "$(basename "$0") checks something"
    [ "$failed" = 0 ] || tail -n 20 "$work/server.log" 2>/dev/null | sed 's/^/    log: /'
    rm -rf "$work"
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && exit 0
    exit 1 # said in full: a bare `exit` in a trap ends with the status from before it
}

trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
