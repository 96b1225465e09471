"""Fuzzing of everything that reads bytes or text of others; ``python -m tests.fuzz --help``."""
