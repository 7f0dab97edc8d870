"""Structs of the ABI from and to Python: keyword arguments fill options, facts become attributes.

Everything here goes by the declarations in _abi, so that a new field of the header is an option or a fact at once.
"""
from __future__ import annotations

import ctypes
import operator
import os
import types
from typing import Any, Iterable

from . import _abi, _errors
from ._library import lib

_INTEGERS = (ctypes.c_int32, ctypes.c_int64, ctypes.c_uint64, ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32,
             ctypes.c_size_t)
_REALS = (ctypes.c_double, ctypes.c_float)
_NUMBERS = ctypes.POINTER(ctypes.c_int64)           # a list, with its count in another field

# The constants by kind; and fields whose name is that of another kind.
_ENUMS = {**_abi.ENUMS, "dip": {"single": _abi.USPLIT_DIP_SINGLE, "two": _abi.USPLIT_DIP_TWO}}
_OTHER_KINDS = {("usplit_dip_options", "mode"): "dip", ("usplit_dip_result", "mode"): "dip"}


def _fields(kind: Any) -> dict[str, Any]:
    return dict(kind._fields_)


def _kind_of(struct: ctypes.Structure, name: str) -> str:
    return _OTHER_KINDS.get((type(struct).__name__, name), name)


def _is_hidden(name: str) -> bool:
    return name == "struct_size" or name.startswith("reserved")


class Facts(types.SimpleNamespace):
    """What the library tells, by the names of usplit.h. Constants are text ("hae"), arrays are tuples."""

    def asdict(self) -> dict[str, Any]:
        return dict(vars(self))

    def __str__(self) -> str:
        return "\n".join("%-20s %s" % (name, value) for name, value in vars(self).items())


# ---- Constants by name ------------------------------------------------------------------------------------------

def constant(kind: str, value: Any, name: str | None = None, number: type = ctypes.c_int32) -> int:
    """The number of a constant: constant("family", "hae"). Numbers pass. name: the argument's, where it is not that of
    the constants."""
    name, names = name or kind, _ENUMS[kind]
    accepted = "accepted: " + ", ".join(map(repr, names))
    if isinstance(value, str):
        plain = value.lower().replace("-", "_").replace(" ", "_")
        if plain not in names:
            raise _errors.argument("%s is %s; %s" % (name, _errors.shown(value), accepted))
        return names[plain]
    try:
        return integer(name, operator.index(value), number)
    except TypeError:
        raise TypeError("%s is %s; %s" % (name, _errors.shown(value), accepted)) from None


def name_of(kind: str, value: int) -> Any:
    """The constant's name, or the number when a newer library knows more than these bindings."""
    for name, number in _ENUMS[kind].items():
        if number == value:
            return name
    return value


# ---- Facts -------------------------------------------------------------------------------------------------------

def _plain(name: str, value: Any) -> Any:
    if isinstance(value, ctypes.Array):
        return tuple(item.value.decode(errors="replace") if isinstance(item, ctypes.Array) else item for item in value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return name_of(name, value) if name in _ENUMS else value


def facts(struct: ctypes.Structure, channels: int | None = None) -> Facts:
    """Arrays over channels or levels are cut to as many as there are."""
    out = Facts()
    for name, kind in _fields(type(struct)).items():
        if _is_hidden(name):
            continue
        value = _plain(_kind_of(struct, name), getattr(struct, name))
        if isinstance(value, tuple) and len(value) == _abi.USPLIT_MAX_CHANNELS:
            value = value[:channels if channels is not None else
                          getattr(struct, "channels", getattr(struct, "n_channels", None))]
        elif isinstance(value, tuple) and len(value) == _abi.USPLIT_MAX_LEVELS:
            value = value[:getattr(struct, "levels", None)]     # kl_level of an epoch says by NaN where there is none
        setattr(out, name, value)
    return out


def empty(kind: type) -> Any:
    """A struct that knows its size, and nothing else."""
    return kind(struct_size=ctypes.sizeof(kind))


def ask(function, kind: type, *arguments) -> Any:
    """Calls a function whose last argument is a struct to fill."""
    struct = empty(kind)
    function(*arguments, ctypes.byref(struct))
    return struct


# ---- Options ------------------------------------------------------------------------------------------------------

def options_of(kind: type) -> list[str]:
    """Names that can be given as keyword arguments."""
    fields = _fields(kind)
    counts = {"n_" + name for name, t in fields.items() if t is _NUMBERS}
    return [name for name, t in fields.items() if not _is_hidden(name) and name not in counts and _is_settable(t)]


def _is_settable(kind: Any) -> bool:
    return kind in _INTEGERS + _REALS or kind in (ctypes.c_char_p, _NUMBERS) or issubclass(kind, ctypes.Array)


def integer(name: str, value: Any, kind: type = ctypes.c_int64) -> int:
    """The argument `name` as a number of that type, which ctypes would cut silently."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError("%s is %s; accepted: an integer" % (name, _errors.shown(value))) from None
    if kind(number).value != number:
        signed, bits = kind(-1).value < 0, 8 * ctypes.sizeof(kind)
        low, high = (-2 ** (bits - 1), 2 ** (bits - 1) - 1) if signed else (0, 2 ** bits - 1)
        raise _errors.argument("%s is %s; accepted: %d to %d" % (name, _errors.shown(number), low, high))
    return number


def real(name: str, value: Any) -> float:
    try:
        if not isinstance(value, (str, bytes)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise TypeError("%s is %s; accepted: a number" % (name, _errors.shown(value)))


def reals(name: str, values: Any) -> list[float]:
    return [real("%s[%d]" % (name, i), one) for i, one in enumerate(listed(name, values, "numbers"))]


def text(name: str, value: Any) -> bytes:
    try:
        data = os.fsencode(value)           # str, bytes or a path
    except TypeError:
        raise TypeError("%s is %s; accepted: text or a path" % (name, _errors.shown(value))) from None
    if b"\0" in data:
        raise _errors.argument("%s has a zero byte in it" % name)
    return data


def listed(name: str, values: Any, what: str) -> list[Any]:
    try:
        each = None if isinstance(values, (str, bytes)) else iter(values)
    except TypeError:
        each = None
    if each is None:
        raise TypeError("%s is %s; accepted: a list of %s" % (name, _errors.shown(values), what))
    return list(each)


def _one_or_several(values: Any) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable) or getattr(values, "shape", None) == ():
        return [values]
    return list(values)


def _fill_array(struct: ctypes.Structure, name: str, kind: Any, value: Any) -> None:
    item = kind._type_
    values = _one_or_several(value)
    if len(values) > kind._length_:
        raise _errors.argument("%s has %d values; accepted: up to %d" % (name, len(values), kind._length_))
    array = kind()
    for i, one in enumerate(values):
        if item in _INTEGERS:
            array[i] = integer(name, one, item)
        elif item in _REALS:
            array[i] = real(name, one)
        else:
            if not isinstance(one, str) or "\0" in one:
                raise TypeError("%s has %s in it; accepted: text" % (name, _errors.shown(one)))
            data = one.encode()
            if len(data) >= item._length_:
                raise _errors.argument("%s: %s has %d bytes; accepted: up to %d" % (name, _errors.shown(one), len(data),
                                                                                   item._length_ - 1))
            array[i].value = data
    setattr(struct, name, array)


def _set(struct: ctypes.Structure, name: str, kind: Any, value: Any) -> None:
    if kind in _INTEGERS:
        constants = _kind_of(struct, name)
        setattr(struct, name, constant(constants, value, name, kind) if constants in _ENUMS else
                integer(name, value, kind))
    elif kind in _REALS:
        setattr(struct, name, real(name, value))
    elif kind is ctypes.c_char_p:
        setattr(struct, name, text(name, value))
    elif issubclass(kind, ctypes.Array):
        _fill_array(struct, name, kind, value)
    else:                                   # a list of numbers with its count beside it
        numbers = [integer(name, v) for v in listed(name, value, "integers")]
        # Never a NULL, which would mean "not given".
        array = (ctypes.c_int64 * max(len(numbers), 1))(*numbers)
        setattr(struct, name, ctypes.cast(array, kind))
        setattr(struct, "n_" + name, len(numbers))


def fill(struct: ctypes.Structure, values: dict[str, Any], owner: str) -> ctypes.Structure:
    """Sets fields by name. None means "as it is"."""
    kinds = _fields(type(struct))
    accepted = options_of(type(struct))
    for name, value in values.items():
        if name not in accepted:
            raise TypeError("%s has no option %r; accepted: %s" % (owner, name, ", ".join(accepted)))
        if value is not None:
            _set(struct, name, kinds[name], value)
    return struct


def make(kind: type, values: dict[str, Any], owner: str) -> ctypes.Structure:
    """Options: the library's defaults, then the caller's values."""
    struct = kind()
    getattr(lib, kind.__name__ + "_init")(ctypes.byref(struct), ctypes.sizeof(kind))
    return fill(struct, values, owner)
