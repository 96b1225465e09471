#!/usr/bin/env bash
# Publish local HTTP servers under host names, with TLS that ends at the relay or at the service.
# Run: make demo-names
source "$(dirname "$0")/lib.sh"
keys
web one "hello from one"
web two "hello from two"
say "A certificate for *.fidb.app (a real one comes from a certificate authority)"
gen-cert x509 --dns fidb.app --dns '*.fidb.app' --output web >/dev/null
start relay relay-server --host 127.0.0.1 -p 0 --domain fidb.app --http-port 0 --https-port 0 \
    --https-cert web/server.crt --https-key web/server.key
http=$(port 2 relay) https=$(port 3 relay)
start proxy reverse-proxy -s "127.0.0.1:$(port 1 relay)" \
    --http "one:$(port 1 one),two:$(port 1 two),*.example.org:$(port 1 two),gone:127.0.0.1:1"

at() { echo "--resolve $1:$2:127.0.0.1"; }
say "Names below the relay's domain, and wildcards"
# shellcheck disable=SC2046
expect "hello from one" curl -s $(at one.fidb.app "$http") "http://one.fidb.app:$http/"
# shellcheck disable=SC2046
expect "hello from two" curl -s $(at any.example.org "$http") "http://any.example.org:$http/"
say "Over TLS"
# shellcheck disable=SC2046
expect "hello from two" curl -s --cacert web/server.crt $(at two.fidb.app "$https") "https://two.fidb.app:$https/"
say "What is not there is said plainly"
# shellcheck disable=SC2046
expect "404 Nothing is published here" curl -s $(at nobody.fidb.app "$http") "http://nobody.fidb.app:$http/"
# shellcheck disable=SC2046
expect "502 The service does not answer" curl -s $(at gone.fidb.app "$http") "http://gone.fidb.app:$http/"
end proxy TERM
# shellcheck disable=SC2046
expect "503 The service is offline" curl -s $(at one.fidb.app "$http") "http://one.fidb.app:$http/"

if browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome); then
    say "And in a browser (which knows that .app is for TLS only)"
    start proxy reverse-proxy -s "127.0.0.1:$(port 1 relay)" --http "one:$(port 1 one)"
    look() {
        "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$WORK/browser" \
            --ignore-certificate-errors --host-resolver-rules="MAP *.fidb.app 127.0.0.1" \
            "$@" 2>/dev/null
    }
    expect "hello from one" look --dump-dom "https://one.fidb.app:$https/"
    expect "Nothing is published here" look --dump-dom "https://nobody.fidb.app:$https/"
    if [ -n "${SCREENSHOTS:-}" ]; then
        look --screenshot="$SCREENSHOTS/unknown-host.png" "https://nobody.fidb.app:$https/"
    fi
fi
say "It works."
