"""Routes: who may connect where, and where it leads.

::

    [source ":"] listen ":" [host ":"] port ["/tcp" | "/udp"] ["," option]

* ``source``: an address or CIDR; only from there. Left out: from anywhere.
* ``listen``: the port to listen on, 0 for any free one; or a range, ``5001-5010``.
* ``host``: the address or name to forward to; left out: ``127.0.0.1``, at the far end.
* ``port``: the port to forward to; a range as long as ``listen`` if that is one.

An option says how the destination is told who its client is: ``proxy-v1`` or ``proxy-v2`` (a PROXY
protocol header), or ``loopback`` (an address 127.x.y.z that stands for the client). In a list it
follows its route: an item has a colon, an option has none.

IPv6 stands in brackets, a CIDR too: ``[2001:db8::/32]``. White space around parts is ignored.
Three parts could mean two things; the first part decides: digits (or a range) are a port, so
``5001:a:b`` is listen, host, port; anything else is a source, so ``a:5001:b`` is source, listen,
port. An address is never all digits and a name is never a source, so nothing is left to guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_address
from typing import Final, cast

from common import frames
from common.addresses import HostPort, IPNetwork, parse_host, parse_network, parse_port
from common.errors import AddressError, RouteError

DEFAULT_HOST = "127.0.0.1"

INFORM: Final = ("proxy-v1", "proxy-v2", "loopback")
"""The options that say how a destination is told who its client is."""

_LOOPBACK: Final = IPv4Network("127.0.0.0/8")
_FORMS = "port:port, source:port:port, port:host:port or source:port:host:port"
_PORTS = re.compile(r"[0-9]+(\s*-\s*[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Route:
    """One route; ``str()`` is its shortest form, which parses to an equal route.

    Args:
        source: the network it admits; ``None`` admits anybody.
        listen_port: 0 (any free port) to 65535.
        host: the address or name to forward to, without brackets.
        port: the port to forward to, 1 to 65535.
        protocol: ``"tcp"`` or ``"udp"``.
        inform: how the destination is told who its client is.
        text: as the user wrote it, for messages; the routes of one range share it. Not compared.
    """

    source: IPNetwork | None
    listen_port: int
    host: str
    port: int
    protocol: str = "tcp"
    inform: frames.Inform = ""
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        source = "" if self.source is None else f"{network_text(self.source)}:"
        suffix = "" if self.protocol == "tcp" else f"/{self.protocol}"
        option = f",{self.inform}" if self.inform else ""
        return f"{source}{self.listen_port}:{HostPort(self.host, self.port)}{suffix}{option}"


def network_text(network: IPNetwork) -> str:
    """Return ``network`` as a route's source is written: one address plain, IPv6 in brackets."""
    one = network.prefixlen == network.max_prefixlen
    text = str(network.network_address if one else network)
    return f"[{text}]" if network.version == 6 else text


def parse_route(text: str) -> tuple[Route, ...]:
    """Return the routes that ``text`` stands for: one, or one for each port of a range.

    Args:
        text: see the grammar at the top of this module.

    Raises:
        RouteError: ``text`` is no route; the message shows a form that would be right.
    """
    whole = text.strip()
    plain, options = split_options(whole)
    body, slash, protocol = _split_protocol(plain)
    if slash and protocol not in ("tcp", "udp"):
        raise RouteError(f"{whole!r}: unknown protocol {protocol!r}; write {body} or {body}/udp")
    inform = _inform(whole, options, protocol)
    try:
        source_text, listen_text, host_text, port_text = _assign(split_parts(body, _FORMS))
        source = None if source_text is None else parse_network(source_text)
        listen = _parse_ports(listen_text, lowest=0)
        host = DEFAULT_HOST if host_text is None else _parse_destination(host_text)
        ports = _parse_ports(port_text, lowest=1)
    except AddressError as error:
        raise RouteError(f"{whole!r}: {error}") from None
    if len(listen) != len(ports):
        low = ports.start
        last = low + len(listen) - 1
        right = f"{low}-{last}" if last > low else f"{low}"
        raise RouteError(
            f"{whole!r}: {_count(listen)} to listen on, {_count(ports)} to forward to;"
            f" write {listen_text}:{right}"
        )
    check_inform(whole, inform, host)
    return tuple(
        Route(source, ours, host, theirs, protocol or "tcp", inform, whole)
        for ours, theirs in zip(listen, ports, strict=True)
    )


def attach_options(items: Iterable[str], where: str) -> list[str]:
    """Put the options of a list that was split at commas back to the items they follow.

    Args:
        items: items, which have a colon, and options, which have none (``host=…`` aside).
        where: the flag, for messages.

    Raises:
        RouteError: an option has no item before it.
    """
    joined: list[str] = []
    for item in items:
        first, *_ = item.split(",")
        if ":" in first and not first.startswith("host="):
            joined.append(item)
        elif joined:
            joined[-1] += f",{item}"
        elif item in INFORM or item == "raw" or item.startswith("host="):
            raise RouteError(f"{where}: option {item!r} follows nothing; write it after an item")
        else:
            joined.append(item)  # malformed: its parser says what would be right
    return joined


def split_options(text: str) -> tuple[str, list[str]]:
    """Cut the options off an item: ``"80:80,raw"`` is ``"80:80"`` and ``["raw"]``."""
    body, *options = (part.strip() for part in text.split(","))
    return body, options


def check_inform(text: str, inform: frames.Inform, host: str) -> None:
    """Check that a destination can be told of its client as ``inform`` says.

    Raises:
        RouteError: it cannot: addresses of 127.0.0.0/8 reach only destinations there.
    """
    if inform != "loopback":
        return
    try:
        address = ip_address(host)
    except ValueError:
        return  # a name: its address is checked when it is dialled
    if address not in _LOOPBACK:
        raise RouteError(
            f"{text!r}: loopback works for destinations in {_LOOPBACK} only, and {host} is not;"
            " use proxy-v1 or proxy-v2"
        )


def _inform(whole: str, options: list[str], protocol: str) -> frames.Inform:
    if not options:
        return ""
    for option in options:
        if option not in INFORM:
            raise RouteError(f"{whole!r}: unknown option {option!r}; known are {', '.join(INFORM)}")
    if protocol == "udp":
        raise RouteError(f"{whole!r}: {options[0]!r} is not for UDP; leave it out")
    if len(options) > 1:
        raise RouteError(f"{whole!r}: one option at a time, not {' and '.join(options)}")
    return cast("frames.Inform", options[0])


def _split_protocol(whole: str) -> tuple[str, str, str]:
    """Cut ``/tcp`` off; a slash before the last colon belongs to a CIDR."""
    head, colon, tail = whole.rpartition(":")
    port, slash, protocol = tail.partition("/")
    if not colon or "]" in tail:
        return whole, "", ""
    return f"{head}:{port}".rstrip(), slash, protocol.strip().lower()


def split_parts(body: str, forms: str) -> list[str]:
    """Split at colons that are outside brackets.

    Args:
        forms: what would be right, for messages.

    Raises:
        AddressError: brackets do not pair up, or there are not two to four parts.
    """
    parts, inside = [""], False
    for character in body:
        if character in "[]":
            if inside == (character == "["):
                raise AddressError(f"brackets that do not pair up; write {forms}")
            inside = not inside
        if character == ":" and not inside:
            parts.append("")
        else:
            parts[-1] += character
    if inside:
        raise AddressError(f"brackets that do not pair up; write {forms}")
    parts = [part.strip() for part in parts]
    if len(parts) > 4:
        raise AddressError(
            f"{len(parts)} parts, a route has two to four; write {forms}, with IPv6 in brackets:"
            " [2001:db8::7]:5001:[::1]:5001"
        )
    if len(parts) < 2:
        listen = body if _PORTS.fullmatch(body) else "5001"
        raise AddressError(f"not a route; write {forms}, such as {listen}:{listen}")
    if "" in parts:
        raise AddressError(f"part {parts.index('') + 1} is empty; write {forms}")
    return parts


def _assign(parts: list[str]) -> tuple[str | None, str, str | None, str]:
    """Say which part is the source, the listening port, the host and the port."""
    match parts:
        case [listen, port]:
            return None, listen, None, port
        case [first, second, port] if _PORTS.fullmatch(first):
            if _PORTS.fullmatch(second):
                raise AddressError(
                    f"three ports; leave one out, as in {first}:{port}, or name a host, as in"
                    f" {first}:127.0.0.1:{port}"
                )
            return None, first, second, port
        case [source, listen, port]:
            return _source(source), listen, None, port
        case _:
            source, listen, host, port = parts
            return _source(source), listen, host, port


def _source(text: str) -> str:
    """Return ``text`` if it can be a source at all.

    Raises:
        AddressError: it is a host name: looking sources up would let DNS decide who may connect.
    """
    try:
        parse_network(text)
    except AddressError as error:
        try:
            parse_host(text)
        except AddressError:
            raise error from None
        raise AddressError(
            f"the source {text!r} is a host name; write an address or network, such as 192.0.2.7"
            " or 10.0.0.0/8"
        ) from None
    return text


def _parse_destination(text: str) -> str:
    if "/" in text:
        raise AddressError(
            f"the destination {text!r} is a network; write one address or a host name"
        )
    return parse_host(text)


def _parse_ports(text: str, *, lowest: int) -> range:
    """Return the ports of ``5001`` or ``5001-5010``; a range holds no port 0."""
    first, dash, last = text.partition("-")
    if not dash:
        port = parse_port(first, lowest=lowest)
        return range(port, port + 1)
    if not _PORTS.fullmatch(text):
        raise AddressError(f"not a range of ports: {text!r}; write one such as 5001-5010")
    low, high = parse_port(first), parse_port(last)
    if low > high:
        raise AddressError(f"the range {text!r} runs backwards; write {high}-{low}")
    return range(low, high + 1)


def _count(ports: range) -> str:
    return f"{len(ports)} port" if len(ports) == 1 else f"{len(ports)} ports"
