#!/usr/bin/env bash
# Everything over one single port: tunnel clients, HTTP, a service that speaks first; and UDP.
# Run: make demo-single-port
source "$(dirname "$0")/lib.sh"
keys
say "Three services: HTTP, one that speaks first as SSH does, and a name server over UDP"
web service "hello over the single port"
cat >speaker.py <<'PYTHON'
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"SSH-2.0-Demo\r\n")
        self.rfile.readline()
server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
print(f"speaker ready 127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
PYTHON
start speaker python speaker.py
cat >names.py <<'PYTHON'
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
print(f"names ready 127.0.0.1:{sock.getsockname()[1]}", flush=True)
while True:  # every name is at 192.0.2.53 (RFC 1035, section 4)
    query, client = sock.recvfrom(512)
    end = query.index(b"\0", 12) + 5
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("192.0.2.53")
    sock.sendto(query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end] + answer, client)
PYTHON
start names python names.py

say "A relay with one port for all of it"
free=$(python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
start relay relay-server --host 127.0.0.1 -p "$free" --http-port "$free"
start proxy reverse-proxy -s "127.0.0.1:$free" \
    -e "$free:$(port 1 speaker),0:$(port 1 names)/udp" --http "www.example.org:$(port 1 service)"

say "HTTP goes to the host name"
expect "hello over the single port" \
    curl -s --resolve "www.example.org:$free:127.0.0.1" "http://www.example.org:$free/"
say "Whoever says nothing is served by the exposure of the port, after 0.3 s"
expect "SSH-2.0-Demo" timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$free; head -n1 <&3"
say "Tunnel clients use the same port"
start entry entry-point -s "127.0.0.1:$free" --bind 127.0.0.1 -r "0:$(port 1 service)"
expect "hello over the single port" curl -s "http://127.0.0.1:$(port 1 entry)/"
say "UDP, by a public port of the relay"
udp=$(grep -oE 'public=127\.0\.0\.1:[0-9]+/udp' proxy.log | grep -oE ':[0-9]+' | tr -d :)
if has dig; then
    expect "192.0.2.53" dig +short +time=5 +tries=1 @127.0.0.1 -p "$udp" anything.example.org
fi
say "It works."
