"""Keys from passphrases: one form, one floor, one derivation, for ever."""

from __future__ import annotations

import contextlib
import io
import sys
import time
import unicodedata

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from common.keys import Identity
from gen_cert.passphrase import (
    MEMORY_BYTES,
    MOST_CHARS,
    PASSES,
    SALT,
    check_strength,
    derive_seed,
    normalise,
)
from gen_cert.prompt import read_passphrase

PASSPHRASE = "orbit candle mosaic walnut"
SEED = "1854affe0987fa3968ed86e0ce86504f9fe41dadf071190bccbaacae8dcba493"
FINGERPRINT = "SHA256:Bh4Gt+MP5F9UoWyYbieMR42Puy/ZIlu0/t9MFrKZqsI"


class TestNormalise:
    @pytest.mark.parametrize(
        ("text", "one_form"),
        [
            (PASSPHRASE, PASSPHRASE),
            ("Zu\u0308rich", "Z\u00fcrich"),  # composed and decomposed are typed the same
            ("a\u00a0b\u3000c\u2000d", "a b c d"),
            (" a  b ", " a  b "),
            ("\ufb01sh", "\ufb01sh"),  # the ligature is another character: NFC, not NFKC
            ("Pass\U0001f600", "Pass\U0001f600"),
        ],
    )
    def test_one_form(self, text: str, one_form: str) -> None:
        assert normalise(text) == one_form

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "the passphrase is empty"),
            ("x" * (MOST_CHARS + 1), "has 1025 characters, more than 1024"),
            ("abc\td", r"character 4 of the passphrase \(U\+0009\) is a control character"),
            ("\x7f", r"\(U\+007F\) is a control character"),
            ("a\ud800", r"character 2 of the passphrase \(U\+D800\) is half a character"),
            ("\U000e1000", "does not know"),
            ("\ue000", "is a private character"),
        ],
    )
    def test_refuses(self, text: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            normalise(text)

    @given(st.text(st.characters(), max_size=60))
    def test_is_idempotent_and_blind_to_composition(self, text: str) -> None:
        try:
            once = normalise(text)
        except UsageError:
            return
        assert normalise(once) == once
        assert normalise(unicodedata.normalize("NFD", text)) == once
        once.encode()


class TestStrength:
    @pytest.mark.parametrize(
        "weak",
        [
            "password1!",
            "correcthorse",
            "Tr0ub4dour&3",
            "tcp relay server",
            "qwertyuiop asdfghjkl",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ],
    )
    def test_refuses_what_is_guessed(self, weak: str) -> None:
        with pytest.raises(
            UsageError, match=r"too weak: about 10\^\d+ guesses .* random"
        ) as caught:
            check_strength(weak)
        assert weak not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_says_what_zxcvbn_says(self) -> None:
        with pytest.raises(UsageError, match=r"Repeats like .* are easy to guess") as caught:
            check_strength("aaaaaaa")
        assert ".." not in str(caught.value)

    @pytest.mark.parametrize("strong", [PASSPHRASE, "x8Kq2mVz9fLp", "żółw jeździ dziś rowerem"])
    def test_takes_what_is_not(self, strong: str) -> None:
        check_strength(strong)

    @pytest.mark.parametrize("tile", ["a", "aB1!", "4@8({3", "password1", "qwerty 2001-12-24 "])
    def test_a_long_one_does_not_take_long(self, tile: str) -> None:
        start = time.process_time()
        with contextlib.suppress(UsageError):
            check_strength((tile * MOST_CHARS)[:MOST_CHARS])
        assert time.process_time() - start < 10

    @given(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=90))
    def test_any_passphrase_is_judged(self, text: str) -> None:
        with contextlib.suppress(UsageError):
            check_strength(normalise(text))


class TestDerivation:
    """Pinned: if one of these fails, the change breaks everybody's keys. Do not update them."""

    def test_the_seed_of_a_passphrase(self) -> None:
        assert derive_seed(PASSPHRASE).hex() == SEED

    def test_the_fingerprint_of_its_key(self) -> None:
        assert Identity.from_seed(bytes.fromhex(SEED)).public.fingerprint == FINGERPRINT

    def test_the_parameters(self) -> None:
        assert (SALT, PASSES, MEMORY_BYTES) == (b"tcp-relay-key-v1", 3, 2**28)

    def test_another_implementation_of_argon2id_agrees(self) -> None:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        try:
            argon = Argon2id(
                salt=SALT, length=32, iterations=PASSES, lanes=1, memory_cost=MEMORY_BYTES // 1024
            )
        except UnsupportedAlgorithm:
            pytest.skip("this OpenSSL has no argon2id")
        assert argon.derive(PASSPHRASE.encode()).hex() == SEED

    def test_too_little_memory_is_an_error_with_advice(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from nacl import exceptions
        from nacl.pwhash import argon2id

        def fail(*_args: object, **_options: object) -> bytes:
            raise exceptions.RuntimeError("Unexpected failure in key derivation")

        monkeypatch.setattr(argon2id, "kdf", fail)
        with pytest.raises(UsageError, match="needs 256 MiB of free memory; free some, or"):
            derive_seed(PASSPHRASE)


class TestPipe:
    def pipe(self, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        # Whatever the locale says, as latin-1 does here: bytes from a pipe are UTF-8.
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="latin-1"))

    @pytest.mark.parametrize(
        ("data", "passphrase"),
        [
            (b"one\ntwo\n", "one"),
            (b"one", "one"),
            (b" one \r\n", " one "),
            ("\ufeffZürich\n".encode(), "Zürich"),
            (b"", ""),
        ],
    )
    def test_takes_the_first_line(
        self, data: bytes, passphrase: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.pipe(data, monkeypatch)
        assert read_passphrase() == passphrase

    def test_refuses_what_is_not_utf8(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pipe("Zürich".encode("latin-1"), monkeypatch)
        with pytest.raises(UsageError, match=r"not UTF-8 \(byte 2\)"):
            read_passphrase()

    def test_a_file_piped_in_by_mistake_is_not_read_whole(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.pipe(b"x" * 1_000_000, monkeypatch)
        assert MOST_CHARS < len(read_passphrase()) < 5 * MOST_CHARS

    def test_refuses_to_go_without_stdin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", None)
        with pytest.raises(UsageError, match="there is no stdin"):
            read_passphrase()
