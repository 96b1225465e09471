"""The reverse-proxy: answers streams beside the hidden service."""
