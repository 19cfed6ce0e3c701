#!/usr/bin/env bash
# Builds the source archive and from it the wheel, installs the wheel in a clean environment outside the checkout,
# and uses it there: what the checkout has but the wheel lacks shows up here and nowhere else.
# usage: tests/wheel_smoke.sh [PYTHON]      (a Python with the `dev` extra; default: .venv/bin/python)
set -euo pipefail
export LC_ALL=C.UTF-8 NO_COLOR=1 HF_HUB_OFFLINE=1
unset VIRTUAL_ENV PYTHONPATH PYTHONHOME
root=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath -s "${1:-$root/.venv/bin/python}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q -c "$root/constraints.txt" "$work"/dist/*.whl

cd "$work"
PATH=$work/venv/bin:$PATH
package=$(python -c 'import featgraph, pathlib; print(pathlib.Path(featgraph.__file__).parent)')
case $package in "$work"/venv/*) ;; *) echo "imported from $package, not from the wheel"; exit 1 ;; esac
test -f "$package/py.typed"

for kind in ingest queries; do
  diff -r "$root/$kind" "$package/_shipped/$kind"
done
names() { python -c 'import json, sys; print(*sorted(row["name"] for row in json.load(sys.stdin)), sep="\n")'; }
stems() { (cd "$1" && ls -- *."$2") | sed 's/\.[a-z]*$//' | sort; }
diff <(featgraph recipes --format json | names) <(stems "$root/ingest" toml)
diff <(featgraph queries --format json | names) <(stems "$root/queries" sql)

featgraph --help >/dev/null
featgraph ingest demo --tokens 32768 --quiet -o smoke.featgraph >/dev/null
featgraph info smoke.featgraph
test "$(featgraph query smoke.featgraph 'select count(*) > 0 as n from edge' --format csv | tail -n 1)" = true
echo "the wheel works outside the checkout"
