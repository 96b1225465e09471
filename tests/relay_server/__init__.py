"""Tests of relay_server."""
