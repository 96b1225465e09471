"""The relay-server: accepts links, pairs them, and lets the kernel move the bytes."""
