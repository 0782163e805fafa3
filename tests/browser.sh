# User story: my page on another origin works in a real browser, sees every error, and other pages see nothing.
# shellcheck shell=sh source=tests/frontend/lib.sh
. "$(dirname "$0")/frontend/lib.sh"

start_database
start_frontend
start_server ALLOWED_ORIGINS="$page"
ada=$(sign_up ada)

PAGE=$page
OTHER_PAGE=http://127.0.0.1:$page_port
TOKENS=/api/auth/token
TOKEN=$("$dev" sign '{"alg":"HS256","typ":"JWT"}' "{\"sub\":\"$ada\",\"exp\":$(($(date +%s) + 3600))}")
EXPIRED_TOKEN=$("$dev" token ada -60)
export PAGE OTHER_PAGE TOKENS TOKEN EXPIRED_TOKEN

# The backend has the page's host, so that the browser sends it the cookies of Better Auth, too.
use_page() {
    in_browser browser.mjs "$1" "API=http://localhost:$port"
}

use_page use
check 'the browser left no task behind' 0 "$(sql 'select count(*) from tasks')"
use_page strangers
check 'it created no task' 0 "$(sql 'select count(*) from tasks')"
stop_server
start_server ALLOWED_ORIGINS='*'
use_page nameless
check 'nor did those without an origin, where any is allowed' 0 "$(sql 'select count(*) from tasks')"
stop_database
use_page outage
