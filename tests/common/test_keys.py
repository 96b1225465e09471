"""Keys: formats in and out, and what is refused."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import KeyFileError
from common.keys import Identity, PublicKey, parse_identity, parse_public_key
from tests.common.key_samples import (
    ALICE_FINGERPRINT,
    ALICE_PRIVATE,
    ALICE_PUBLIC,
    LOCKED_PRIVATE,
    RFC_PUBLIC,
    RFC_SEED,
)

Data = TypeVar("Data", str, bytes)
Key = TypeVar("Key")

PRIME = 2**255 - 19
seeds = st.binary(min_size=32, max_size=32)
comments = st.text(st.characters(exclude_categories=["Cs"])).map(
    lambda text: " ".join("".join(c if c.isprintable() else " " for c in text).split())
)


def pkcs8(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def outcome(parse: Callable[[Data], Key], data: Data) -> Key | KeyFileError:
    """What parsing leads to: no other error gets out."""
    try:
        return parse(data)
    except KeyFileError as error:
        return error


def blob_line(blob: bytes, key_type: str = "ssh-ed25519") -> str:
    return f"{key_type} {base64.b64encode(blob).decode()}"


class TestPublicKey:
    def test_reads_and_writes_the_line_of_ssh_keygen(self) -> None:
        key = PublicKey.from_openssh(ALICE_PUBLIC)
        assert key.comment == "alice@example.org"
        assert key.openssh() == ALICE_PUBLIC

    def test_has_the_fingerprint_of_ssh_keygen(self) -> None:
        assert PublicKey.from_openssh(ALICE_PUBLIC).fingerprint == ALICE_FINGERPRINT

    def test_without_a_comment_the_line_ends_after_the_key(self) -> None:
        line = " ".join(ALICE_PUBLIC.split()[:2])
        assert PublicKey.from_openssh(f"\t{line} \r\n").openssh() == line

    def test_the_comment_does_not_count_in_comparisons(self) -> None:
        one, other = PublicKey(RFC_PUBLIC, "one"), PublicKey(RFC_PUBLIC, "other")
        assert one == other
        assert hash(one) == hash(other)

    def test_a_comment_is_one_line_of_printable_text(self) -> None:
        assert PublicKey.from_openssh(f"{ALICE_PUBLIC}\t\x1b[2J  x").comment.isprintable()
        with pytest.raises(KeyFileError, match=r"one line of printable text, not 'a\\nssh-rsa"):
            PublicKey(RFC_PUBLIC, "a\nssh-rsa AAAA")

    @pytest.mark.parametrize("size", [0, 31, 33, 64])
    def test_has_32_bytes(self, size: int) -> None:
        with pytest.raises(KeyFileError, match=f"has 32 bytes, not {size}"):
            PublicKey(bytes(size))

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("", "not an ed25519 key: ''"),
            ("ssh-rsa AAAAB3NzaC1yc2E= me", "not an ed25519 key: 'ssh-rsa AAAAB3NzaC1yc2E= me'"),
            ("sk-ssh-ed25519@openssh.com AAAA", "not an ed25519 key: 'sk-ssh-ed25519@"),
            ("\x1b[2J", r"not an ed25519 key: '\\x1b\[2J'"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "this is a private key"),
            ("ssh-ed25519", "a damaged ed25519 key: 'ssh-ed25519'"),
            ("ssh-ed25519 AAAA", "a damaged ed25519 key"),
            ("ssh-ed25519 A*AA", "a damaged ed25519 key"),
            ("ssh-ed25519 ÄÄÄÄ", "a damaged ed25519 key"),
            (ALICE_PUBLIC.split()[0] + " " + ALICE_PUBLIC.split()[1][:-4], "a damaged ed25519"),
            (blob_line(b"\0\0\0\x0bssh-ed25518\0\0\0\x20" + RFC_PUBLIC), "a damaged ed25519 key"),
            (blob_line(b"\0\0\0\x0bssh-ed25519\0\0\0\x21" + RFC_PUBLIC), "a damaged ed25519 key"),
        ],
    )
    def test_refuses_what_is_no_ed25519_line(self, line: str, message: str) -> None:
        with pytest.raises(KeyFileError, match=message):
            PublicKey.from_openssh(line)

    @given(seeds, comments)
    def test_line_round_trip(self, seed: bytes, comment: str) -> None:
        key = Identity.from_seed(seed, comment).public
        again = PublicKey.from_openssh(key.openssh())
        assert (again.raw, again.comment) == (key.raw, comment)

    @given(st.text() | st.text().map("ssh-ed25519 {}".format))
    @example("ssh-ed25519 \ud800")
    def test_any_line_parses_or_raises_key_file_error(self, line: str) -> None:
        match outcome(PublicKey.from_openssh, line):
            case PublicKey() as key:
                assert key == PublicKey.from_openssh(key.openssh())
            case error:
                assert "\n" not in str(error)


Point = tuple[int, int]
CURVE_D = -121665 * pow(121666, -1, PRIME) % PRIME


def double(point: Point) -> Point:
    """Double a point of -x² + y² = 1 + d·x²·y² (RFC 8032 section 5.1.4, affine)."""
    x, y = point
    product = CURVE_D * x * x * y * y % PRIME
    return (
        2 * x * y * pow(1 + product, -1, PRIME) % PRIME,
        (y * y + x * x) * pow(1 - product, -1, PRIME) % PRIME,
    )


def point_at(y: int) -> Point:
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if x * x % PRIME != square:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    assert x * x % PRIME == square
    return x, y


class TestWeakKeys:
    ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
    SMALL = (0, 1, PRIME - 1, ORDER_8, PRIME - ORDER_8)

    @pytest.mark.parametrize("y", SMALL)
    def test_they_are_the_points_that_eight_takes_to_zero(self, y: int) -> None:
        assert double(double(double(point_at(y)))) == (0, 1)

    @pytest.mark.parametrize("sign", [0, 1])
    @pytest.mark.parametrize("y", [*SMALL, PRIME, PRIME + 1, 2**255 - 1])
    def test_a_file_that_names_one_is_refused(self, y: int, sign: int) -> None:
        raw = (y | sign << 255).to_bytes(32, "little")
        with pytest.raises(KeyFileError, match="anybody could sign"):
            PublicKey.from_openssh(PublicKey(raw).openssh())
        with pytest.raises(KeyFileError, match="anybody could sign"):
            PublicKey.from_raw(raw)

    def test_what_a_peer_showed_still_has_a_fingerprint(self) -> None:
        assert PublicKey(bytes(32)).fingerprint.startswith("SHA256:")


class TestIdentity:
    def test_has_the_public_key_of_rfc_8032(self) -> None:
        identity = Identity.from_seed(RFC_SEED, "rfc")
        assert identity.public == PublicKey(RFC_PUBLIC)
        assert identity.public.comment == "rfc"
        assert identity.private_key().private_bytes_raw() == RFC_SEED

    def test_never_shows_its_secret(self) -> None:
        identity = Identity.from_seed(RFC_SEED)
        for text in (repr(identity), str(identity), f"{identity}"):
            assert repr(RFC_SEED)[2:10] not in text
            assert "seed" not in text

    def test_a_seed_has_32_bytes(self) -> None:
        with pytest.raises(KeyFileError, match="seed has 32 bytes, not 31"):
            Identity.from_seed(bytes(31))

    @given(seeds, comments)
    def test_openssh_round_trip(self, seed: bytes, comment: str) -> None:
        identity = Identity.from_seed(seed, comment)
        again = parse_identity(identity.to_openssh())
        assert again.private_key().private_bytes_raw() == seed
        assert again.public.comment == comment

    @given(seeds, st.integers(0, 9).map("x".__mul__))
    def test_cryptography_reads_its_file(self, seed: bytes, comment: str) -> None:
        key = load_ssh_private_key(Identity.from_seed(seed, comment).to_openssh(), None)
        assert isinstance(key, Ed25519PrivateKey)
        assert key.private_bytes_raw() == seed

    def test_its_file_looks_like_that_of_ssh_keygen(self) -> None:
        ours, theirs = parse_identity(ALICE_PRIVATE).to_openssh(), ALICE_PRIVATE
        assert [*map(len, ours.splitlines())] == [*map(len, theirs.splitlines())]
        assert ours[:150] == theirs[:150]


class TestParseIdentity:
    def test_openssh(self) -> None:
        identity = parse_identity(ALICE_PRIVATE)
        assert identity.public.openssh() == ALICE_PUBLIC
        assert identity.private_key().public_key().public_bytes_raw() == identity.public.raw

    def test_openssh_with_other_line_ends_and_blanks_around(self) -> None:
        windows = b"\xef\xbb\xbf\r\n" + ALICE_PRIVATE.replace(b"\n", b"\r\n") + b"\r\n"
        assert parse_identity(windows) == parse_identity(ALICE_PRIVATE)

    def test_pkcs8(self) -> None:
        identity = parse_identity(pkcs8(Ed25519PrivateKey.from_private_bytes(RFC_SEED)))
        assert identity == Identity.from_seed(RFC_SEED)

    def test_the_original_tools_64_bytes(self) -> None:
        assert parse_identity(RFC_SEED + RFC_PUBLIC) == Identity.from_seed(RFC_SEED)

    def test_the_original_tools_halves_have_to_match(self) -> None:
        with pytest.raises(KeyFileError, match="public half does not belong to its secret half"):
            parse_identity(RFC_SEED + bytes(32))

    def test_openssh_halves_have_to_match(self) -> None:
        body = base64.b64decode(b"".join(ALICE_PRIVATE.splitlines()[1:-1]))
        seed = parse_identity(ALICE_PRIVATE).private_key().private_bytes_raw()
        swapped = base64.b64encode(body.replace(seed, RFC_SEED))
        lines = ALICE_PRIVATE.splitlines()
        with pytest.raises(KeyFileError, match="does not belong"):
            parse_identity(b"\n".join([lines[0], swapped, lines[-1]]))

    def test_a_passphrase_is_refused_with_the_command_that_takes_it_off(self) -> None:
        with pytest.raises(KeyFileError, match=r"passphrase.*ssh-keygen -p -N '' -f cert/auth"):
            parse_identity(LOCKED_PRIVATE, "cert/auth")
        with pytest.raises(KeyFileError, match=r"passphrase.*openssl pkey -in cert/auth"):
            parse_identity(pkcs8(Ed25519PrivateKey.generate(), b"secret"), "cert/auth")

    def test_other_types_of_key_are_refused_by_name(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        openssh = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        with pytest.raises(KeyFileError, match="not an ed25519 key: 'ecdsa-sha2-nistp256'"):
            parse_identity(openssh)
        with pytest.raises(KeyFileError, match="not an ed25519 key: 'E"):
            parse_identity(pkcs8(key))

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "not an ed25519 private key in a format known here"),
            (b"\x00" * 63, "not an ed25519 private key in a format known here"),
            (b"-----BEGIN RSA PRIVATE KEY-----\n", "not an ed25519 private key in a format"),
            (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "PKCS #8 cannot be"),
            (b"PuTTY-User-Key-File-3: ssh-ed25519", "puttygen FILE -O private-openssh-new"),
            (ALICE_PUBLIC.encode(), "this is a public key"),
            (RFC_PUBLIC, "this is a public key"),
            (ALICE_PRIVATE[:-20], "does not end with one END line"),
            (ALICE_PRIVATE * 2, "does not end with one END line"),
            (ALICE_PRIVATE.replace(b"b3BlbnNz", b"b3Blbn*z"), "base64 cannot be read"),
            (ALICE_PRIVATE.replace(b"b3BlbnNz", b"b3BlbnNa"), "does not hold an openssh-key-v1"),
            (ALICE_PRIVATE.replace(b"AQIDBA==", b"AQIDBQ=="), "padding is wrong"),
            (ALICE_PRIVATE.replace(b"AAAJjkKe9T5Cnv", b"AAAJjkKe9T5Cmv"), "check numbers differ"),
            (ALICE_PRIVATE.replace(b"AQIDBA==", b""), "it is cut short"),
        ],
    )
    def test_refuses(self, data: bytes, message: str) -> None:
        with pytest.raises(KeyFileError, match=message):
            parse_identity(data)

    @given(st.integers(0, 400), st.integers(0, 255))
    def test_a_damaged_file_parses_to_the_same_key_or_raises(self, place: int, byte: int) -> None:
        data = bytearray(ALICE_PRIVATE)
        data[place % len(data)] = byte
        key = outcome(parse_identity, bytes(data))
        if isinstance(key, Identity):
            assert key == parse_identity(ALICE_PRIVATE)  # only the comment can differ

    @given(
        st.binary()
        | st.binary().map(lambda tail: b"-----BEGIN PRIVATE KEY-----" + tail)
        | st.binary().map(
            lambda body: (
                b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
                + base64.b64encode(b"openssh-key-v1\0" + body)
                + b"\n-----END OPENSSH PRIVATE KEY-----"
            )
        )
    )
    def test_any_bytes_parse_or_raise_key_file_error(self, data: bytes) -> None:
        assert "\n" not in str(outcome(parse_identity, data))


class TestParsePublicKey:
    def test_openssh_among_comments(self) -> None:
        data = f"\ufeff# the house\r\n\r\n{ALICE_PUBLIC}\r\n".encode()
        assert parse_public_key(data).openssh() == ALICE_PUBLIC

    def test_the_original_tools_32_bytes(self) -> None:
        assert parse_public_key(RFC_PUBLIC).raw == RFC_PUBLIC

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "not an ed25519 key: ''"),
            (b"# nothing but thirty-two letters", "not an ed25519 key: ''"),
            (b"thirty-two letters are not a key", "not an ed25519 key: 'thirty-two"),
            (bytes(32), "anybody could sign"),
            (RFC_SEED + RFC_PUBLIC, "may be a raw private key"),
            (b"\xff\xfe", "2 bytes that are not an OpenSSH public key"),
            (ALICE_PRIVATE, "this is a private key"),
            (f"{ALICE_PUBLIC}\n{ALICE_PUBLIC}".encode(), "2 keys where one is expected"),
        ],
    )
    def test_refuses(self, data: bytes, message: str) -> None:
        with pytest.raises(KeyFileError, match=message):
            parse_public_key(data)

    @given(st.binary() | st.text().map(str.encode) | st.binary(min_size=32, max_size=32))
    def test_any_bytes_parse_or_raise_key_file_error(self, data: bytes) -> None:
        match outcome(parse_public_key, data):
            case PublicKey(raw=raw):
                assert len(raw) == 32
            case error:
                assert "\n" not in str(error)
