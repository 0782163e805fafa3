# User story: a program that knows the API by its description alone gets what the description says, whatever it sends.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

python_packages schemathesis
start_database
start_server
create ada 'milk'
description=$root/specs/api/openapi.json

# run SECONDS OPTION…: every check that the tool has, bounded in number and time, with the same seed in every run. It
# reads the description from the file: it would not test the operation that it reads it from.
run() {
    seconds=$1
    shift
    (cd "$work" && timeout "$seconds" "$venv/bin/schemathesis" \
        --config-file "$root/tests/schemathesis/schemathesis.toml" run "$description" --url "$base" --checks all \
        --seed 1 --max-examples 25 --generation-database none --request-timeout 10 --no-color "$@") \
        >"$work/schemathesis.log" 2>&1 || { sed 's/^/    /' "$work/schemathesis.log" && return 1; }
    grep -E 'generated|Tested:' "$work/schemathesis.log"
}

# reported NAME: what the tool says of it
reported() {
    sed -n "s/^ *$1: *//p" "$work/schemathesis.log" | tr '\n' ' ' | sed 's/ $//'
}

check_that 'every operation does what its description says' run 180 --header "Authorization: Bearer $(token ada)"
operations=$(jq '[.paths[] | del(.parameters)[]] | length' "$description")
links=$(jq '[.. | objects | .links? // empty | length] | add' "$description")
check 'every operation was tested' "$operations/$operations, $operations" "$(reported Selected), $(reported Tested)"
check 'every link was followed' "$links covered / $links selected / $links total" "$(reported 'API Links')"
request GET /openapi.json
check_that 'the server serves this description' cmp "$description" "$body_file"
request GET /health
check 'the server is alive afterwards' 200 "$status"
