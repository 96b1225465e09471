"""What fuzzing has found: one test for each defect, in words."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from common import frames
from common.config_file import load_config
from common.errors import HttpError, KeyFileError, ProtocolError, RouteError, SettingError
from common.exposure_grammar import parse_exposures
from common.introduction import anchor
from common.keys import Identity, parse_identity
from common.setting_fields import settings_of
from common.tls import link_context
from common.wire import Denied, Message, MessageReader, Ping, Ready, Visit, encode
from entry_point.settings import EntryPointSettings
from relay_server.http.body import Chunks
from reverse_proxy.visitors_file import VisitorsFile, read


def load(path: Path, text: str) -> object:
    path.write_text(text, encoding="utf-8")
    return load_config(str(path), settings_of(EntryPointSettings))


@pytest.mark.parametrize("name", ["c.toml", "c.json"])
def test_a_config_that_is_nested_too_deeply_is_an_error_of_its_user(
    tmp_path: Path, name: str
) -> None:
    begin = "routes = " if name == "c.toml" else '{"routes": '
    with pytest.raises(SettingError, match=r"not (TOML|JSON): (maximum recursion|Input data)"):
        load(tmp_path / name, begin + "[" * 5000)


@pytest.mark.parametrize(
    "line",
    [
        "pool = 0x" + "f" * 5000,
        "grace = 0x" + "f" * 300,
        "grace = " + "9" * 400,
        "group-id = 0x" + "f" * 5000,
        "routes = [0x" + "f" * 5000 + "]",
        "bind = {a = 0x" + "f" * 5000 + "}",
    ],
    ids=["whole", "seconds", "decimal seconds", "text", "list", "table"],
)
def test_a_number_of_any_length_is_an_error_of_its_user(tmp_path: Path, line: str) -> None:
    with pytest.raises(SettingError, match=rf"{line.partition(' ')[0]}: .* is not "):
        load(tmp_path / "c.toml", line)


def test_a_group_is_no_number_that_is_none(tmp_path: Path) -> None:
    assert load(tmp_path / "c.toml", "group-id = 1.5") == {"group_id": "1.5"}
    with pytest.raises(SettingError, match="group-id: nan is not text"):
        load(tmp_path / "c.toml", "group-id = nan")


@pytest.mark.parametrize(
    "data",
    [
        b'{"version":1,"visitors":[["127.1.2.3","\xff",1,2]]}',
        b'{"version":1,"visitors":[],"x":' + b"[" * 5000,
    ],
    ids=["no UTF-8", "nested too deeply"],
)
def test_a_spoilt_file_of_visitors_is_set_aside(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "visitors.json"
    path.write_bytes(data)
    with pytest.raises(SettingError, match="no file of visitors"):
        read(path)
    assert VisitorsFile(str(path)).stand_in("192.0.2.7").startswith("127.")
    assert (tmp_path / "visitors.json.unreadable").read_bytes() == data


def test_a_key_of_another_kind_and_the_wrong_length_is_an_error_of_its_user() -> None:
    text = b"-----BEGIN PRIVATE KEY-----\n%b\n-----END PRIVATE KEY-----\n"
    seed = bytes(range(32))
    key = bytes.fromhex("302e020100300506032b657004220420") + seed
    assert parse_identity(text % base64.b64encode(key)) == Identity.from_seed(seed)
    ed448 = key.replace(b"\x2b\x65\x70", b"\x2b\x65\x71")  # its keys have 57 bytes
    with pytest.raises(KeyFileError, match="PKCS #8 cannot be read"):
        parse_identity(text % base64.b64encode(ed448))


@pytest.mark.parametrize("name", ["a..", "*. a", "\u212aelvin"])
def test_a_name_that_the_relay_would_refuse_is_refused_before(name: str) -> None:
    with pytest.raises(RouteError, match="write"):
        parse_exposures(http=[f"{name}:80"])


@pytest.mark.parametrize(
    ("value", "header"), [(" a", "a"), ("a :80", "a:80"), ("A:\t80", "a:80"), ("a", "a")]
)
def test_a_host_header_has_no_white_space(value: str, header: str) -> None:
    (found,) = parse_exposures(http=["app:80", f"host={value}"])
    assert found.host_header == header


def test_a_host_header_with_a_colon_has_a_port() -> None:
    with pytest.raises(RouteError, match="host=: not a port"):
        parse_exposures(http=["app:80", "host=a:"])


@pytest.mark.parametrize("name", [b"Content-Length", b"transfer-Encoding"])
def test_a_trailer_says_nothing_of_framing(name: bytes) -> None:
    answer = Chunks(request=False)
    with pytest.raises(HttpError, match="trailers"):
        answer.follow(memoryview(b"0\r\n" + name + b": 5\r\n\r\n"))
    harmless = b"0\r\nX-" + name + b": 5\r\n\r\n"
    assert Chunks(request=False).follow(memoryview(harmless)) == len(harmless)


def test_a_spoilt_certificate_is_an_error_of_its_user(tmp_path: Path) -> None:
    key_identifier, constraints = b"\x06\x03\x55\x1d\x0e", b"\x06\x03\x55\x1d\x13"
    der = anchor()
    version = b"\xa0\x03\x02\x01\x02"
    for spoilt in (
        der.replace(key_identifier, constraints),  # twice the same extension
        der.replace(version, version[:-1] + b"\x2a"),
        der.replace(constraints + b"\x01", constraints + b"\x02"),
    ):
        assert spoilt != der
        path = tmp_path / "server.crt"
        path.write_text(ssl.DER_cert_to_PEM_cert(spoilt))
        with pytest.raises(KeyFileError, match=r"no certificate|cannot use|cannot read"):
            link_context(Identity.from_seed(bytes(32)), str(path))


DEEP = b"\x91" * 1500 + b"\xc0"
"""Arrays in arrays, as a field that a later version might have appended: a reader ignores it, or
(Python 3.11) cannot go so deep; then it is the peer's error, and no other exception."""


@pytest.mark.parametrize("message", [Ping(), Ready(), Denied("code", "detail")], ids=repr)
def test_a_message_that_is_nested_too_deeply_is_at_most_the_peer_s_error(message: Message) -> None:
    fields = encode(message)[2:]
    payload = bytes([fields[0] + 1]) + fields[1:] + DEEP
    reader = MessageReader()
    reader.feed(len(payload).to_bytes(2, "big"))
    with suppress(ProtocolError):
        reader.feed(payload)


@pytest.mark.parametrize(
    ("frame", "decode"),
    [
        (frames.encode_open(frames.Open("0", "tcp", "a", 80, "", 0)), frames.decode_open),
        (frames.encode_refused(frames.Refused("code", "detail")), frames.decode_refused),
        (frames.encode_visit(Visit(1, "", 0, "", 0)), frames.decode_visit),
        (frames.encode_flow(frames.Flow(1, "", 0)), frames.decode_flow),
    ],
    ids=["OPEN", "REFUSED", "VISIT", "FLOW"],
)
def test_a_frame_that_is_nested_too_deeply_is_at_most_the_peer_s_error(
    frame: bytes, decode: Callable[[bytes], object]
) -> None:
    payload = frame[frames.HEADER_SIZE :]
    decode(payload)
    with suppress(ProtocolError):
        decode(bytes([payload[0] + 1]) + payload[1:] + DEEP)
