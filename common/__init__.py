"""What two or more of the programs need; knows none of them."""

__version__ = "0.1.0"
"""The suite's version; the build reads it here (asking the installed package costs 3 MiB)."""
