"""One visitor's HTTP connection: request after request, each led to the service of its own Host.

A connection is in one of these states, and reads from the visitor in all but ANSWER::

    HEAD -> BODY -> ANSWER -> HEAD ...      a request, its body, what is left of the answer
                           -> TUNNEL        after "101 Switching Protocols": bytes both ways
                           -> LEAVING       what was said last is on its way; the rest is ignored

The answer may begin at any time after the head. At most one read of the visitor's bytes and one of
the service's are held: whoever cannot write stops the other side from being read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from common.addresses import HostPort
from common.errors import HttpError
from common.outcome import Outcome
from relay_server.http import pages
from relay_server.http.answer import Answer
from relay_server.http.connection import Connection
from relay_server.http.exchange import Exchange
from relay_server.http.head import MOST_HEAD, ResponseHead
from relay_server.http.patience import Overdue, overdue
from relay_server.http.question import Question, head_end, told_of
from relay_server.http.states import State
from relay_server.http.target import Target
from relay_server.http.wires import Wire


class HttpVisitor:
    """One connection; it owns its wire.

    Args:
        scheme: how the visitor came.
        sni: the name that TLS was agreed for, if any.
        find: returns the service of a host name (lower-case), if there is one.
        on_over: called once.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wire: Wire,
        address: HostPort,
        entered_at: HostPort,
        scheme: Literal["http", "https"],
        sni: str | None,
        find: Callable[[str], Target | None],
        on_over: Callable[[HttpVisitor], None],
    ) -> None:
        self.address = address
        self.entered_at = entered_at
        self.requests = 0
        self.served = 0
        """Requests that were led to a service."""
        self._loop = loop
        self._connection = Connection(loop, wire, self)
        self._sni = sni
        self._find = find
        self._on_over = on_over
        self._told = told_of(address, entered_at, scheme)
        self._state = State.HEAD
        self._since = loop.time()  # when the state was entered, where it has a time limit
        self._inbox = b""  # read from the visitor and not yet used
        self._blank = False  # whether an empty line has come before the head
        self._question: Question | None = None
        self._answer: Answer | None = None
        self._target: Target | None = None
        self._exchange: Exchange | None = None

    @property
    def sent(self) -> int:
        """Bytes to the visitor."""
        return self._connection.sent

    def start(self) -> None:
        """Begin to read."""
        self._connection.start()

    def sweep(self, now: float) -> None:
        """Look at the time limits; call every second or so."""
        connection = self._connection
        if connection.is_dead():
            self.abort()
            return
        due = overdue(
            self._state,
            now - self._since,
            begun=bool(self._inbox),
            draining=connection.draining,
            unread_s=connection.unread_s(now),
            untaken_s=connection.untaken_s(now),
        )
        if due is Overdue.REFUSE:
            self._refuse(408, "it took too long to come")
        elif due is Overdue.LEAVE:
            self._leave()
        elif due is Overdue.FINISH:
            self._finish()
        elif due is Overdue.ABORT:
            self.abort()

    def stop(self) -> None:
        """Leave as soon as the visitor has its answer: the relay is about to end."""
        if self._state is State.HEAD and not self._inbox:
            self._leave()

    def abort(self) -> None:
        """End at once."""
        self._drop_exchange(clean=False)
        self._finish(abort=True)

    # What the visitor sends

    def on_data(self, data: memoryview) -> None:
        """Take what the visitor has sent."""
        match self._state:
            case State.HEAD | State.ANSWER:
                if not self._inbox:
                    self._since = self._loop.time()
                self._inbox += data
                self._go_on()
            case State.BODY:
                self._pass_body(data)
            case State.TUNNEL:
                self._pass_on(data)

    def on_visitor_end(self, *, reset: bool) -> None:
        """The visitor has half-closed, or has gone."""
        if self._state is State.TUNNEL and not reset and self._exchange is not None:
            self._exchange.half_close()
            if self._exchange is not None and self._exchange.over:  # it had ended before
                self._leave()
        elif self._state is State.ANSWER and not reset:
            pass  # the answer is still wanted
        else:
            abort = reset or self._state is State.BODY
            self._drop_exchange(clean=self._state is State.HEAD and not self._inbox)
            leave = self._connection.draining and not abort  # with what is on its way
            self._leave() if leave else self._finish(abort=abort)

    def _go_on(self) -> None:
        """Take the next request, if its head is there; one after it has a turn of its own."""
        if self._state is State.HEAD and self._inbox:
            if self._connection.draining:  # it asks without reading what it is answered
                self._connection.stop_reading()
                return
            if not self._blank and self._inbox.startswith(b"\r\n"):  # RFC 9112, section 2.2
                self._blank, self._inbox = True, self._inbox[2:]
            try:
                end = head_end(self._inbox)
            except HttpError as error:
                self._refuse(error.status, error.reason)
                return
            if not end:
                return
            head, self._inbox = self._inbox[:end], self._inbox[end:]
            self._take_head(head)
        if self._state is State.ANSWER and len(self._inbox) > MOST_HEAD:
            self._connection.stop_reading()

    def _take_head(self, head: bytes) -> None:
        self.requests += 1
        try:
            question = self._question = Question(head)
        except HttpError as error:
            self._refuse(error.status, error.reason)
            return
        if self._sni is not None and self._sni != question.host:
            self._answer_with(pages.misdirected(question.host))
            return
        target = self._find(question.host)
        if target is None:
            self._answer_with(pages.unknown_host(question.host))
            return
        self.served += 1
        self._answer = Answer(question.head, self._keeps_alive)
        self._state = State.ANSWER if question.body.done else State.BODY
        self._ask(target, question)
        if self._state is State.BODY and self._inbox:
            rest, self._inbox = self._inbox, b""
            self._pass_body(memoryview(rest))

    def _ask(self, target: Target, question: Question) -> None:
        """Send a request's head to its service, on the stream there is or a new one."""
        first = question.for_service(self._told, target.host_header)
        if self._exchange is not None and self._exchange.open and self._target == target:
            question.again = first if question.repeatable else b""
            if not self._exchange.send(first):
                self._connection.stop_reading()
            return
        self._drop_exchange(clean=True)
        self._open(target, first)

    def _open(self, target: Target, first: bytes) -> None:
        self._target = target
        opened = target.open(self.address, self.entered_at, first, self)
        if isinstance(opened, pages.Page):
            self._answer_with(opened)
        elif not opened.over:
            self._exchange = opened
            if self._state is State.BODY and not opened.open:
                self._connection.stop_reading()  # until the head is on its way

    def _pass_body(self, data: memoryview) -> None:
        question = self._question
        assert question is not None  # noqa: S101 - the state says so
        try:
            count = question.body.follow(data)
        except HttpError as error:
            self._refuse(error.status, error.reason)
            return
        self._pass_on(data[:count])
        if question.body.done and self._state is State.BODY:
            self._state = State.ANSWER
            self._inbox += data[count:]
            self._connection.read_on()

    def _pass_on(self, data: memoryview) -> None:
        if data and self._exchange is not None and not self._exchange.send(data):
            self._connection.stop_reading()

    # What the service answers

    def on_writable(self) -> None:
        """Read on: the service takes more."""
        self._connection.read_on()

    def on_answer(self, data: memoryview) -> None:
        """Pass on what the service says."""
        answer = self._answer
        if self._state is State.TUNNEL:
            self._write(data)
            return
        if answer is None or self._state not in (State.BODY, State.ANSWER):
            # Nothing was asked: an answer to nobody's question ends the stream.
            self._drop_exchange(clean=False)
            return
        try:
            pieces = answer.take(data)
        except HttpError as error:
            self._fail(f"it answered what is no HTTP: {error.reason}")
            return
        if answer.switched:
            self._state = State.TUNNEL
        # A head and what follows it go out as one: a call less, and a packet less.
        self._write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._state is State.TUNNEL:
            self._connection.read_on()
            rest, self._inbox = self._inbox, b""
            self._pass_on(memoryview(rest))
        elif answer.done and self._state is not State.OVER:
            self._answered(answer)

    def on_end(self) -> None:
        """The service has said all it had to say."""
        if self._state is State.TUNNEL:
            self._connection.say_goodbye()
            if self._connection.ended:
                self._leave()
        elif self._answer is not None and self._answer.until_end:
            self._drop_exchange(clean=True)
            self._leave()
        elif self._state is State.HEAD:
            self._drop_exchange(clean=True)
        else:
            self._interrupted("it ended the connection before it had answered")

    def on_failure(self, outcome: Outcome, detail: str) -> None:
        """There is no (more) service."""
        self._exchange = None
        if self._state is State.TUNNEL:
            self._finish(abort=True)
        elif self._state in (State.BODY, State.ANSWER):
            if outcome is Outcome.NO_CHANNEL and self._question is not None:
                self._answer_with(pages.offline(self._question.host))
            else:
                self._interrupted(detail.partition(":")[0])  # the rest is not for visitors

    def _keeps_alive(self, head: ResponseHead) -> bool:
        assert self._question is not None  # noqa: S101 - it was answered
        return self._question.keeps_alive(head) and not self._connection.ended

    def _answered(self, answer: Answer) -> None:
        """The answer is complete: go on with the next request, or leave."""
        assert answer.head is not None  # noqa: S101 - it is complete
        if answer.surplus or self._state is State.BODY:
            # More than was asked for, or before all was said: who knows what comes next.
            self._drop_exchange(clean=False)
        elif not answer.head.keep_alive:
            self._drop_exchange(clean=True)
        if self._state is State.ANSWER and answer.kept and not self._connection.ended:
            self._await_request()
            self._go_on()
        else:
            self._leave()

    def _await_request(self) -> None:
        self._state = State.HEAD
        self._question = self._answer = None
        self._blank = False
        self._since = self._loop.time()
        self._connection.read_on()

    def _interrupted(self, detail: str) -> None:
        """The stream has ended before the answer was complete."""
        question, answer, target = self._question, self._answer, self._target
        if question and question.again and answer and not answer.begun and target:
            # The service gave the kept connection up just then: the request is said again, once.
            self._drop_exchange(clean=True)
            first, question.again = question.again, b""
            self._open(target, first)
            return
        self._fail(detail)

    def _fail(self, reason: str) -> None:
        """Say so if nothing of the answer has been said; else break off, visibly."""
        self._drop_exchange(clean=False)
        if self._question is None or (self._answer is not None and self._answer.head is not None):
            self._finish(abort=True)
        else:
            self._answer_with(pages.bad_gateway(self._question.host, reason))

    # Answers of our own

    def _answer_with(self, page: pages.Page) -> None:
        """Answer a request that was understood; another may follow if nothing is left of it."""
        question = self._question
        assert question is not None  # noqa: S101 - it was understood
        self._drop_exchange(clean=False)
        keep_alive = question.keeps_alive() and not self._connection.ended
        self._write(question.answer(page, keep_alive=keep_alive))
        if not keep_alive:
            self._leave()
        elif self._state is not State.OVER:
            self._await_request()
            self._loop.call_soon(self._go_on)  # not from within itself, request after request

    def _refuse(self, status: int, reason: str) -> None:
        """Answer a request that is not passed on; nothing that follows it can be trusted."""
        self._drop_exchange(clean=False)
        if self._answer is not None and self._answer.head is not None:
            self._finish(abort=True)  # in the middle of an answer
        else:
            page = pages.refused(status, reason)
            self._write(pages.render(page, html=True, head_only=False, keep_alive=False))
            self._leave()

    # To the visitor

    def _write(self, data: bytes | memoryview) -> None:
        self._connection.write(data)
        if self._connection.draining and self._exchange is not None:
            self._exchange.pause()

    def on_drained(self) -> None:
        """Let the service say more."""
        if self._state is State.LEAVING and self._connection.ended:
            self._finish()
        elif self._exchange is not None:
            self._exchange.resume()
        if self._state is State.HEAD:
            self._connection.read_on()
            self._go_on()

    def on_lost(self) -> None:
        """The visitor takes nothing any more."""
        self.abort()

    # The end

    def _drop_exchange(self, *, clean: bool) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave(clean=clean)

    def _leave(self) -> None:
        """Say goodbye, and take in what still comes: a RST could take our last words away."""
        if self._state in (State.LEAVING, State.OVER):
            return
        self._drop_exchange(clean=True)
        self._state = State.LEAVING
        self._since = self._loop.time()
        self._connection.say_goodbye()
        if not self._connection.ended:
            self._connection.read_on()
        elif not self._connection.draining:
            self._finish()

    def _finish(self, *, abort: bool = False) -> None:
        if self._state is not State.OVER:
            self._state = State.OVER
            self._connection.close(abort=abort)
            self._on_over(self)
