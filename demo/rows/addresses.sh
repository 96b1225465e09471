#!/usr/bin/env bash
# The visitor's address reaches the service: X-Forwarded-For, PROXY protocol, or a loopback address.
# Run: make demo-addresses
source "$(dirname "$0")/lib.sh"
keys
web service "hello"
cat >proxied.py <<'PYTHON'
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        header = self.rfile.readline().decode().strip()
        while self.rfile.readline().strip():
            pass
        body = f"I was told: {header}\n".encode()
        self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
print(f"proxied ready 127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
PYTHON
start proxied python proxied.py
start relay relay-server --host 127.0.0.1 -p 0 --public-host 127.0.0.1 --http-port 0
start proxy reverse-proxy -s "127.0.0.1:$(port 1 relay)" --visitors-file visitors.json \
    -e "0:$(port 1 proxied),proxy-v1,0:$(port 1 service),loopback" \
    --http "www.example.org:$(port 1 service)"

say "HTTP by a host name: X-Forwarded-For names the visitor, 127.0.0.21"
expect "forwarded for 127.0.0.21" curl -s --interface 127.0.0.21 \
    --resolve "www.example.org:$(port 2 relay):127.0.0.1" "http://www.example.org:$(port 2 relay)/"
say "PROXY protocol (version 1 can be read; proxy-v2 is the binary form)"
expect "PROXY TCP4 127.0.0.22 127.0.0.1" \
    curl -s --interface 127.0.0.22 "http://127.0.0.1:$(public 1 proxy)/"
say "For services that understand neither: an address 127.x.y.z for each visitor (Linux)"
for visitor in 127.0.0.23 127.0.0.24; do
    expect "hello (client 127." curl -s --interface "$visitor" "http://127.0.0.1:$(public 2 proxy)/"
done
sleep 1.2 # the file is written once a second
say "Whose are they?"
expect "127.0.0.24" reverse-proxy whois --visitors-file visitors.json
say "Both sides' logs know the visitors as well"
expect "visitor=127.0.0.23" grep " visitor " relay.log
expect "source=127.0.0.23" grep " stream " proxy.log
say "It works."
