"""What tests of refusals share: files of trusted keys, and the reason that a log line gives."""

from __future__ import annotations

import re

from common.keys import Identity
from tests.programs.harness import Suite


def trusted(suite: Suite, name: str, *lines: tuple[str, Identity]) -> str:
    """Write a trusted keys file; each line is options (or nothing) and a key."""
    path = suite.path(name)
    text = "".join(f"{options} {each.public.openssh()}\n".lstrip() for options, each in lines)
    path.write_text(text)
    path.chmod(0o600)
    return f"cert/{name}"


def message(line: str) -> str:
    """Return the reason (or detail) of a log line, without its escapes."""
    match = re.search(r'(?:reason|detail)=(?:"((?:[^"\\]|\\.)*)"|(\S+))', line)
    assert match, line
    return (match[1] or match[2]).replace('\\"', '"').replace("\\\\", "\\")
