"""What context, dataset, model, trainer and tiler share: a handle that is freed once, whenever and in any order.

The library keeps what a handle was made from alive, so the order of freeing does not matter. Handles do not survive
fork(): a child process may neither use nor free them, which is looked after here.
"""
from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Any, Iterator

from . import _errors


class _State:
    """What the finaliser shares with the handle."""

    def __init__(self, pointer: Any) -> None:
        self.pointer = pointer
        self.pid = os.getpid()
        self.running = False


def _free(free, state: _State, _keep) -> None:
    # A daemon thread that still runs when the interpreter ends keeps its handle.
    if state.pid == os.getpid() and not state.running:
        free(state.pointer)


def expect(value: Any, kind: type, name: str) -> Any:
    """The argument `name`, which must be a handle of that kind."""
    if not isinstance(value, kind):
        raise TypeError("%s is a %s; accepted: a usplit.%s" % (name, type(value).__name__, kind.__name__))
    return value


class Handle:
    _noun = "handle"

    def _open(self, pointer: Any, free: Any, keep: Any = None) -> None:
        """`keep` lives until the handle is freed: callbacks that the library may still call."""
        self._state = _State(pointer)
        if not hasattr(self, "_lock"):
            # Held during short calls; long ones set `running`. A signal handler may come back to the same thread.
            self._lock = threading.RLock()
        self._finalizer = weakref.finalize(self, _free, free, self._state, keep)

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    @property
    def _pointer(self) -> Any:
        if self._state.pid != os.getpid():
            raise _errors.wrong_time("the %s was made before fork(), which it does not survive: make it in the child, "
                                     "or start processes by 'spawn'" % self._noun)
        if self.closed:
            raise _errors.wrong_time("the %s is closed" % self._noun)
        return self._state.pointer

    @contextlib.contextmanager
    def _short(self) -> Iterator[Any]:
        """The pointer, for a call that returns at once."""
        with self._lock:
            self._refuse_if_running()
            yield self._pointer

    @contextlib.contextmanager
    def _long(self) -> Iterator[Any]:
        """The pointer, for a call with callbacks: other threads, and the callbacks, are refused meanwhile."""
        entered = False
        try:                                # an interrupt may come between any two lines
            with self._lock:
                self._refuse_if_running()
                pointer = self._pointer
                entered = self._state.running = True
            yield pointer
        finally:
            if entered:
                self._state.running = False

    def _refuse_if_running(self) -> None:
        if self._state.running:
            raise _errors.busy("the %s is running, in another thread or in the call that this callback belongs to"
                               % self._noun)

    def close(self) -> None:
        """Frees the handle now rather than when Python collects it."""
        with self._lock:
            self._refuse_if_running()
            self._finalizer()

    def __enter__(self):
        return self

    def __exit__(self, *_error) -> None:
        self.close()

    def __reduce__(self):
        raise TypeError("a usplit %s cannot be pickled: hand the path of its file to the other process" % self._noun)

    def __copy__(self):
        raise TypeError("a usplit %s cannot be copied" % self._noun)

    __deepcopy__ = __copy__
