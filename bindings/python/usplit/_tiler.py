"""Tiler: prediction of images of any size, from arrays in memory or row by row through functions."""
from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import itertools
import sys
import warnings
from typing import TYPE_CHECKING, Any, Callable, Iterator

import numpy as np

from . import _abi, _arrays, _errors, _progress, _structs
from ._arrays import Axes
from ._calls import Call
from ._handles import Handle
from ._library import lib
from ._structs import Facts

if TYPE_CHECKING:
    from ._model import Model

_POINTER = ctypes.POINTER(_abi.usplit_tiler)


@dataclasses.dataclass
class Result:
    """What a split gives. channels has `axes` (frames, C, Y, X); result[0] and result["actin"] are one channel.

    info tells what the run did: tiles, seconds, peak_bytes, clip_value, clipped_pixels, saturated_pixels, gain and
    offset of each channel (grey level = gain * network + offset), and how far the input is from what the model was
    trained on: input_mean, input_deviation, input_distance, input_unusual.
    residual, where asked for: image - mean (or sum, as trained) of the channels. Where it is not small the split does
    not explain the image.
    std, where asked for: standard deviations of the channels over samples and shifts, float32, shaped like them.
    """

    channels: Any
    axes: str
    names: list[str]
    info: Facts
    residual: Any = None
    std: Any = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, channel: int | str) -> Any:
        if isinstance(channel, str):
            if channel not in self.names:
                raise KeyError("no channel %r; there are: %s" % (channel, ", ".join(self.names)))
            channel = self.names.index(channel)
        elif not -len(self) <= channel < len(self):
            raise IndexError("channel %d; there are %d" % (channel, len(self)))
        at: list[Any] = [slice(None)] * len(self.axes)
        at[self.axes.index("C")] = channel % len(self)
        return self.channels[tuple(at)]

    def __iter__(self):
        return (self[i] for i in range(len(self)))


def _sum(runs: list[Facts]) -> Facts:
    """Facts of several runs together."""
    total = runs[0]
    for one in runs[1:]:
        for name in ("tiles", "passes", "seconds", "clipped_pixels"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
        total.peak_bytes = max(total.peak_bytes, one.peak_bytes)
        if one.input_distance > total.input_distance:       # the frame least like the training images; NaN: not known
            for name in ("input_mean", "input_deviation", "input_distance", "input_unusual"):
                setattr(total, name, getattr(one, name))
    return total


def _warn(text: str) -> None:
    """A warning that points at the line outside of this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, _errors.UnusualInput, stacklevel=level)


class Tiler(Handle):
    """Prepared prediction with one model and one set of options, for many images: samples, seed, pad, latent
    ("sample", "mean"), shifts, deviations (1: results have std), calibrated (1: std by the model's calibration), tiling
    ("inner", "outer"), cover ("all", "whole_tiles"), patch, batch, memory_budget.

    One tiler, one thread at a time; any number of tilers may share a model. When the model has changed since (trained
    on, parameters set) the next split uses what it is now.
    """

    _noun = "tiler"

    def __init__(self, model: "Model", **options: Any) -> None:
        self._model = model
        self._options = _structs.make(_abi.usplit_tiler_options, options, "Tiler")
        with model._reading():
            self._create()

    def _create(self) -> None:
        out = _POINTER()
        lib.usplit_tiler_create(ctypes.byref(out), self._model._pointer, ctypes.byref(self._options))
        self._made_from = self._model._version
        self._open(out, lib.usplit_tiler_free, self._model._context._keep)

    @contextlib.contextmanager
    def _running(self) -> Iterator[Any]:
        """The pointer, for a run. The model cannot change meanwhile: _reading() is held."""
        with self._lock:
            self._refuse_if_running()
            if self._made_from != self._model._version:
                self.close()
                self._create()
            self._cancelled = False
        with self._long() as pointer:
            yield pointer

    def plan(self, height: int, width: int) -> Facts:
        """tiles, passes, host_bytes, device_bytes, macs, seconds (0: not yet known) of a run, before it runs."""
        with self._short() as pointer:
            return _structs.facts(_structs.ask(lib.usplit_tiler_plan, _abi.usplit_tiler_cost, pointer, height, width))

    def cancel(self) -> None:
        """From any thread: the running call stops, and raises Cancelled where it was made."""
        with self._lock:
            self._cancelled = True
            if not self.closed:
                lib.usplit_tiler_cancel(self._pointer)

    def split(self, image: Any, axes: str | None = None, *, dtype: Any = "float32", out: Any = None,
              residual: Any = False, std: Any = False, progress: _progress.Progress = None) -> Result:
        """See Model.split. A tiler made with deviations=1 always gives std; std may name the array it goes to."""
        with self._model._reading(), _progress.reporter(progress) as report:
            if not isinstance(image, np.ndarray) and hasattr(image, "shape") and hasattr(image, "__getitem__"):
                result = self._split_rows(image, axes, dtype, out, residual, std, report)
            else:
                result = self._split_array(image, axes, dtype, out, residual, std, report)
            unusual = self._unusual(result.info)
        if unusual:
            _warn(unusual)
        return result

    def stream(self, read: Callable[[int, int], Any], write: Callable[[int, np.ndarray], Any], height: int, width: int,
               *, first_tile_row: int = 0, n_tile_rows: int = 0, progress: _progress.Progress = None) -> Facts:
        """One image through functions; memory grows with the width only. read(row, n_rows) returns n_rows x width
        pixels, and may be asked for a row again. write(row, planes) takes channels x n_rows x width float32, once for
        every row and in order; planes is the library's memory: copy what is to stay. With deviations=1 as many planes
        of standard deviations follow those of the channels.

        first_tile_row, n_tile_rows: a part of the image, so that several machines share one: rows of tiles, of which
        plan() says how many there are (tile_rows). The rows of the image that belong to them (inner each) are written,
        with the values of the whole; n_tile_rows 0: all from the first one on."""
        with self._model._reading(), _progress.reporter(progress) as report, self._running() as pointer:
            info = self._stream(pointer, read, write, height, width, report,
                                rows={"first_tile_row": first_tile_row, "n_tile_rows": n_tile_rows})
            unusual = self._unusual(info)
        if unusual:
            _warn(unusual)
        return info

    def _unusual(self, info: Facts) -> str | None:
        """What is to be warned about, if anything."""
        if not info.input_unusual:
            return None
        m = self._model.info
        numbers = (info.input_mean, info.input_deviation) + m.frame_mean[2:] + m.frame_deviation[2:]
        return ("the image is not like the training images: mean %.4g, deviation %.4g; trained on: mean %.4g to %.4g, "
                "deviation %.4g to %.4g" % numbers)

    # ---- In memory

    def _target(self, source: Axes, dtype: np.dtype | None, out: Any) -> tuple[Axes, Any]:
        """Axes and array of the result."""
        k = self._model._n_channels
        letters, shape = source.frame_letters + "CYX", source.frame_shape + (k,) + source.size
        if out is None:
            out = np.empty(shape, dtype)
        if tuple(out.shape) != shape:
            raise _arrays.shape_error("out is %s; accepted: %s, axes %s" % (tuple(out.shape), shape, letters))
        return Axes(shape, letters, "out"), out

    def _check_source(self, image: Any, axes: str | None) -> Axes:
        source = Axes(image.shape, axes)
        if source.channels != 1:
            raise _arrays.shape_error("image has %d channels along C; accepted: 1, the mean of the structures"
                                      % source.channels)
        return source

    def _divisor(self) -> int:
        """What the sum of the channels is divided by in the image that the model was trained to split."""
        facts = _structs.ask(lib.usplit_model_info, _abi.usplit_model_facts, self._model._pointer)
        if facts.input == _abi.ENUMS["input"]["measured"]:
            raise _errors.argument("residual: the model learnt from measured images, whose mixture is not known; "
                                   "accepted: False")
        return 1 if facts.input == _abi.ENUMS["input"]["sum"] else self._model._n_channels

    def _residual_out(self, residual: Any, source: Axes) -> Any:
        """None, a new array, or the caller's."""
        if residual is False or residual is None:
            return None
        shape = source.frame_shape + source.size
        if residual is True:
            return np.empty(shape, np.float32)
        if tuple(residual.shape) != shape:
            raise _arrays.shape_error("residual is %s; accepted: %s" % (tuple(residual.shape), shape))
        return residual

    def _std_out(self, std: Any, target: Axes) -> Any:
        """None, a new array, or the caller's."""
        asked = std is not False and std is not None
        if not self._options.deviations:
            if asked:
                raise _errors.argument("std is asked of a tiler without deviations; accepted: model.tiler("
                                       "deviations=1, ...)")
            return None
        if not asked or std is True:
            return np.empty(target.shape, np.float32)
        if tuple(std.shape) != target.shape:
            raise _arrays.shape_error("std is %s; accepted: %s, axes %s" % (tuple(std.shape), target.shape,
                                                                            target.letters))
        return std

    def _split_array(self, image: Any, axes: str | None, dtype: Any, out: Any, residual: Any, std: Any,
                     report: Callable[[Facts], Any] | None) -> Result:
        _arrays.check_array(image, "image")
        source = self._check_source(image, axes)
        new_out, new_std = out is None, std is True or std is False or std is None
        target, out = self._target(source, _arrays.out_dtype(dtype, image.dtype) if new_out else None, out)
        src, _kept = _arrays.view(image, source, "image")
        dst, out = _arrays.view(out, target, "out", writable=True)
        std = self._std_out(std, target)
        whole, k = None, target.channels
        if std is not None:                 # the library writes both to one array, of one type
            whole = np.empty(source.frame_shape + (2 * k,) + source.size, np.float32)
            dst, whole = _arrays.view(whole, Axes(whole.shape, target.letters, "out"), "out", writable=True)
        rest = self._residual_out(residual, source)
        divisor = 1 if rest is None else self._divisor()
        result = _structs.empty(_abi.usplit_tiler_result)
        with self._running() as pointer:
            call = Call(lambda: lib.usplit_tiler_cancel(pointer))
            call.run(lib.usplit_tiler_run, pointer, ctypes.byref(src), ctypes.byref(dst), ctypes.byref(result),
                     _progress.callback(call, report), None)
        info = _structs.facts(result, k)
        if whole is not None:
            means, deviations = whole[..., :k, :, :], whole[..., k:, :, :]
            if new_out and out.dtype == np.float32:
                out = means
            else:
                out[...], info.saturated_pixels = _arrays.cast(means, out.dtype)
            if new_std:
                std = deviations
            else:
                std[...] = deviations
        if rest is not None:
            for frame in itertools.product(*map(range, source.frame_shape)):
                rows = image[source.index(frame, slice(None))]
                rest[frame] = _arrays.residual(rows if source.y < source.x else rows.T, out[frame], 0, divisor)
        return Result(out, target.letters, self._model.channel_names, info, rest, std)

    # ---- Row by row

    def _stream(self, pointer: Any, read: Callable[[int, int], Any], write: Callable[[int, np.ndarray], Any],
                height: int, width: int, report: Callable[[Facts], Any] | None, part: int = 0, parts: int = 1,
                rows: dict[str, int] | None = None) -> Facts:
        k = self._model._n_channels
        n_planes = 2 * k if self._options.deviations else k
        call = Call(lambda: lib.usplit_tiler_cancel(pointer))

        def read_rows(row, n, dst, _user):
            pixels = np.asarray(read(row, n))
            if pixels.shape != (n, width):
                raise _arrays.shape_error("read(%d, %d) returned %s pixels; accepted: %d x %d"
                                          % (row, n, " x ".join(map(str, pixels.shape)), n, width))
            np.ctypeslib.as_array(dst, (n, width))[...] = pixels

        def write_rows(row, n, src, _user):
            planes = np.ctypeslib.as_array(src, (n_planes, n, width))
            planes.flags.writeable = False
            write(row, planes)

        stream = _structs.empty(_abi.usplit_tiler_stream)
        stream.read = call.callback(_abi.usplit_tiler_stream_read, read_rows)
        stream.write = call.callback(_abi.usplit_tiler_stream_write, write_rows)
        _structs.fill(stream, {"height": height, "width": width, **(rows or {})}, "stream")
        result = _structs.empty(_abi.usplit_tiler_result)
        call.run(lib.usplit_tiler_run_stream, pointer, ctypes.byref(stream), ctypes.byref(result),
                 _progress.callback(call, report, part, parts), None)
        return _structs.facts(result, k)

    def _split_rows(self, image: Any, axes: str | None, dtype: Any, out: Any, residual: Any, std: Any,
                    report: Callable[[Facts], Any] | None) -> Result:
        """An object with shape and slicing, frame by frame: its rows are fetched when the tiler wants them."""
        source = self._check_source(image, axes)
        wanted = _arrays.out_dtype(dtype, getattr(image, "dtype", None)) if out is None else None
        target, out = self._target(source, wanted, out)
        out_type = _arrays.out_dtype(out.dtype, None)
        std = self._std_out(std, target)
        k = target.channels
        rest = self._residual_out(residual, source)
        divisor = 1 if rest is None else self._divisor()
        frames = list(itertools.product(*map(range, source.frame_shape)))
        if not frames:
            raise _arrays.shape_error("image has no frames: it is %s" % (source.shape,))
        runs, cut = [], 0
        with self._running() as pointer:
            for part, frame in enumerate(frames):
                def read(row, n):
                    rows = np.asarray(image[source.index(frame, slice(row, row + n))])
                    return rows if source.y < source.x else rows.T

                def write(row, planes):
                    nonlocal cut
                    values, over = _arrays.cast(planes[:k], out_type)
                    cut += over
                    rows = slice(row, row + planes.shape[1])
                    out[frame + (slice(None), rows, slice(None))] = values
                    if std is not None:
                        std[frame + (slice(None), rows, slice(None))] = planes[k:]
                    if rest is not None:
                        rest[frame + (rows, slice(None))] = _arrays.residual(read(row, planes.shape[1]), values, 0,
                                                                                    divisor)

                if self._cancelled:         # between two frames, where the library would not see it
                    raise _errors.of_status(_abi.USPLIT_ERR_CANCELLED, "cancelled by Tiler.cancel")
                runs.append(self._stream(pointer, read, write, *source.size, report, part, len(frames)))
        total = _sum(runs)
        total.saturated_pixels = cut
        return Result(out, target.letters, self._model.channel_names, total, rest, std)
