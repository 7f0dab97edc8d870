"""Finds libusplit.so, loads it, and gives its functions the types of _abi. A function that returns a status raises.

ctypes lets go of the interpreter's lock (the GIL) during every call, so that other threads run.
"""
from __future__ import annotations

import ctypes
import ctypes.util
import os
import pathlib
from typing import Any

from . import _abi, _errors

NAME = "libusplit.so.%d" % _abi.VERSION[0]


def _places() -> list[str]:
    """Where the library is looked for, in this order."""
    named = os.environ.get("USPLIT_LIBRARY")
    if named:
        return [named]
    here = pathlib.Path(__file__).resolve().parent
    places = [here / NAME]
    checkout = here.parents[2]
    if (checkout / "include" / "usplit.h").is_file():
        places.append(checkout / "lib" / NAME)
    found = [str(p) for p in places if p.is_file()]
    system = ctypes.util.find_library("usplit")
    return found + [NAME] + ([system] if system and system != NAME else [])


def _load() -> ctypes.CDLL:
    tried = []
    for place in _places():
        try:
            return ctypes.CDLL(place)
        except OSError as error:
            tried.append("%s: %s" % (place, error))
    raise ImportError("libusplit cannot be loaded. Build it (`make`), install it (`make install`), or let the "
                      "environment variable USPLIT_LIBRARY name the file. Tried:\n  " + "\n  ".join(tried))


def _check(status: _abi.usplit_status, _function, _arguments) -> None:
    if status.value != _abi.USPLIT_OK:
        # The message belongs to this thread, and nothing ran on it since.
        raise _errors.of_status(status.value, lib.usplit_error_message().decode(errors="replace"))


class _Functions:
    """The functions of the header by name, with their types, each looked up when it is first used."""

    def __getattr__(self, name: str) -> Any:
        if name not in _abi.FUNCTIONS:
            raise AttributeError(name)
        function = getattr(_loaded, name, None)
        if function is None:            # the library is older than these bindings
            raise _errors.of_status(_abi.USPLIT_ERR_UNSUPPORTED, "libusplit %s has no %s; these bindings are of %s"
                                    % (version(), name, ".".join(map(str, _abi.VERSION))))
        result, parameters = _abi.FUNCTIONS[name]
        function.argtypes = parameters
        function.restype = result
        if result is _abi.usplit_status:
            function.errcheck = _check
        setattr(self, name, function)
        return function


_loaded = _load()
lib = _Functions()
path = _loaded._name


def version() -> str:
    """The version of the library that is loaded, "0.1.0"."""
    number = lib.usplit_version()
    return "%d.%d.%d" % (number // 10000, number // 100 % 100, number % 100)
