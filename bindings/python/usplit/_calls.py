"""Long calls: exceptions of callbacks, and signals such as Ctrl-C, on their way through C.

An exception cannot pass through C. One that a callback raises is kept, the callback tells the library to stop, and it
is raised when the library has returned. Python runs signal handlers between bytecodes of the main thread, which during
a long call means: at the first bytecode of a callback, outside any `try` of ours. So for the time of the call every
Python handler is wrapped: what it raises there is kept too, and the library is cancelled. Within the caller's own
function it is raised as ever, so that Ctrl-C gets out of a read that blocks.
"""
from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any, Callable, Iterator

from ._errors import Error


def check_function(value: Any, name: str) -> None:
    if not callable(value):
        raise TypeError("%s is a %s; accepted: a function" % (name, type(value).__name__))


class Call:
    """One long call. `cancel` is called, without arguments, when a signal handler raised."""

    def __init__(self, cancel: Callable[[], Any] | None = None) -> None:
        self.error: BaseException | None = None
        self._cancel = cancel
        self._inside = False            # in the caller's function, where exceptions are caught

    def keep(self, error: BaseException) -> int:
        """Keeps the first exception, and is what a callback returns to stop the library."""
        if self.error is None:
            self.error = error
        return 1

    def callback(self, kind: type, function: Callable[..., Any]) -> Any:
        """A C callback of that type. `function` returns None to go on, or a number."""
        def run(*arguments):
            if self.error is not None:
                return 1
            try:
                try:
                    self._inside = True
                    answer = function(*arguments) or 0
                    self._inside = False
                    return answer
                except BaseException as error:
                    self._inside = False
                    return self.keep(error)
            except BaseException as error:      # of a handler, between two lines above
                return self.keep(error)
        return kind(run)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        wrapped: dict[int, Any] = {}

        def handle(number, frame):
            try:
                wrapped[number](number, frame)
            except BaseException as error:
                if self._inside:
                    raise
                self.keep(error)
                if self._cancel is not None:
                    self._cancel()

        if threading.current_thread() is not threading.main_thread():
            yield                       # signals are handled in the main thread only
            return
        try:
            for which in signal.valid_signals():
                handler = signal.getsignal(which)
                if callable(handler):
                    wrapped[int(which)] = handler
                    signal.signal(which, handle)
            yield
        finally:
            restored = False
            while not restored:
                try:
                    for number, handler in wrapped.items():
                        signal.signal(number, handler)
                    restored = True
                except BaseException as error:      # of a handler that is back already
                    self.keep(error)

    def run(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            with self._signals():
                function(*arguments)
        except Error:
            if self.error is None:
                raise
        if self.error is not None:      # even if the library was through already
            error, self.error = self.error, None
            try:
                raise error from None
            finally:
                del error               # no cycle through the traceback
