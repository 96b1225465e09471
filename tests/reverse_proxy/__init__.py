"""Tests of reverse_proxy."""
