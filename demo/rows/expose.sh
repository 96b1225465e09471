#!/usr/bin/env bash
# Publish a port on the relay, as "expose 80:80" does elsewhere. Run: make demo-expose
source "$(dirname "$0")/lib.sh"
keys
say "A service that only this machine can reach, and a relay"
web service "hello from the hidden service"
start relay relay-server --host 127.0.0.1 -p 0

say "The reverse-proxy asks for any free public port (-e 80:80 would ask for port 80)"
start proxy reverse-proxy -s "127.0.0.1:$(port 1 relay)" -e "0:$(port 1 service)"
public=$(public 1 proxy)
expect "hello from the hidden service" curl -s "http://127.0.0.1:$public/"

say "The reverse-proxy dies: the port stays bound, and refuses at once"
end proxy KILL
expect "curl: (" curl -sS "http://127.0.0.1:$public/"

say "It comes back and has its port again"
start proxy reverse-proxy -s "127.0.0.1:$(port 1 relay)" -e "$public:$(port 1 service)"
expect "hello from the hidden service" curl -s "http://127.0.0.1:$public/"

say "Frozen, not dead: a new one with the same key takes over at once"
kill -STOP "$proxy_pid"
start second reverse-proxy -s "127.0.0.1:$(port 1 relay)" -e "$public:$(port 1 service)"
expect "hello from the hidden service" curl -s "http://127.0.0.1:$public/"
kill -CONT "$proxy_pid"

say "Another key is told who holds the port"
ssh-keygen -q -t ed25519 -N "" -f other
cat other.pub >>cert/auth.pub
kill -HUP "$relay_pid"
start rival reverse-proxy -s "127.0.0.1:$(port 1 relay)" -a other -e "$public:$(port 1 service)"
expect "is held by key" grep "not exposed" rival.log
say "It works."
