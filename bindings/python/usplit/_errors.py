"""Exceptions: one class per group of status codes, each also the Python class that fits it."""
from __future__ import annotations

from typing import Any

from . import _abi

_NAMES = {value: name for name, value in vars(_abi).items() if name.startswith("USPLIT_ERR_")}


class Error(Exception):
    """What the library refused, or could not do. `status` is its code, `code` the code's name in usplit.h
    ("USPLIT_ERR_BUDGET"), str() its line, which names the offending value and what is accepted."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def code(self) -> str:
        return _NAMES.get(self.status, str(self.status))

    def __str__(self) -> str:
        return self.message

    def __reduce__(self):
        return type(self), (self.status, self.message)


class ArgumentError(Error, ValueError):
    """10 to 19: a value, a size or an option that is not accepted."""


class OutOfMemoryError(Error, MemoryError):
    """20 to 29: an allocation was refused, or the plan needs more than the memory budget."""


class FileError(Error, OSError):
    """30 to 39: a file cannot be read or written, is damaged or foreign, or a callback failed."""


class DeviceError(Error, RuntimeError):
    """40 to 49: the device is not there, or a compute library failed."""


class StateError(Error, RuntimeError):
    """50 to 59: called at the wrong time; closed; in use by another thread."""


class Cancelled(StateError):
    """50: stopped by cancel() or by a progress function that returned False."""


class NumericError(Error, ArithmeticError):
    """60 to 69: the loss or the pixels are not finite."""


class InternalError(Error, RuntimeError):
    """90: a defect of the library: please report it."""


class UnusualInput(UserWarning):
    """A warning: the image that was split is not like those that the model was trained on."""


_GROUPS = {1: ArgumentError, 2: OutOfMemoryError, 3: FileError, 4: DeviceError, 5: StateError, 6: NumericError,
           9: InternalError}


def shown(value: Any) -> str:
    """A value in a message: one line, not too long."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 80 else text[:77] + "..."


def of_status(status: int, message: str) -> Error:
    kind = Cancelled if status == _abi.USPLIT_ERR_CANCELLED else _GROUPS.get(status // 10, Error)
    return kind(status, message)


def argument(message: str) -> ArgumentError:
    """A value that this package refuses before the library sees it."""
    return ArgumentError(_abi.USPLIT_ERR_ARGUMENT, message)


def busy(message: str) -> StateError:
    return StateError(_abi.USPLIT_ERR_BUSY, message)


def wrong_time(message: str) -> StateError:
    return StateError(_abi.USPLIT_ERR_STATE, message)
