"""A key from a passphrase: the same on every machine, for ever.

Whoever knows the passphrase has the key, and whoever guesses it too: there is no file to steal
first. Hence a slow, memory-hard function and a floor under what may be used.

Everything here is part of a promise: the same passphrase gives the same key in every release, on
every system. None of it can ever change; another derivation would be another option.

1. The passphrase is enforced after the OpaqueString profile of RFC 8265 section 4.2: every space
   separator becomes U+0020, then NFC; it is not empty and holds no control characters. Case and
   leading or trailing spaces count. Not NFKC: it would make different passphrases the same.
   Characters that this Python does not know are refused, for NFC of an unknown one may differ
   once it is known; that of a known one never does (Unicode's stability policy).
2. Its UTF-8 goes through Argon2id (RFC 9106, version 1.3) with 3 passes over 256 MiB, one lane
   (libsodium's MODERATE) and the salt below. The salt is the same for everybody, since nothing
   else is at hand on another machine; it separates these keys from all other uses of Argon2.
3. The 32 bytes are the seed of the ed25519 key (RFC 8032 section 5.1.5).
"""

from __future__ import annotations

import math
import unicodedata
from typing import Final

from common.errors import UsageError

SALT: Final = b"tcp-relay-key-v1"
PASSES: Final = 3
MEMORY_BYTES: Final = 256 * 1024 * 1024
SEED_BYTES: Final = 32

FEWEST_GUESSES: Final = 10**12
"""At half a CPU second and 256 MiB a guess, 15,000 years of CPU time."""
MOST_CHARS: Final = 1024
"""A longer one is a file, piped in by mistake."""

_JUDGED_CHARS: Final = 72  # zxcvbn's time grows faster than the text; it refuses more itself
_HOUSE_WORDS: Final = ["tcp", "relay", "server", "reverse", "proxy", "entry", "point", "gen-cert"]
_REFUSED_CATEGORIES: Final = {
    "Cc": "a control character",
    "Cs": "half a character",
    "Cn": "a character that this version of Python does not know",
    "Co": "a private character",
}


def normalise(text: str) -> str:
    """Return the passphrase in its one form (step 1 above).

    Raises:
        UsageError: empty, longer than ``MOST_CHARS``, or with a character that is not allowed.
            The message does not show the passphrase.
    """
    if not text:
        raise UsageError("the passphrase is empty; type one, or leave out --passphrase")
    if len(text) > MOST_CHARS:
        raise UsageError(
            f"the passphrase has {len(text)} characters, more than {MOST_CHARS}; give a shorter one"
        )
    for number, char in enumerate(text, start=1):
        if what := _REFUSED_CATEGORIES.get(unicodedata.category(char)):
            raise UsageError(
                f"character {number} of the passphrase (U+{ord(char):04X}) is {what}; leave it out"
            )
    spaced = "".join(" " if unicodedata.category(char) == "Zs" else char for char in text)
    return unicodedata.normalize("NFC", spaced)


def check_strength(passphrase: str) -> None:
    """Check that a normalised passphrase withstands guessing.

    Raises:
        UsageError: it needs fewer than ``FEWEST_GUESSES`` by the estimate of ``zxcvbn``, whose
            advice is in the message. The message does not show the passphrase.
    """
    from zxcvbn import zxcvbn  # 20 MB of word lists

    judged = zxcvbn(passphrase[:_JUDGED_CHARS], user_inputs=_HOUSE_WORDS)
    if judged["guesses"] >= FEWEST_GUESSES:
        return
    feedback = judged["feedback"]
    advice = [feedback["warning"], *feedback["suggestions"]]
    sentences = " ".join(line.rstrip(".") + "." for line in advice if line)
    raise UsageError(
        f"the passphrase is too weak: about 10^{math.floor(math.log10(judged['guesses']))} guesses "
        f"find it, and 10^{math.floor(math.log10(FEWEST_GUESSES))} are the least. "
        f"{sentences or 'Add another word or two.'} Five or more random words are good."
    )


def derive_seed(passphrase: str) -> bytes:
    """Return the seed (32 bytes) of a normalised passphrase. Takes about a second and 256 MiB.

    Raises:
        UsageError: this machine does not have the memory.
    """
    from nacl.exceptions import CryptoError
    from nacl.pwhash import argon2id

    try:
        return argon2id.kdf(
            SEED_BYTES, passphrase.encode(), SALT, opslimit=PASSES, memlimit=MEMORY_BYTES
        )
    except (CryptoError, MemoryError):
        raise UsageError(
            f"deriving a key needs {MEMORY_BYTES >> 20} MiB of free memory; free some, or make the "
            "key on another machine and copy it here"
        ) from None
