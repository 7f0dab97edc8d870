"""Context: device, threads, precision, log. Most programs never name one; the default is made when first needed."""
from __future__ import annotations

import ctypes
import logging
import os
import threading
from typing import Any, Callable

from . import _abi, _structs
from ._calls import check_function
from ._handles import Handle, expect
from ._library import lib
from ._structs import Facts

_logger = logging.getLogger("usplit")


def _log_callback(log: bool | Callable[[int, str], Any]) -> Any:
    def to_logger(level: int, line: str) -> None:
        _logger.log(logging.WARNING if level == _abi.USPLIT_LOG_WARNING else logging.INFO, "%s", line)

    write: Any = to_logger if log is True else log

    def run(level: int, line: bytes, _user: Any) -> None:
        try:
            write(level, line.decode(errors="replace"))
        except Exception:                   # a log line is no reason to fail
            _logger.exception("the log function of a usplit context failed")
    return _abi.usplit_log_fn(run)


class Context(Handle):
    """Where the work is done.

    device         "auto" (the best there is), "cpu", "cuda", "cuda:0"
    threads        CPU threads; 0: one per core. Results do not depend on it
    precision      "best", "float32", "float16"
    deterministic  CUDA: only algorithms whose results repeat to the bit
    log            True: to logging.getLogger("usplit"); or a function of (level, line)

    A context may be used by any number of threads. The library's allocator hook is not offered here: it would be
    called from threads that Python does not know.
    """

    _noun = "context"

    def __init__(self, device: str = "auto", *, threads: int = 0, precision: str = "best", deterministic: bool = False,
                 log: bool | Callable[[int, str], Any] | None = None, **options: Any) -> None:
        options.update(device=device, threads=threads, precision=precision, deterministic=deterministic)
        struct = _structs.make(_abi.usplit_context_options, options, "Context")
        if log is not None and log is not False:
            if log is not True:
                check_function(log, "log")
            struct.log = _log_callback(log)
        out = ctypes.POINTER(_abi.usplit_context)()
        lib.usplit_context_create(ctypes.byref(out), ctypes.byref(struct))
        # Models keep the library's context alive, and with it the log callback.
        self._keep = struct
        self._open(out, lib.usplit_context_free, struct)

    @property
    def info(self) -> Facts:
        """device, reason (why that one), engine (compute libraries), threads."""
        return _structs.facts(_structs.ask(lib.usplit_context_info, _abi.usplit_context_facts, self._pointer))


_default: Context | None = None
_default_lock = threading.Lock()


def default_context() -> Context:
    """The context of everything made without one: Context(), made at first use, anew after fork()."""
    global _default
    with _default_lock:
        if _default is None or _default.closed or _default._state.pid != os.getpid():
            _default = Context()
        return _default


def chosen(context: Context | None) -> Context:
    """The argument `context`, or the default one."""
    return default_context() if context is None else expect(context, Context, "context")


def devices() -> list[Facts]:
    """What a context can be made on: name, text, usable, reason, total_bytes, free_bytes. The CPU is the first."""
    count = ctypes.c_int32()
    lib.usplit_device_count(ctypes.byref(count))
    return [_structs.facts(_structs.ask(lib.usplit_device_info, _abi.usplit_device_facts, i))
            for i in range(count.value)]
