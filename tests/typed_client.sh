# User story: my frontend gets its types from the server's description, and the compiler finds my mistakes.
# shellcheck shell=sh source=tests/frontend/lib.sh
. "$(dirname "$0")/frontend/lib.sh"

start_database
start_server

# The client lies beside the types, where it finds the packages.
client=$work/client
mkdir "$client"
ln -s "$frontend/node_modules" "$client/node_modules"
cp "$frontend/package.json" "$frontend/typed_client.ts" "$client"

check_that 'openapi-typescript reads the description' \
    "$frontend/node_modules/.bin/openapi-typescript" "$base/openapi.json" --output "$client/api.d.ts"
check_that 'tsc accepts the client, and refuses its mistakes' "$frontend/node_modules/.bin/tsc" --strict \
    --noUncheckedIndexedAccess --target es2022 --lib es2022,dom --module nodenext "$client/typed_client.ts"
run_checks 'the client' env "API=$base" "TOKEN=$(token ada)" node "$client/typed_client.js"
check 'it left no task behind' 0 "$(sql 'select count(*) from tasks')"
