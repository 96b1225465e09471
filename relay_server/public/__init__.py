"""What the relay opens to the public, on request of its reverse-proxies."""
