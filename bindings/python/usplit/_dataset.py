"""Dataset: registered channels to learn from, from arrays, a reader, a file, or the paper's synthetic critters."""
from __future__ import annotations

import ctypes
import os
from typing import Any, Callable, Sequence

import numpy as np

from . import _abi, _arrays, _structs
from ._calls import Call, check_function
from ._context import Context, chosen
from ._handles import Handle
from ._library import lib
from ._structs import Facts

_DATASET = _abi.usplit_dataset_options
_CRITTERS = _abi.usplit_critter_options
_POINTER = ctypes.POINTER(_abi.usplit_dataset)


class Dataset(Handle):
    """Frames of two or more registered channels, held as float32 by the library, with their statistics.

    Every way to make one takes the options of usplit_dataset_options by name: split ("interleaved", "sequential"),
    padding ("reflect", "constant"), padding_value, validation_fraction, test_fraction, clip_quantile, levels (a model
    needs 1 + lc_count of them), train_frames, validation_frames, test_frames (lists of frame numbers), input ("mean",
    "sum", "measured": the last channel is an image of the others together), unpaired (1: channels with frames of their
    own), centring ("floored", "exact"), and `context`.

    A data set is read-only: share it between trainers and threads.
    """

    _noun = "dataset"
    _context: Context

    def __init__(self) -> None:
        raise TypeError("use Dataset.from_arrays, from_reader, open or critters")

    @classmethod
    def _make(cls, function: Callable[..., Any], arguments: Sequence[Any], options: dict[str, Any],
              context: Context | None, call: Call | None = None) -> "Dataset":
        context = chosen(context)
        struct = _structs.make(_DATASET, options, "Dataset")
        out = _POINTER()
        self = cls.__new__(cls)
        try:
            (call or Call()).run(function, ctypes.byref(out), context._pointer, *arguments, ctypes.byref(struct))
        except BaseException:
            if out:                 # made, but interrupted at the last moment
                lib.usplit_dataset_free(out)
            raise
        self._context = context
        self._open(out, lib.usplit_dataset_free, context._keep)
        return self

    @classmethod
    def from_arrays(cls, arrays: np.ndarray | Sequence[np.ndarray], axes: str | None = None, *,
                    context: Context | None = None, **options: Any) -> "Dataset":
        """From one array with a C axis ("TCYX" if axes are not named), or from one array per channel ("TYX"), which
        may differ in size if unpaired=1. uint8, uint16 or float32; read through their strides, without a copy."""
        if isinstance(arrays, np.ndarray):
            layout = _arrays.Axes(arrays.shape, axes, "arrays", {3: "CYX", 4: "TCYX"})
            views = [_arrays.view(arrays, layout, "arrays")]
        else:
            views = []
            for i, array in enumerate(_structs.listed("arrays", arrays, "numpy arrays")):
                name = "arrays[%d]" % i
                _arrays.check_array(array, name)
                views.append(_arrays.view(array, _arrays.Axes(array.shape, axes, name), name))
        images = (_abi.usplit_image * max(len(views), 1))(*(v[0] for v in views))
        return cls._make(lib.usplit_dataset_create, (images, len(views)), options, context)

    @classmethod
    def from_reader(cls, read: Callable[[int, int], Any], n_frames: int, n_channels: int,
                    frame_size: tuple[int, int] | Callable[[int], tuple[int, int]], *,
                    channel_frames: Sequence[int] | None = None, context: Context | None = None,
                    **options: Any) -> "Dataset":
        """From a function: read(frame, channel) returns height x width pixels, any type that converts to float32.
        frame_size is (height, width), or a function of the frame where sizes differ. With unpaired=1, channel_frames
        are the numbers of frames of each channel; frames are numbered through all of them. An exception of either
        function ends the call and arrives as it is."""
        check_function(read, "read")
        call = Call()

        def size_of(frame):
            given = frame_size(frame) if callable(frame_size) else frame_size
            size = _structs.listed("frame_size", given, "height and width")
            if len(size) != 2:
                raise _arrays.shape_error("frame_size has %d numbers; accepted: height and width" % len(size))
            return tuple(_structs.integer("frame_size", side) for side in size)

        def size(frame, height, width, _user):
            height[0], width[0] = size_of(frame)

        def fill(frame, channel, dst, _user):
            size = size_of(frame)
            plane = _arrays.pixels(read(frame, channel), size, "read(%d, %d)" % (frame, channel))
            np.ctypeslib.as_array(dst, size)[...] = plane

        reader = _structs.empty(_abi.usplit_dataset_reader)
        reader.frame_size = call.callback(_abi.usplit_dataset_reader_frame_size, size)
        reader.read = call.callback(_abi.usplit_dataset_reader_read, fill)
        _structs.fill(reader, {"n_frames": n_frames, "n_channels": n_channels}, "from_reader")
        if channel_frames is not None:
            numbers = [_structs.integer("channel_frames", n)
                       for n in _structs.listed("channel_frames", channel_frames, "integers")]
            if len(numbers) != n_channels:
                raise _arrays.shape_error("channel_frames has %d numbers; accepted: %d, one per channel"
                                          % (len(numbers), n_channels))
            own = (ctypes.c_int64 * len(numbers))(*numbers)
            reader.channel_frames = own         # kept by the struct
        return cls._make(lib.usplit_dataset_create_reader, (ctypes.byref(reader),), options, context, call)

    @classmethod
    def open(cls, file: str | os.PathLike, path_in_file: str | None = None, *, context: Context | None = None,
             **options: Any) -> "Dataset":
        """From a data set of an HDF5 file ("/frames" if not named): frames x channels x height x width."""
        where = None if path_in_file is None else _structs.text("path_in_file", path_in_file)
        return cls._make(lib.usplit_dataset_open, (_structs.text("file", file), where), options, context)

    @classmethod
    def critters(cls, *, context: Context | None = None, **options: Any) -> "Dataset":
        """The paper's synthetic data: n_frames, size, n_curves, thickness, joiner, kinds (1: easier, learnt in
        minutes), amplitude, max_vertical_shift, max_horizontal_shift, seed; and the options of every data set."""
        own = set(_structs.options_of(_CRITTERS))
        unknown = set(options) - own - set(_structs.options_of(_DATASET))
        if unknown:
            raise TypeError("critters has no option %r; accepted: %s" % (
                sorted(unknown)[0], ", ".join(_structs.options_of(_CRITTERS) + _structs.options_of(_DATASET))))
        critters = _structs.make(_CRITTERS, {k: v for k, v in options.items() if k in own}, "critters")
        rest = {k: v for k, v in options.items() if k not in own}
        return cls._make(lib.usplit_dataset_create_critters, (ctypes.byref(critters),), rest, context)

    @property
    def info(self) -> Facts:
        """Counts, sizes, clip value, means and deviations in grey levels."""
        return _structs.facts(_structs.ask(lib.usplit_dataset_info, _abi.usplit_dataset_facts, self._pointer))

    def frames(self, set: str = "all") -> np.ndarray:
        """Frame numbers of "all", "train", "validation" or "test"."""
        number, n = _structs.constant("set", set), ctypes.c_int64()
        lib.usplit_dataset_get_set(self._pointer, number, None, ctypes.byref(n))
        out = np.empty(max(n.value, 1), np.int64)
        lib.usplit_dataset_get_set(self._pointer, number, out.ctypes.data_as(ctypes.POINTER(ctypes.c_int64)),
                                   ctypes.byref(n))
        return out[:n.value]

    def frame(self, frame: int, channel: int, level: int = 0) -> np.ndarray:
        """One clipped channel of a frame, at a level of the pyramid (0: full resolution)."""
        frame, channel = _structs.integer("frame", frame), _structs.integer("channel", channel)
        level = _structs.integer("level", level, ctypes.c_int32)
        height, width = ctypes.c_int64(), ctypes.c_int64()
        size = ctypes.byref(height), ctypes.byref(width)
        lib.usplit_dataset_get_frame(self._pointer, frame, channel, level, None, *size)
        out = np.empty((height.value, width.value), np.float32)
        lib.usplit_dataset_get_frame(self._pointer, frame, channel, level,
                                     out.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), *size)
        return out

    def mixed(self, frame: int) -> np.ndarray:
        """What a model learns to split: the mean or the sum of a frame's channels, or the measured image."""
        info = self.info
        if info.input == "measured":
            return self.frame(frame, info.n_channels)
        planes = [self.frame(frame, c) for c in range(info.n_channels)]
        mix = np.sum if info.input == "sum" else np.mean
        return np.asarray(mix(planes, axis=0, dtype=np.float32))
