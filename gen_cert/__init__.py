"""The key maker: the relay's certificate and ed25519 identities."""
