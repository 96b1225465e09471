"""The load: a destination and its clients, processes of their own with plain blocking sockets."""
