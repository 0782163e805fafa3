# User story: I run the service in production: Prometheus scrapes it, the dashboard and the alerts find their metrics,
# and the files in ops/ that deploy it are valid.
# shellcheck shell=sh source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

ops=$root/ops

# passes NAME COMMAND…: the command succeeds; else its output is shown
passes() {
    passes_name=$1
    shift
    output=$("$@" 2>&1) && result=passed || result=failed
    check "$passes_name" passed "$result${output:+$([ "$result" = passed ] || printf ': %s' "$output")}"
}

# --- Alert rules ---

passes 'the Prometheus configuration is valid' promtool check config "$ops/prometheus.yml"
passes 'the alerts fire when they should' promtool test rules "$ops/alerts_test.yml"

# --- Queries, in a Prometheus that scrapes a running server ---

start_database
sql 'create table jwks (id text primary key, "publicKey" text not null, "privateKey" text not null,
    "createdAt" timestamptz not null)'
public_key='{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
sql "insert into jwks values ('k1', '$public_key', '', now())"
admin_port=$("$dev" free-port)
start_server ADMIN_ADDR="127.0.0.1:$admin_port"
create ada milk
# A token with a `kid` makes the server fetch the keys.
forged=$("$dev" sign '{"alg":"EdDSA","kid":"k1"}' '{"sub":"ada","exp":9999999999}')
request GET /api/tasks --header "Authorization: Bearer $forged"
check 'a token with a wrong signature is rejected' 401 "$status"

prometheus=http://127.0.0.1:$("$dev" free-port)
mkdir "$work/prometheus"
cp "$ops/alerts.yml" "$work/prometheus"
sed -e "s/127\.0\.0\.1:9464/127.0.0.1:$admin_port/" -e 's/interval: 15s/interval: 1s/' "$ops/prometheus.yml" \
    >"$work/prometheus/prometheus.yml"
prometheus --config.file="$work/prometheus/prometheus.yml" --storage.tsdb.path="$work/prometheus/data" \
    --web.listen-address="${prometheus#http://}" >"$work/prometheus/log" 2>&1 &
helpers="$helpers $!"

# query EXPRESSION: what Prometheus makes of it, a line a series
query() {
    promtool query instant "$prometheus" "$1" 2>&1
}

# A rate needs two samples with a request between them.
two_scrapes() {
    create ada milk
    query 'count_over_time(up{job="todo-backend"}[1m]) > 2' | grep -q todo-backend
}

check_that 'Prometheus scrapes the server' wait_until 30 two_scrapes
check 'and finds it up' 1 "$(query 'up{job="todo-backend"} == 1' | grep -c '=> 1 ')"

# shellcheck disable=SC2016 # Grafana's variables
jq -r '.panels[].targets[].expr' "$ops/grafana_dashboard.json" |
    sed -e 's/\$job/todo-backend/g' -e 's/\$__rate_interval/1m/g' >"$work/queries"
check_that 'the dashboard has queries' test "$(wc -l <"$work/queries")" -gt 10
while read -r expression; do
    check_contains "the dashboard finds: $(echo "$expression" | cut -c 1-100)" ' => ' \
        "$(query "$expression" | grep -v NaN)"
done <"$work/queries"

# An alert of a healthy server finds nothing. So that a misspelt name is noticed, each name in a rule is looked up.
curl --silent "$prometheus/api/v1/rules" >"$work/rules"
jq -r '.data.groups[].rules[].query' "$work/rules" | grep -o '[a-z_]*{' | tr -d '{' | sort -u >"$work/names"
check_that 'the alerts use metrics' test "$(wc -l <"$work/names")" -gt 5
while read -r name; do
    check_contains "the alerts find $name" ' => ' "$(query "$name{job=\"todo-backend\"}")"
done <"$work/names"

rules_were_evaluated() {
    curl --silent "$prometheus/api/v1/rules" >"$work/rules"
    [ "$(jq '[.data.groups[].rules[] | select(.health == "unknown")] | length' "$work/rules")" = 0 ]
}

check_that 'every alert is evaluated' wait_until 30 rules_were_evaluated
check 'without an error, and none is pending' '' \
    "$(jq -r '.data.groups[].rules[] | select(.health != "ok" or .state != "inactive") | .name' "$work/rules")"

drawn=$(python3 "$ops/draw_dashboard.py" "$prometheus" 1)
check 'the dashboard can be drawn' "$(jq '.panels | length' "$ops/grafana_dashboard.json")" \
    "$(echo "$drawn" | grep -c '^<g ')"
check_that 'with lines' test "$(echo "$drawn" | grep -c '<polyline points="[0-9]')" -gt 10
passes 'as well-formed SVG' python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parseString(sys.argv[1])' "$drawn"

# --- Deploying ---

python_packages monitoring
passes 'the Kubernetes manifests follow the schemas of its API' \
    "$venv/bin/kubernetes-validate" --strict "$ops/kubernetes.yml"
sed 's/periodSeconds/periodSecond/' "$ops/kubernetes.yml" >"$work/misspelt.yml"
check 'which find a misspelt field' true \
    "$("$venv/bin/kubernetes-validate" --strict "$work/misspelt.yml" >/dev/null 2>&1 || echo true)"

if command -v systemd-analyze >/dev/null; then
    sed "s,^ExecStart=.*,ExecStart=$server_binary," "$ops/todo-backend.service" >"$work/todo-backend.service"
    passes 'the systemd unit is valid' systemd-analyze verify "$work/todo-backend.service"
    exposure=$(systemd-analyze security --offline=true --no-pager "$work/todo-backend.service" |
        sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p')
    check_that "its exposure ($exposure) is at most 2.0" \
        awk "BEGIN { exit !(\"$exposure\" != \"\" && $exposure + 0 <= 2.0) }"
else
    echo 'systemd-analyze is missing: the systemd unit was not checked'
fi

# What each platform's file says of the health path and of the time to stop, as JSON.
platform() {
    "$venv/bin/python" - "$ops/$1" "$2" <<'END'
import json, sys
path, keys = sys.argv[1], sys.argv[2].split(".")
if path.endswith(".toml"):
    import tomllib
    value = tomllib.load(open(path, "rb"))
else:
    import yaml  # JSON is YAML
    value = yaml.safe_load(open(path))
for key in keys:
    value = value[int(key) if key.isdigit() else key]
print(json.dumps(value))
END
}

for place in 'fly.toml http_service.checks.0.path' 'render.yaml services.0.healthCheckPath' \
    'railway.json deploy.healthcheckPath'; do
    # shellcheck disable=SC2086 # two words
    path=$(platform $place | tr -d '"')
    request GET "$path"
    check "the health path of ${place% *} exists" '200 /ready' "$status $path"
done
