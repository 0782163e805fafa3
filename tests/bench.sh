# User story: I compare the server with its peers, and they all run the statements that the server runs today.
#
# bench/sql has copies of the server's statements, which the peers and pgbench run. Here PostgreSQL logs what the server
# really sends.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

start_database -c log_statement=all
start_server

create ada milk
check 'a task is created' 201 "$status"
as ada GET "/api/tasks/$id"
check 'it is read' 200 "$status"
as ada GET '/api/tasks?limit=20'
check 'it is listed' 200 "$status"
send ada PATCH "/api/tasks/$id/complete" '{"completed":true}'
check 'it is completed' 200 "$status"

# Each statement that came by the extended protocol, on a line of its own, without white space.
perl -0777 -ne '
    while (/ execute [^:\n]+: (.*?)(?=\n\d{4}-\d\d-\d\d |\z)/gs) {
        (my $text = $1) =~ s/\s+//g;
        print "$text\n";
    }' "$work/postgres/log" >"$work/statements"
for copy in "$root"/bench/sql/*.sql; do
    check_that "the server sends bench/sql/$(basename "$copy")" \
        grep -q -x -F -e "$(tr -d '[:space:]' <"$copy")" "$work/statements"
done
[ "$failed" = 0 ] || sed 's/^/    sent: /' "$work/statements"
