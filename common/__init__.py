"""What two or more of the programs need; knows none of them."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tcp-relay-suite")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
