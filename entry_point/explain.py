"""Says in plain words what a table of routes does; needs no network.

``explain`` decides, ``render`` prints. A range is one row; so is every other route.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from itertools import groupby
from textwrap import wrap
from typing import TYPE_CHECKING

from common.addresses import HostPort, IPNetwork, parse_ip
from common.errors import AddressError
from common.guarded_addresses import carried_addresses, guarded_kind
from common.routes import Listener, Route, RouteTable

if TYPE_CHECKING:
    from rich.console import Console

PRIVILEGED_BELOW = 1024  # ip(7), ip_unprivileged_port_start

_INDENT = 10  # of the sentences, in columns: two, and the longest label with a blank

# Services that are broken into as soon as anybody can reach them (IANA service name registry).
_TARGETS = {
    21: "FTP",
    22: "SSH",
    23: "Telnet",
    139: "NetBIOS",
    445: "SMB",
    1433: "SQL Server",
    1521: "Oracle",
    2049: "NFS",
    2375: "Docker",
    2379: "etcd",
    3306: "MySQL",
    3389: "RDP",
    5432: "PostgreSQL",
    5900: "VNC",
    6379: "Redis",
    6443: "Kubernetes",
    9200: "Elasticsearch",
    11211: "memcached",
    27017: "MongoDB",
}


@dataclass(frozen=True, slots=True)
class ExplainRow:
    """One route in words.

    Args:
        text: the route as the user wrote it.
        who: who may connect, and where.
        dials: who dials what for them.
        notes: what is worth knowing.
        warnings: what is probably not meant.
    """

    text: str
    who: str
    dials: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def explain(routes: Iterable[Route], *, bind: str | None = None) -> list[ExplainRow]:
    """Return one row for each route (or range of routes), in order.

    Args:
        routes: as :func:`common.routes.parse_route` gives them.
        bind: the address the ports are bound to; ``None`` is all addresses.

    Raises:
        RouteError: two routes cannot be told apart.
    """
    table = RouteTable(routes)
    siblings = {id(route): each for each in table.listeners for route in each.routes}
    return [_row(list(run), siblings, bind) for _, run in groupby(table.routes, key=_written)]


def render(rows: Sequence[ExplainRow], console: Console) -> None:
    """Print ``rows``: a heading for each route and its facts beneath, wrapped to the console."""
    from rich.text import Text

    for number, row in enumerate(rows):
        if number:
            console.print()
        console.print(Text(row.text, style="bold"), soft_wrap=True)
        facts = [("who", row.who, "cyan"), ("dials", row.dials, "cyan")]
        facts += [("note", note, "dim") for note in row.notes]
        facts += [("warning", warning, "yellow") for warning in row.warnings]
        for label, sentence, style in facts:
            # Wrapped here, not by rich: rich fills lines with blanks, also in a file or pipe.
            lines = wrap(sentence, max(console.width - _INDENT, 20), break_on_hyphens=False)
            console.print(
                Text.assemble("  ", (f"{label:8}", style), f"\n{'':{_INDENT}}".join(lines)),
                soft_wrap=True,
            )


def _written(route: Route) -> tuple[str, int]:
    """Return what the routes of one range share: the text; on port 0 each stands alone."""
    return route.text or str(route), 0 if route.listen_port else id(route)


def _row(run: list[Route], siblings: dict[int, Listener], bind: str | None) -> ExplainRow:
    first, last = run[0], run[-1]
    listeners = [siblings[id(route)] for route in run]
    warnings = [
        *_privileged(run),
        *_shadowed(run, listeners),
        *_guarded(first),
        *_exposed(run, bind),
    ]
    verb = "send datagrams" if first.protocol == "udp" else "connect"
    return ExplainRow(
        text=first.text or str(first),
        who=f"{_who(first.source)} may {verb} to {_where(first, last, bind)}",
        dials=f"the reverse-proxy dials {_destination(first, last)}",
        notes=(*_notes(first), *_told(first)),
        warnings=tuple(warnings),
    )


def _who(source: IPNetwork | None) -> str:
    if source is None:
        return "anybody"
    if source.prefixlen == 0:
        return f"anybody with an IPv{source.version} address"
    if source.prefixlen == source.max_prefixlen:
        return f"only {source.network_address}"
    return f"only addresses in {source}"


def _where(first: Route, last: Route, bind: str | None) -> str:
    udp = "UDP " if first.protocol == "udp" else ""
    if first.listen_port == 0:
        port = f"a free {udp}port (shown at start)"
    elif first is last:
        port = f"{udp}port {first.listen_port}"
    else:
        port = f"{udp}ports {first.listen_port} to {last.listen_port}"
    return f"{port} of this machine, {f'address {bind}' if bind else 'on all its addresses'}"


def _destination(first: Route, last: Route) -> str:
    target = str(HostPort(first.host, first.port))
    return target if first is last else f"{target} to {last.port}, port by port"


def _notes(route: Route) -> list[str]:
    try:
        address = parse_ip(route.host)
    except AddressError:
        if route.host.removesuffix(".") == "localhost" or route.host.endswith(".localhost"):
            return [f"{route.host} is the machine the reverse-proxy runs on, not this one"]
        return [f"the name {route.host} is resolved at the reverse-proxy, not here"]
    if address.is_loopback:
        return [f"{route.host} is the machine the reverse-proxy runs on, not this one"]
    return []


def _told(route: Route) -> list[str]:
    """Say how the destination learns who its client is."""
    match route.inform:
        case "proxy-v1" | "proxy-v2":
            version = route.inform.removeprefix("proxy-v")
            return [
                f"a PROXY protocol header (version {version}) goes first: the destination has to"
                " expect it"
            ]
        case "loopback":
            return [
                "the destination sees an address 127.x.y.z for each client; at the reverse-proxy,"
                " reverse-proxy whois tells whose it is"
            ]
    return []


def _privileged(run: list[Route]) -> list[str]:
    low = [route.listen_port for route in run if 0 < route.listen_port < PRIVILEGED_BELOW]
    if not low:
        return []
    return [
        f"port {low[0]} is below {PRIVILEGED_BELOW}: listening there takes root or"
        " CAP_NET_BIND_SERVICE on most systems"
    ]


def _shadowed(run: list[Route], listeners: list[Listener]) -> list[str]:
    """Say which more specific routes take connections away, or all of them."""
    warnings: dict[str, None] = {}
    for route, listener in zip(run, listeners, strict=True):
        takers = [
            other for other in listener.routes if other is not route and _inside(other, route)
        ]
        if _covers([each.source for each in takers if each.source is not None], route.source):
            names = ", ".join(dict.fromkeys(each.text or str(each) for each in takers))
            warnings[f"never used: {names} take every source that it admits"] = None
            continue
        for other in takers:
            warnings[f"not for {other.source}: {other.text or other} is more specific"] = None
    return list(warnings)


def _inside(inner: Route, outer: Route) -> bool:
    if inner.source is None:
        return False
    return outer.source is None or (
        inner.source.version == outer.source.version
        and inner.source.prefixlen > outer.source.prefixlen
        and inner.source.network_address in outer.source
    )


def _covers(networks: list[IPNetwork], whole: IPNetwork | None) -> bool:
    """Tell whether ``networks`` together are all of ``whole`` (``None``: both families)."""
    joined: list[IPNetwork] = [
        *collapse_addresses(each for each in networks if isinstance(each, IPv4Network)),
        *collapse_addresses(each for each in networks if isinstance(each, IPv6Network)),
    ]
    if whole is None:
        return sorted((each.version, each.prefixlen) for each in joined) == [(4, 0), (6, 0)]
    return whole in joined


def _guarded(route: Route) -> list[str]:
    try:
        addresses = carried_addresses(parse_ip(route.host))
    except AddressError:
        return []
    for address in addresses:
        kind = guarded_kind(address)
        if kind is not None:
            return [
                f"{route.host} is {kind}: the reverse-proxy refuses it unless its --allow names"
                f" {address}"
            ]
    return []


def _exposed(run: list[Route], bind: str | None) -> list[str]:
    first = run[0]
    if not _anybody(first.source) or (bind is not None and _is_loopback(bind)):
        return []
    for route in run:
        port = route.port if route.port in _TARGETS else route.listen_port
        if port in _TARGETS:
            written = first.text or str(first)
            closed = f"192.0.2.0/24:{written}" if first.source is None else "a narrower source"
            return [
                f"anybody who can reach this machine can reach {_TARGETS[port]} (port {port});"
                f" to admit one network only, write {closed}"
            ]
    return []


def _anybody(source: IPNetwork | None) -> bool:
    return source is None or source.prefixlen == 0


def _is_loopback(bind: str) -> bool:
    try:
        return parse_ip(bind).is_loopback
    except AddressError:
        return bind == "localhost"
