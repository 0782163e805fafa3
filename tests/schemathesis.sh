# User story: a program that knows nothing but the API's description gets what the description says, whatever it sends.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

python_packages schemathesis
start_database
start_server
create ada 'milk'

# run SECONDS OPTION…: every check there is, bounded in number and time, the same in every run
run() {
    seconds=$1
    shift
    (cd "$work" && timeout "$seconds" "$venv/bin/schemathesis" \
        --config-file "$root/tests/schemathesis/schemathesis.toml" run "$base/openapi.json" --checks all --seed 1 \
        --max-examples 25 --generation-database none --request-timeout 10 --no-color "$@") \
        >"$work/schemathesis.log" 2>&1 || { sed 's/^/    /' "$work/schemathesis.log" && return 1; }
    grep -E 'generated|Tested:' "$work/schemathesis.log"
}

check_that 'every operation does what its description says' run 180 --header "Authorization: Bearer $(token ada)"
# Of the description's operations it leaves out one.
tried=$(($(jq '[.paths[] | del(.parameters)[]] | length' "$root/specs/api/openapi.json") - 1))
check 'all that it takes up were tried' "Selected: $tried/$tried Tested: $tried" \
    "$(sed -n 's/^ *\(Selected\|Tested\): */\1: /p' "$work/schemathesis.log" | tr '\n' ' ' | sed 's/ $//')"
request GET /health
check 'the server is as well as before' 200 "$status"
