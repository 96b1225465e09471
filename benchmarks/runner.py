"""The run: start the systems, measure them in interleaved rounds, end them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.processes import Process, UnavailableError, find_program, free_ports
from benchmarks.results import Results
from benchmarks.systems import SYSTEMS
from benchmarks.systems.base import ROOT, Place, System, python_module
from benchmarks.systems.suite import Suite, make_keys
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.base import RunError
from benchmarks.workloads.memory import crowded, idle

_NGINX = """\
daemon off; worker_processes 1; pid {room}/nginx.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {room}/a; proxy_temp_path {room}/b; fastcgi_temp_path {room}/c;
  uwsgi_temp_path {room}/d; scgi_temp_path {room}/e;
  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 hello; }} }}
}}
"""


@dataclass(frozen=True)
class Plan:
    """What to run.

    Args:
        systems: names out of ``SYSTEMS``.
        workloads: names out of ``WORKLOADS``.
        trees: other checkouts of this suite, each measured as a system of its own.
        rounds: times that every workload runs on every system.
        seconds: how long one run takes.
        memory: whether memory is measured, which takes half a minute for each tree.
    """

    systems: Sequence[str]
    workloads: Sequence[str]
    trees: Sequence[tuple[str, Path]]
    rounds: int
    seconds: float
    memory: bool


def run(plan: Plan, console: Console) -> Results:
    """Measure what the plan says. Ctrl-C ends it early; what was measured is returned."""
    results = Results()
    with ExitStack() as stack, _progress(console) as progress:
        place = _place(stack)
        systems = _start(plan, place, results, stack)
        jobs = sum(len(system.workloads & {*plan.workloads}) for system in systems)
        steps = plan.rounds * jobs
        task = progress.add_task("memory", total=steps)
        try:
            if plan.memory:
                _measure_memory(systems, results)
            for number in range(plan.rounds):
                # Each round begins with another system, so that none always follows the same one.
                turn = number % len(systems)
                for name in plan.workloads:
                    for system in [*systems[turn:], *systems[:turn]]:
                        if name not in system.workloads:
                            continue
                        what = f"round {number + 1}: {name}, {system.title}"
                        progress.update(task, description=what)
                        try:
                            figures = WORKLOADS[name](system, plan.seconds)
                        except RunError as error:
                            results.skipped.append(str(error))
                        else:
                            results.add(system.name, number, figures)
                        progress.advance(task)
        except KeyboardInterrupt:
            results.skipped.append("the rest: interrupted")
    return results


def _start(plan: Plan, place: Place, results: Results, stack: ExitStack) -> list[System]:
    """Start the systems; they end with the stack."""
    systems = [SYSTEMS[name](place) for name in plan.systems]
    systems += [Suite(place, tree=tree, label=label) for label, tree in plan.trees]
    running = []
    for system in systems:
        stack.callback(system.close)
        try:
            system.start()
        except UnavailableError as error:
            results.skipped.append(f"{system.name}: {error}")
            continue
        running.append(system)
        results.titles[system.name] = system.title
        results.security[system.name] = system.security
    return running


def _measure_memory(systems: Sequence[System], results: Results) -> None:
    for system in systems:
        results.add(system.name, 0, idle(system))
    for system in systems:
        if isinstance(system, Suite):
            try:
                results.add(system.name, 0, crowded(system))
            except UnavailableError as error:
                results.skipped.append(str(error))


def _place(stack: ExitStack) -> Place:
    """Make keys and start the destination; both go with the stack."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
    command = python_module("benchmarks.load.destination")
    destination = Process("destination", command, directory, {"PYTHONPATH": str(ROOT)})
    stack.callback(destination.close)
    host, _, port = destination.wait_ready().rpartition(":")
    place = Place(directory, (host, int(port)), _web(directory, stack))
    make_keys(place)
    return place


def _web(directory: Path, stack: ExitStack) -> tuple[str, int] | None:
    """Start an HTTP server, if there is one."""
    room = directory / "web"
    room.mkdir()
    try:
        program = find_program("nginx")
        (port,) = free_ports(1)
        config = room / "nginx.conf"
        config.write_text(_NGINX.format(room=room, port=port))
        server = Process("nginx", [program, "-c", config, "-p", room], room)
        stack.callback(server.close)
        server.wait_listening(port)
    except UnavailableError:
        return None
    return "127.0.0.1", port


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield progress
