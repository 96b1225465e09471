# What the four demonstrations share. Bash; sourced, not run.
#
# Everything happens on loopback, in a directory of its own that goes with the script; what was
# started is ended by its process id.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PATH="$ROOT/.venv/bin:$PATH"
WORK=$(mktemp -d)
PIDS=()
cd "$WORK"

finish() {
    status=$?
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ "$status" -ne 0 ]; then
        for log in *.log; do echo "--- $log"; tail -n 15 "$log"; done
        echo "this did not work" >&2
    fi
    rm -rf "$WORK"
    exit "$status"
}
trap finish EXIT

# say TEXT: what comes next.
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# show COMMAND...: print a command and run it.
show() {
    printf '$ %s\n' "$*"
    "$@"
}

# start NAME COMMAND...: run a program in the background and wait for its ready line.
start() {
    local name=$1
    shift
    printf '$ %s &\n' "$*"
    "$@" >"$name.log" 2>&1 &
    PIDS+=($!)
    eval "${name}_pid=$!"
    for _ in $(seq 200); do
        if grep -q " ready" "$name.log"; then
            grep -m1 " ready" "$name.log"
            return
        fi
        kill -0 "${PIDS[-1]}" 2>/dev/null || break
        sleep 0.05
    done
    echo "$name does not start" >&2
    return 1
}

# end NAME SIGNAL: end a program.
end() {
    local pid="${1}_pid"
    printf '$ kill -%s %s\n' "$2" "$1"
    kill "-$2" "${!pid}"
    wait "${!pid}" 2>/dev/null || true
}

# port NUMBER NAME: the port of the NUMBERth address in a ready line.
port() { grep -m1 " ready" "$2.log" | grep -oE '127\.0\.0\.1:[0-9]+' | sed -n "${1}p" | cut -d: -f2; }

# public NUMBER NAME: the NUMBERth public port that a reverse-proxy holds.
public() { grep -oE ' exposed .*public=127\.0\.0\.1:[0-9]+' "$2.log" | sed -n "${1}p" | sed 's/.*://'; }

# expect TEXT COMMAND...: run a command whose output has to contain TEXT.
expect() {
    local text=$1 out
    shift
    printf '$ %s\n' "$*"
    out=$("$@" 2>&1) || true
    printf '%s\n' "$out" | head -n 12
    if ! grep -qF -- "$text" <<<"$out"; then
        echo "expected: $text" >&2
        return 1
    fi
}

# web NAME TEXT: an HTTP server that answers TEXT, and whom it sees, on a free port.
web() {
    cat >"$1.py" <<'PYTHON'
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        forwarded = self.headers.get("X-Forwarded-For", "nobody")
        body = f"{sys.argv[1]} (client {self.client_address[0]}, forwarded for {forwarded})\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"web ready 127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
PYTHON
    start "$1" python "$1.py" "$2"
}

# has PROGRAM: whether it is installed; says so if not.
has() {
    command -v "$1" >/dev/null && return
    echo "($1 is not installed: this step is left out)"
    return 1
}

keys() {
    gen-cert x509 >/dev/null
    gen-cert ed25519 >/dev/null
}
