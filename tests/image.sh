# User story: I run the image: it holds the server and nothing else, needs no rights, and writes nothing.
#
# There is no Docker here. The server is linked by the Dockerfile's own step, and runs in a root that holds what the
# Dockerfile copies, as the user that it names. It has the profile of the tests, unless SERVER_BINARY names another.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# instruction NAME: the rest of that line of the Dockerfile's last stage
instruction() {
    sed -n '/^FROM scratch$/,$p' "$root/Dockerfile" | sed -n "s/^$1 //p"
}

if [ "$(uname)" != Linux ]; then
    skip 'the image, which is for Linux'
    exit 0
fi

# --- What it holds ---

image=$work/image
mkdir "$image"
# shellcheck disable=SC2016 # the words of the Dockerfile
check 'the Dockerfile builds the server by ./dev static' 'RUN cp "$(./dev static)" /todo-backend' \
    "$(grep '^RUN' "$root/Dockerfile")"
check 'one file is copied into the image' '--from=build /todo-backend /todo-backend' "$(instruction COPY)"
[ -n "${SERVER_BINARY:-}" ] || server_binary=$("$dev" static dev)
cp "$server_binary" "$image/todo-backend"
case $server_binary in
    */release/*)
        size=$(wc -c <"$image/todo-backend")
        check_that "it has at most 10,000,000 bytes ($size)" test "$size" -le 10000000
        ;;
    *)
        # shellcheck disable=SC2016 # to be typed
        skip 'the size of a release: SERVER_BINARY=$(./dev static) ./dev test image'
        ;;
esac
sed -n 's/^!//p' "$root/.dockerignore" >"$work/given"
while read -r file; do
    check_that "what the build is given is there: $file" test -e "$root/$file"
done <"$work/given"

# --- How it runs ---

# What Docker itself puts into every container, as far as the server looks at it.
mkdir "$image/etc" "$image/dev"
echo '127.0.0.1 database' >"$image/etc/hosts"
if [ "$(id -u)" = 0 ]; then
    mknod -m 666 "$image/dev/random" c 1 8
    mknod -m 666 "$image/dev/urandom" c 1 9
fi
chmod -R a-w,a+rX "$image"
find "$image" | sort >"$work/before"

# exec_in_image [VARIABLE=VALUE…]: becomes what the Dockerfile says, with $argument if there is one
exec_in_image() {
    if [ "$(id -u)" = 0 ]; then
        exec env -i PATH="$PATH" "$@" \
            chroot --userspec="$(instruction USER)" "$image" "$entrypoint" ${argument:+"$argument"}
    else
        # shellcheck disable=SC2016 # for the inner shell
        exec env -i PATH="$PATH" "$@" unshare --map-root-user --mount sh -c \
            'mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"' "$image" "$entrypoint" ${argument:+"$argument"}
    fi
}

is_healthy() (
    argument=--healthcheck
    exec_in_image PORT="$port"
)

argument=
entrypoint=$(instruction ENTRYPOINT | jq -r 'join(" ")')
healthcheck=$(instruction HEALTHCHECK | sed 's/.*CMD //' | jq -r 'join(" ")')
check 'the image asks its own server whether it is well' "$entrypoint --healthcheck" "$healthcheck"
check_that 'its user is nobody' test "$(instruction USER)" = 65534:65534
start_database
port=$("$dev" free-port)
base=http://127.0.0.1:$port
name=$(printf %s "$database_url" | sed 's/127\.0\.0\.1/database/')
exec_in_image PORT="$port" NEON_DATABASE_URL="$name" \
    BETTER_AUTH_SECRET="$BETTER_AUTH_SECRET" >>"$work/server.log" 2>&1 &
server=$!
check_that 'it starts with the two variables that are required, and reaches its database by name' \
    wait_until 10 server_answers
send ada POST /api/tasks '{"title":"in a box"}'
check 'it serves' '201 in a box' "$(response .title)"
check_that 'the health check passes' is_healthy
check 'nothing was written' "$(cat "$work/before")" "$(find "$image" | sort)"
stop_server TERM
check 'SIGTERM stops it in order' 0 "$exit_status"
check_logged 'and it says so' stopped
if is_healthy 2>"$work/healthcheck"; then
    fail 'the health check fails when nobody answers'
else
    check_contains 'the health check fails when nobody answers, and says why' "$port" "$(cat "$work/healthcheck")"
fi

# --- With a database beside it ---

# What compose.yaml sets for the server is what the server reads.
settings=$(sed -n '/^  backend:/,/^  database:/p' "$root/compose.yaml" | sed -n 's/^      \([A-Z_]*\):.*/\1/p')
known=$("$server_binary" --help)
for setting in $settings; do
    check_contains "compose.yaml sets $setting, which the server reads" "$setting" "$known"
done
check 'compose.yaml publishes the port of the image' "      - \"$(instruction EXPOSE):$(instruction EXPOSE)\"" \
    "$(sed -n '/^    ports:/{n;p;}' "$root/compose.yaml")"
chmod -R u+w "$image"
