"""Figures about predictions: against a target, and those that need none (the residual, seams)."""
from __future__ import annotations

import ctypes
import math
from typing import Any, Sequence

import numpy as np

from . import _abi, _arrays, _structs
from ._handles import Handle
from ._library import lib
from ._structs import Facts


def _view(array: Any, axes: str, name: str, writable: bool = False) -> tuple[_abi.usplit_image, np.ndarray]:
    _arrays.check_array(array, name)
    return _arrays.view(array, _arrays.Axes(array.shape, axes, name), name, writable)


def compare(target: np.ndarray, prediction: np.ndarray, axes: str = "YX") -> Facts:
    """ri_psnr (range-invariant PSNR, dB), psnr, ssim, rmse of one plane against another."""
    (a, _kept_a), (b, _kept_b) = _view(target, axes, "target"), _view(prediction, axes, "prediction")
    return _structs.facts(_structs.ask(lib.usplit_image_compare, _abi.usplit_image_quality, ctypes.byref(a),
                                       ctypes.byref(b)))


def compare_pair(target: np.ndarray, prediction: np.ndarray, axes: str = "CYX") -> Facts:
    """The same for two channels whose order is not known, as dip() gives them: of the two assignments the one with the
    larger sum of ri_psnr counts. Figures are pairs, in the order of the target; swapped: 1 if the prediction's second
    channel belongs to the target's first."""
    (a, _kept_a), (b, _kept_b) = _view(target, axes, "target"), _view(prediction, axes, "prediction")
    return _structs.facts(_structs.ask(lib.usplit_image_compare_pair, _abi.usplit_image_pair_quality, ctypes.byref(a),
                                       ctypes.byref(b)))


def seams(plane: np.ndarray, tile: int, row: int = 0, column: int = 0, axes: str = "YX") -> Facts:
    """Are the borders of tiles visible in a predicted plane? ratio: steps across borders over steps inside the tiles
    (1: no seam can be seen), ratio_error; the same of rows and of columns. tile: the side of a tile, `inner` of
    Tiler.plan(); row, column: where some tile begins, if the plane is a crop."""
    view, _kept = _view(plane, axes, "plane")
    where = [_structs.integer(name, n) for name, n in (("tile", tile), ("row", row), ("column", column))]
    return _structs.facts(_structs.ask(lib.usplit_image_seams, _abi.usplit_image_seam_facts, ctypes.byref(view),
                                       *where))


def _weights(weights: Sequence[float] | None, channels: int) -> Any:
    if weights is None:
        return None
    values = _structs.reals("weights", weights)
    if len(values) != channels:
        raise _arrays.shape_error("weights has %d numbers; accepted: %d, one per channel" % (len(values), channels))
    return (ctypes.c_double * channels)(*values)


def residual(image: np.ndarray, channels: np.ndarray, axes: str = "YX", channel_axes: str = "CYX", *,
             weights: Sequence[float] | None = None, clip_value: float = math.inf,
             out: np.ndarray | None = None) -> Facts:
    """What a prediction leaves of its input: min(image, clip_value) - the sum of weight * channel. Shares of the
    image's range: score (of a typical pixel), tail (of the pixels explained worst), offset, noise; and structure, from
    0 (the residual is noise) to 1 (it has shapes in it).

    weights     one number per channel, `model.info.mixture_weight`; left out: their mean
    clip_value  where the tiler clipped the image, `result.info.clip_value`
    out         a float32 array that takes the residual
    """
    source, _kept_source = _view(image, axes, "image")
    planes, _kept_planes = _view(channels, channel_axes, "channels")
    target = None
    if out is not None:
        target = _view(out, axes, "out", writable=True)[0]
        _arrays.check_float_target(out, out.shape, "out", axes)
    return _structs.facts(_structs.ask(lib.usplit_image_residual, _abi.usplit_residual_facts, ctypes.byref(source),
                                       ctypes.byref(planes), _weights(weights, planes.channels),
                                       _structs.real("clip_value", clip_value),
                                       None if target is None else ctypes.byref(target)))


class Residual(Handle):
    """The same for an image of any height, rows at a time and in order: about 1.5 MB whatever the image, and the same
    figures however many rows come together."""

    _noun = "residual"

    def __init__(self, width: int, channels: int, *, weights: Sequence[float] | None = None,
                 clip_value: float = math.inf) -> None:
        self._width = _structs.integer("width", width)
        self._channels = _structs.integer("channels", channels, ctypes.c_int32)
        out = ctypes.POINTER(_abi.usplit_residual)()
        lib.usplit_residual_create(ctypes.byref(out), self._width, self._channels,
                                   _weights(weights, self._channels), _structs.real("clip_value", clip_value))
        self._open(out, lib.usplit_residual_free)

    def add(self, rows: Any, planes: Any, out: Any = None) -> None:
        """rows: n_rows x width of the image; planes: channels x n_rows x width of the prediction; out: anything of the
        rows' shape that takes slices, for their residual."""
        rows = np.ascontiguousarray(_arrays.numbers(rows, "rows"), np.float32)
        planes = np.ascontiguousarray(_arrays.numbers(planes, "planes"), np.float32)
        n = rows.shape[0] if rows.ndim else 0
        for name, array, shape in (("rows", rows, (n, self._width)),
                                   ("planes", planes, (self._channels, n, self._width))):
            if array.shape != shape:
                raise _arrays.shape_error("%s is %s; accepted: %s" % (name, array.shape, shape))
        if out is not None:
            _arrays.check_float_target(out, rows.shape, "out", "YX")
        rest = None if out is None else np.empty_like(rows)
        floats = ctypes.POINTER(ctypes.c_float)
        with self._short() as pointer:
            lib.usplit_residual_add(pointer, n, rows.ctypes.data_as(floats), planes.ctypes.data_as(floats),
                                    None if rest is None else rest.ctypes.data_as(floats))
        if out is not None:
            out[...] = rest

    @property
    def info(self) -> Facts:
        """Of all rows so far: as residual() gives them."""
        with self._short() as pointer:
            return _structs.facts(_structs.ask(lib.usplit_residual_info, _abi.usplit_residual_facts, pointer))
