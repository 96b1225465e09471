"""Tests of gen_cert."""
