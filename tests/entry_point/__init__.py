"""Tests of entry_point."""
