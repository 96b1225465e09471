"""Exposures: what a reverse-proxy asks the relay to make public, and where it leads.

::

    -e, --expose   [source ":"] public_port ":" [host ":"] port ["/tcp" | "/udp"] options
    --http         name ":" [host ":"] port options
    --https        name ":" [host ":"] port options       TLS is passed through, by its SNI

    options        "," word, again for each

A port's grammar is that of a route (:mod:`common.route_grammar`) with the public port in place of
the listening one: 0 asks for any free one, ranges are understood, and a source admits only that
network. A *name* is one label (the relay puts it below its domain), a full host name, or ``*.``
and a name for everything below it.

=============  =====================================================================
option         meaning
=============  =====================================================================
``raw``        the bytes are encrypted already: they go through as they are (TCP)
``proxy-v1``   a PROXY protocol header tells the service who its client is
``proxy-v2``   the same, in the binary form
``loopback``   the connection comes from a 127.x.y.z that stands for the client
``host=NAME``  (``--http``) the service is told this ``Host``; else what the client sent
=============  =====================================================================

In a list an option follows the item it belongs to: ``-e 443:443,raw,80:80``. An item has a colon,
an option has none (a port in ``host=NAME:PORT`` aside), so nothing is left to guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Literal, cast

from common import frames
from common.addresses import HostPort, IPNetwork, parse_host, parse_port
from common.errors import AddressError, RouteError, SettingError
from common.route_grammar import (
    DEFAULT_HOST,
    INFORM,
    attach_options,
    check_inform,
    network_text,
    parse_route,
    split_options,
    split_parts,
)
from common.wire import MAX_EXPOSURES, Kind

NameKind = Literal["http", "https"]
_RAW: Final = "raw"
_HOST: Final = "host="


@dataclass(frozen=True, slots=True)
class Exposure:
    """One exposure; ``str()`` is its shortest form.

    Args:
        kind: a port (tcp, udp) or a host name (http, https).
        name: the host name, lower-case, of http and https; else empty.
        port: the public port of tcp and udp, 0 for any free one; else 0.
        source: the only network that is admitted; ``None`` admits all.
        host: the address or name to forward to, without brackets.
        target_port: the port to forward to, 1 to 65535.
        raw: the bytes go through without a second encryption.
        inform: how the service is told who its client is.
        host_header: what the service is told as Host; empty: what the client sent.
        text: as the user wrote it, for messages. Not compared.
    """

    kind: Kind
    name: str
    port: int
    source: IPNetwork | None
    host: str
    target_port: int
    raw: bool = False
    inform: frames.Inform = ""
    host_header: str = ""
    text: str = field(default="", compare=False)

    @property
    def place(self) -> str:
        """What becomes public: ``port 80``, ``UDP port 53``, ``http name app``."""
        if self.kind == "tcp":
            return f"port {self.port}"
        return f"UDP port {self.port}" if self.kind == "udp" else f"{self.kind} name {self.name}"

    def __str__(self) -> str:
        source = "" if self.source is None else f"{network_text(self.source)}:"
        head = self.name or f"{source}{self.port}"
        options = [
            "/udp" if self.kind == "udp" else "",
            ",raw" if self.raw else "",
            f",{self.inform}" if self.inform else "",
            f",{_HOST}{self.host_header}" if self.host_header else "",
        ]
        return f"{head}:{HostPort(self.host, self.target_port)}{''.join(options)}"


def parse_exposures(
    expose: Iterable[str] = (), http: Iterable[str] = (), https: Iterable[str] = ()
) -> tuple[Exposure, ...]:
    """Return what ``--expose``, ``--http`` and ``--https`` ask for (ranges are expanded).

    Args:
        expose, http, https: items and options, as the settings split them at commas.

    Raises:
        RouteError: an item cannot be understood, or two ask for the same.
        SettingError: they are more than a relay takes.
    """
    found: list[Exposure] = []
    for text in attach_options(expose, "--expose"):
        found += parse_exposure(text)
    for kind, texts in (("http", http), ("https", https)):
        for text in attach_options(texts, f"--{kind}"):
            found.append(parse_name(text, cast("NameKind", kind)))
    seen: dict[object, Exposure] = {}
    for each in found:
        if each.kind in ("tcp", "udp") and not each.port:
            continue
        source = None if each.kind == "udp" else each.source
        other = seen.setdefault((each.kind, each.name, each.port, source), each)
        if other is not each:
            raise RouteError(
                f"{each.text!r} and {other.text!r} both ask for {each.place}; leave one out"
            )
    if len(found) > MAX_EXPOSURES:
        raise SettingError(f"{len(found)} exposures; a relay takes {MAX_EXPOSURES} of one key")
    return tuple(found)


def parse_exposure(text: str) -> tuple[Exposure, ...]:
    """Return the exposures of ports that ``text`` (with its options) stands for.

    Raises:
        RouteError: ``text`` is no exposure; the message shows a form that would be right.
    """
    body, options = split_options(text)
    routes = parse_route(body)
    udp = routes[0].protocol == "udp"
    known = (*INFORM, _RAW)
    inform = _options(text, options, known)
    raw = _RAW in options
    if udp and options:
        raise RouteError(f"{text!r}: {options[0]!r} is not for UDP; leave it out")
    check_inform(text, inform, routes[0].host)
    return tuple(
        Exposure(
            "udp" if udp else "tcp",
            "",
            each.listen_port,
            each.source,
            each.host,
            each.port,
            raw,
            inform,
            text=text,
        )
        for each in routes
    )


def parse_name(text: str, kind: NameKind) -> Exposure:
    """Return the exposure of a host name that ``text`` (with its options) stands for.

    Raises:
        RouteError: ``text`` is no such exposure; the message shows a form that would be right.
    """
    body, options = split_options(text)
    header = ""
    rest = []
    for option in options:
        if kind == "http" and option.startswith(_HOST):
            if header:
                raise RouteError(f"{text!r}: host= is given twice; leave one out")
            header = _host_header(text, option.removeprefix(_HOST))
        else:
            rest.append(option)
    known = (_HOST + "NAME",) if kind == "http" else (*INFORM, _RAW)
    inform = _options(text, rest, known)
    form = f"name:port or name:host:port, such as app:8080 (after --{kind})"
    try:
        if ":" not in body:
            raise AddressError(f"no port; write {form}")
        parts = split_parts(body, form)
        if len(parts) not in (2, 3):
            raise AddressError(f"{len(parts)} parts; write {form}")
        name = _name(parts[0])
        host = DEFAULT_HOST if len(parts) == 2 else parse_host(parts[1])
        port = parse_port(parts[-1], lowest=1)
    except AddressError as error:
        raise RouteError(f"{text!r}: {error}") from None
    check_inform(text, inform, host)
    made = Exposure(kind, name, 0, None, host, port, _RAW in rest, inform, text=text)
    return replace(made, host_header=header)


def _options(text: str, options: list[str], known: tuple[str, ...]) -> frames.Inform:
    """Check the options; return the one that says how the service is informed."""
    inform = ""
    for number, option in enumerate(options):
        if option not in known:
            raise RouteError(f"{text!r}: unknown option {option!r}; known are {', '.join(known)}")
        if option in options[:number]:
            raise RouteError(f"{text!r}: option {option!r} is given twice; leave one out")
        if option in INFORM:
            if inform:
                raise RouteError(f"{text!r}: {inform} and {option} exclude each other")
            inform = option
    return cast("frames.Inform", inform)


def _name(text: str) -> str:
    if not text.isascii():
        raise AddressError(f"the name {text!r} is not in ASCII; write it in its xn-- form")
    name = text.lower().removesuffix(".")
    below = name.removeprefix("*.")
    host = parse_host(below)
    if host.replace(".", "").isdecimal() or ":" in host:
        raise AddressError(f"{text!r} is an address; write a host name, or expose a port with -e")
    if host != below or host.endswith("."):
        raise AddressError(f"not a host name: {text!r}; write {host.rstrip('.')}")
    return name


def _host_header(text: str, value: str) -> str:
    host, colon, port = value.partition(":")
    try:
        # As the service gets it, so in one spelling: white space in it would be another's header.
        header = parse_host(host)
        if colon:
            header += f":{parse_port(port, lowest=1)}"
    except AddressError as error:
        raise RouteError(f"{text!r}: host=: {error}") from None
    return header
