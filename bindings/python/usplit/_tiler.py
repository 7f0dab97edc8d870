"""Tiler: prediction of images of any size, from arrays in memory or row by row through functions."""
from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import itertools
import operator
import sys
import warnings
from typing import TYPE_CHECKING, Any, Callable, Iterator

import numpy as np

from . import _abi, _arrays, _errors, _progress, _quality, _structs
from ._arrays import Axes
from ._calls import Call, check_function
from ._handles import Handle, expect
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
    residual, where asked for: image, clipped as in training, - mean (or sum, as trained) of the channels before these
    are rounded to another type. Where it is not small the split does not explain the image.
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
        try:
            channel = operator.index(channel)
        except TypeError:
            raise TypeError("channel is %s; accepted: a name or a number" % _errors.shown(channel)) from None
        if not -len(self) <= channel < len(self):
            raise IndexError("channel %s; there are %d" % (_errors.shown(channel), len(self)))
        at: list[Any] = [slice(None)] * len(self.axes)
        at[self.axes.index("C")] = channel % len(self)
        return self.channels[tuple(at)]

    def __iter__(self):
        return (self[i] for i in range(len(self)))


def _sum(runs: list[Facts]) -> Facts:
    """Facts of several runs together."""
    total = runs[0]
    for one in runs[1:]:
        for name in ("tiles", "passes", "seconds", "clipped_pixels", "saturated_pixels"):
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
        from ._model import Model           # which needs this module
        self._model = expect(model, Model, "model")
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
        height, width = _structs.integer("height", height), _structs.integer("width", width)
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
            targets = [t for t in (out, residual, std) if _arrays.takes_slices(t)]
            if hasattr(image, "shape") and hasattr(image, "__getitem__") and \
                    not all(isinstance(a, np.ndarray) for a in [image] + targets):
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
        check_function(read, "read")
        check_function(write, "write")
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

    # ---- What results go to

    def _check_source(self, image: Any, axes: str | None) -> Axes:
        source = Axes(image.shape, axes)
        if source.channels != 1:
            raise _arrays.shape_error("image has %d channels along C; accepted: 1, the mean of the structures"
                                      % source.channels)
        return source

    def _target(self, source: Axes) -> Axes:
        """Axes of the result."""
        shape = source.frame_shape + (self._model._n_channels,) + source.size
        return Axes(shape, source.frame_letters + "CYX", "out")

    def _residual_out(self, residual: Any, source: Axes) -> Any:
        """None, a new array, or the caller's."""
        if not _arrays.asked(residual):
            return None
        shape = source.frame_shape + source.size
        if isinstance(residual, (bool, np.bool_)):
            return np.empty(shape, np.float32)
        return _arrays.check_float_target(residual, shape, "residual", source.frame_letters + "YX")

    def _std_out(self, std: Any, target: Axes) -> Any:
        """None, a new array, or the caller's."""
        asked = _arrays.asked(std)
        if not self._options.deviations:
            if asked:
                raise _errors.argument("std is asked of a tiler without deviations; accepted: model.tiler("
                                       "deviations=1, ...)")
            return None
        if not asked or isinstance(std, (bool, np.bool_)):
            return np.empty(target.shape, np.float32)
        return _arrays.check_float_target(std, target.shape, "std", target.letters)

    def _mixture(self) -> dict[str, Any]:
        """What the residual goes by: how the image that the model was trained to split is made of its channels."""
        model = self._model.info
        if model.input == "measured":
            raise _errors.argument("residual: the model learnt from measured images, whose mixture is not known; "
                                   "accepted: False")
        return {"weights": model.mixture_weight, "clip_value": model.clip_value}

    # ---- In memory

    def _split_array(self, image: Any, axes: str | None, dtype: Any, out: Any, residual: Any, std: Any,
                     report: Callable[[Facts], Any] | None) -> Result:
        _arrays.check_array(image, "image")
        source = self._check_source(image, axes)
        target, made = self._target(source), out is None
        if made:
            out = np.empty(target.shape, _arrays.out_dtype(dtype, image.dtype))
        _arrays.check_target(out, target.shape, "out", target.letters)
        dst, out = _arrays.view(out, target, "out", writable=True)
        made = made and not isinstance(std, np.ndarray) and out.dtype == np.float32
        std, rest = self._std_out(std, target), self._residual_out(residual, source)
        mixture = {} if rest is None else self._mixture()
        frames = list(itertools.product(*map(range, source.frame_shape)))

        def subtract(frame, planes):
            line = np.empty(source.size, np.float32)
            _quality.residual(source.plane(image, frame), planes, out=line, **mixture)
            rest[frame] = line

        if std is None and (rest is None or out.dtype == np.float32):
            src, _kept = _arrays.view(image, source, "image")
            with self._running() as pointer:
                info = self._run(pointer, src, dst, report)
            for frame in frames if rest is not None else ():
                subtract(frame, out[frame])
            return Result(out, target.letters, self._model.channel_names, info, rest)

        # Frame by frame: the library writes means and deviations to one array of one type.
        k = target.channels
        planes = np.empty((k if std is None else 2 * k,) + source.size, np.float32)
        if made and len(frames) == 1:       # which becomes the result
            out, std = planes[:k].reshape(target.shape), planes[k:].reshape(target.shape)
        dst, planes = _arrays.view(planes, Axes(planes.shape, "CYX", "out"), "out", writable=True)
        runs = []
        with self._running() as pointer:
            for part, frame in enumerate(frames):
                self._refuse_if_cancelled()
                src, _kept = _arrays.view(source.plane(image, frame), Axes(source.size, "YX"), "image")
                runs.append(self._run(pointer, src, dst, report, part, len(frames)))
                out[frame], runs[-1].saturated_pixels = _arrays.cast(planes[:k], out.dtype)
                if std is not None:
                    std[frame] = planes[k:]
                if rest is not None:
                    subtract(frame, planes[:k])
        return Result(out, target.letters, self._model.channel_names, _sum(runs), rest, std)

    def _run(self, pointer: Any, src: Any, dst: Any, report: Callable[[Facts], Any] | None, part: int = 0,
             parts: int = 1) -> Facts:
        result = _structs.empty(_abi.usplit_tiler_result)
        call = Call(lambda: lib.usplit_tiler_cancel(pointer))
        call.run(lib.usplit_tiler_run, pointer, ctypes.byref(src), ctypes.byref(dst), ctypes.byref(result),
                 _progress.callback(call, report, part, parts), None)
        return _structs.facts(result, self._model._n_channels)

    def _refuse_if_cancelled(self) -> None:
        if self._cancelled:                 # between two frames, where the library would not see it
            raise _errors.of_status(_abi.USPLIT_ERR_CANCELLED, "cancelled by Tiler.cancel")

    # ---- Row by row

    def _stream(self, pointer: Any, read: Callable[[int, int], Any], write: Callable[[int, np.ndarray], Any],
                height: int, width: int, report: Callable[[Facts], Any] | None, part: int = 0, parts: int = 1,
                rows: dict[str, int] | None = None) -> Facts:
        k = self._model._n_channels
        n_planes = 2 * k if self._options.deviations else k
        call = Call(lambda: lib.usplit_tiler_cancel(pointer))

        def read_rows(row, n, dst, _user):
            pixels = _arrays.pixels(read(row, n), (n, width), "read(%d, %d)" % (row, n))
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
        if isinstance(image, np.ndarray):
            _arrays.check_array(image, "image")
        source = self._check_source(image, axes)
        target = self._target(source)
        if out is None:
            out = np.empty(target.shape, _arrays.out_dtype(dtype, getattr(image, "dtype", None)))
        _arrays.check_target(out, target.shape, "out", target.letters)
        out_type = _arrays.out_dtype(getattr(out, "dtype", None), None)
        std, rest = self._std_out(std, target), self._residual_out(residual, source)
        mixture = {} if rest is None else self._mixture()
        k = target.channels
        frames = list(itertools.product(*map(range, source.frame_shape)))
        runs = []
        with self._running() as pointer:
            for part, frame in enumerate(frames):
                cut = 0
                subtract = None if rest is None else _quality.Residual(source.size[1], k, **mixture)

                def read(row, n):
                    rows = np.asarray(image[source.index(frame, slice(row, row + n))])
                    return rows if source.y < source.x else rows.T

                def write(row, planes):
                    nonlocal cut
                    values, over = _arrays.cast(planes[:k], out_type)
                    cut += over
                    n = planes.shape[1]
                    rows = slice(row, row + n)
                    out[frame + (slice(None), rows, slice(None))] = values
                    if std is not None:
                        std[frame + (slice(None), rows, slice(None))] = planes[k:]
                    if subtract is not None:
                        lines = np.empty((n, source.size[1]), np.float32)
                        subtract.add(read(row, n), planes[:k], lines)
                        rest[frame + (rows, slice(None))] = lines

                self._refuse_if_cancelled()
                runs.append(self._stream(pointer, read, write, *source.size, report, part, len(frames)))
                runs[-1].saturated_pixels = cut
                if subtract is not None:
                    subtract.close()
        return Result(out, target.letters, self._model.channel_names, _sum(runs), rest, std)
