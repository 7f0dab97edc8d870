"""NumPy arrays as views of the library: pointer, sizes and strides, without a copy. And axes by their letters.

T and Z are frames, C channels, Y rows, X columns; an array may have them in any order. Results are in the order
frames, C, Y, X.
"""
from __future__ import annotations

import ctypes
from typing import Any, Sequence

import numpy as np

from . import _abi, _errors
from ._library import lib

_TYPES = {np.dtype(np.uint8): _abi.USPLIT_TYPE_U8, np.dtype(np.uint16): _abi.USPLIT_TYPE_U16,
          np.dtype(np.float32): _abi.USPLIT_TYPE_F32}
_DEFAULT_AXES = {2: "YX", 3: "TYX"}


def shape_error(line: str) -> _errors.ArgumentError:
    return _errors.ArgumentError(_abi.USPLIT_ERR_SHAPE, line)


class Axes:
    """Which axis of an array is what."""

    def __init__(self, shape: Sequence[int], axes: str | None, name: str = "image",
                 default: dict[int, str] = _DEFAULT_AXES) -> None:
        n = len(shape)
        if axes is None and n not in default:
            raise shape_error("%s has %d axes: say which, axes=\"TCYX\" for example" % (name, n))
        if axes is not None and not isinstance(axes, str):
            raise TypeError("%s: axes is %s; accepted: a letter for each axis, \"TYX\" for example"
                            % (name, _errors.shown(axes)))
        letters = (default[n] if axes is None else axes).upper()
        if len(letters) != n:
            raise shape_error("%s has %d axes, %s, and axes is %r: one letter for each" % (name, n, tuple(shape), axes))
        if set(letters) - set("TZCYX") or len(set(letters)) != n or not {"Y", "X"} <= set(letters):
            raise shape_error("%s: axes is %r; accepted: Y and X, and any of T, Z, C, each once" % (name, axes))
        if 0 in shape:
            raise shape_error("%s is %s; accepted: 1 or more along each axis" % (name, tuple(shape)))
        self.letters = letters
        self.shape = tuple(int(s) for s in shape)
        self.y, self.x, self.c = letters.index("Y"), letters.index("X"), letters.find("C")
        self.frames = [i for i, letter in enumerate(letters) if letter in "TZ"]

    @property
    def frame_letters(self) -> str:
        return "".join(self.letters[i] for i in self.frames)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[i] for i in self.frames)

    @property
    def size(self) -> tuple[int, int]:
        return self.shape[self.y], self.shape[self.x]

    @property
    def channels(self) -> int:
        return self.shape[self.c] if self.c >= 0 else 1

    def index(self, frame: Sequence[int], rows: slice) -> tuple[Any, ...]:
        """The index of some rows of one frame's only channel."""
        at: list[Any] = [0] * len(self.letters)
        for i, number in zip(self.frames, frame):
            at[i] = number
        at[self.y], at[self.x] = rows, slice(None)
        return tuple(at)

    def plane(self, array: np.ndarray, frame: Sequence[int]) -> np.ndarray:
        """One frame's only channel, rows x columns; a view."""
        plane = array[self.index(frame, slice(None))]
        return plane if self.y < self.x else plane.T


def check_array(array: Any, name: str) -> np.ndarray:
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError("%s is a %s; accepted: a numpy array (without a mask)" % (name, type(array).__name__))
    if array.dtype not in _TYPES:
        raise TypeError("%s has dtype %s; accepted: uint8, uint16, float32 (array.astype(numpy.float32) makes one)"
                        % (name, array.dtype))
    return array


def view(array: np.ndarray, axes: Axes, name: str, writable: bool = False) -> tuple[_abi.usplit_image, np.ndarray]:
    """The library's view, and the array it looks into, which must be kept meanwhile. That is the caller's own array
    but for one case: two frame axes that no single stride walks over are copied."""
    check_array(array, name)
    if writable and not array.flags.writeable:
        raise _errors.argument("%s is read-only" % name)
    stride = 0
    if len(axes.frames) == 2:
        outer, inner = axes.frames
        if min(array.shape[outer], array.shape[inner]) > 1 and \
                array.strides[outer] != array.strides[inner] * array.shape[inner]:
            if writable:
                raise _errors.argument("%s: its %s axes do not follow each other in memory"
                                       % (name, axes.frame_letters))
            order = sorted(range(array.ndim), key=lambda axis: axis not in axes.frames)     # frames first
            array = np.ascontiguousarray(array.transpose(order))
            return view(array, Axes(array.shape, "".join(axes.letters[i] for i in order)), name)
        stride = array.strides[inner if array.shape[inner] > 1 else outer]
    elif axes.frames:
        stride = array.strides[axes.frames[0]]
    image = _abi.usplit_image()
    height, width = axes.size
    frames = int(np.prod(axes.frame_shape, dtype=np.int64))
    lib.usplit_image_init(ctypes.byref(image), ctypes.sizeof(image), array.ctypes.data, _TYPES[array.dtype],
                          frames, height, width, axes.channels)
    image.stride_frame = stride
    image.stride_row, image.stride_column = array.strides[axes.y], array.strides[axes.x]
    image.stride_channel = array.strides[axes.c] if axes.c >= 0 else 0
    return image, array


def out_dtype(dtype: Any, source: Any) -> np.dtype:
    """`dtype` of a result: a type of the library's, or "same" for that of the source."""
    wanted = source if isinstance(dtype, str) and dtype == "same" else dtype
    try:
        if wanted is not None and np.dtype(wanted) in _TYPES:
            return np.dtype(wanted)
    except Exception:                   # numpy raises what it likes for what is no type
        pass
    raise TypeError("dtype is %s; accepted: float32, uint8, uint16, or 'same' with an image of such a type"
                    % (wanted if isinstance(wanted, np.dtype) else _errors.shown(wanted)))


def numbers(values: Any, name: str) -> np.ndarray:
    """Real numbers of any type, as an array."""
    array = np.asarray(values)
    if isinstance(values, np.ma.MaskedArray) or array.dtype.kind not in "buif":
        raise TypeError("%s has %s; accepted: real numbers, without a mask" % (
            name, "a mask" if isinstance(values, np.ma.MaskedArray) else "dtype %s" % array.dtype))
    return array


def pixels(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """What a caller's function returned for some pixels."""
    array = np.asarray(values)
    if array.shape != shape:
        raise shape_error("%s returned %s pixels; accepted: %s" % (name, " x ".join(map(str, array.shape)),
                                                                   " x ".join(map(str, shape))))
    return numbers(values, name)


def asked(target: Any) -> bool:
    """True, or an array to write to; not False or None."""
    return bool(target) if isinstance(target, (bool, np.bool_)) else target is not None


def takes_slices(target: Any) -> bool:
    return hasattr(target, "shape") and hasattr(target, "__setitem__")


def check_target(target: Any, shape: tuple[int, ...], name: str, axes: str) -> Any:
    """A caller's array, or what takes slices like one, for results of that shape."""
    if not takes_slices(target) or isinstance(target, np.ma.MaskedArray):
        raise TypeError("%s is a %s; accepted: an array, or anything that takes slices, of shape %s, axes %s"
                        % (name, type(target).__name__, shape, axes))
    if tuple(target.shape) != shape:
        raise shape_error("%s is %s; accepted: %s, axes %s" % (name, tuple(target.shape), shape, axes))
    if isinstance(target, np.ndarray) and not target.flags.writeable:
        raise _errors.argument("%s is read-only" % name)
    return target


def check_float_target(target: Any, shape: tuple[int, ...], name: str, axes: str) -> Any:
    """The same for numbers that may be negative or small, which no integers hold."""
    check_target(target, shape, name, axes)
    if isinstance(target, np.ndarray) and target.dtype.kind != "f":
        raise TypeError("%s has dtype %s; accepted: float32, or other floating-point numbers" % (name, target.dtype))
    return target


def cast(planes: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """float32 as the library rounds it: to nearest (ties to even), cut to the type's range; and how many were cut."""
    if dtype.kind != "u":
        return planes.astype(dtype, copy=False), 0
    top = np.iinfo(dtype).max
    cut = int(np.count_nonzero(~((planes >= -0.5) & (planes < top + 0.5))))
    return np.clip(np.rint(np.nan_to_num(planes, nan=0.0)), 0, top).astype(dtype), cut
