"""Model: a network with its parameters and normalisation. It is read by tilers and changed by a trainer."""
from __future__ import annotations

import contextlib
import ctypes
import os
import weakref
from typing import TYPE_CHECKING, Any, Iterator, Sequence

import numpy as np

from . import _abi, _arrays, _errors, _progress, _structs
from ._calls import Call
from ._context import Context, chosen
from ._dataset import Dataset
from ._handles import Handle, expect
from ._library import lib
from ._structs import Facts
from ._tiler import Result, Tiler

if TYPE_CHECKING:
    from ._trainer import Trainer

_POINTER = ctypes.POINTER(_abi.usplit_model)
_FLOATS = ctypes.POINTER(ctypes.c_float)


class Model(Handle):
    """Model.load reads one from a file, Model.create makes a fresh one.

    Any number of threads may split with one model. While a trainer runs, or a setter is called, the model is the
    trainer's: calls from elsewhere raise StateError.
    """

    _noun = "model"
    _context: Context
    _n_channels: int
    _readers: set[Any]                  # one entry for each tiler that runs or is being made
    _training = False
    _version = 0                        # of the parameters: tilers made from another one are made anew
    _trainer: weakref.ref[Trainer] | None = None
    _spare: tuple[bytes, Tiler] | None = None

    def __init__(self) -> None:
        raise TypeError("use Model.load or Model.create")

    @classmethod
    def _wrap(cls, out: Any, context: Context) -> "Model":
        self = cls.__new__(cls)
        self._context = context
        self._readers = set()
        self._open(out, lib.usplit_model_free, context._keep)
        self._n_channels = self.info.channels
        return self

    @classmethod
    def create(cls, family: str = "hvae", variant: str = "lean", *, levels: int | None = None,
               lc_count: int | None = None, filters: int | None = None, patch: int | None = None,
               channels: int | None = None, z_dims: int | Sequence[int] | None = None, seed: int | None = None,
               context: Context | None = None, **options: Any) -> "Model":
        """A fresh model. Families: "hvae", "hae", "unet", "bravenet"; variants: "vanilla", "lean", "regular", "deep",
        "context_aware". What is left out has the published value. Further options by the names of
        usplit_model_options: dropout, blocks, activation, logvar, merge, kl, latent_scale, ..."""
        context = chosen(context)
        options.update(family=family, variant=variant, levels=levels, lc_count=lc_count, filters=filters, patch=patch,
                       channels=channels, z_dims=z_dims, seed=seed)
        struct = _structs.make(_abi.usplit_model_options, options, "Model.create")
        out = _POINTER()
        lib.usplit_model_create(ctypes.byref(out), context._pointer, ctypes.byref(struct))
        return cls._wrap(out, context)

    @classmethod
    def load(cls, path: str | os.PathLike, *, context: Context | None = None) -> "Model":
        """Reads a model file. Anything missing or altered in it is a FileError with a line that names it."""
        context = chosen(context)
        out = _POINTER()
        lib.usplit_model_load(ctypes.byref(out), context._pointer, _structs.text("path", path))
        return cls._wrap(out, context)

    def save(self, path: str | os.PathLike) -> None:
        """Writes a model file whole: under another name beside it, then renamed."""
        with self._quiet() as pointer:
            lib.usplit_model_save(pointer, _structs.text("path", path))

    # ---- Who may do what, when

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[Any]:
        """The pointer, for a short call that reads."""
        with self._lock:
            self._refuse_if_training()
            yield self._pointer

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        me = object()
        try:
            with self._lock:
                self._refuse_if_training()
                self._pointer               # refuses a closed model
                self._readers.add(me)
            yield
        finally:
            self._readers.discard(me)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Any]:
        """The pointer, for a short call that changes the model."""
        with self._lock:
            self._refuse_if_in_use()
            self._version += 1
            yield self._pointer

    @contextlib.contextmanager
    def _training_it(self) -> Iterator[None]:
        entered = False
        try:
            with self._lock:
                self._refuse_if_in_use()
                self._version += 1
                entered = self._training = True
            yield
        finally:
            if entered:
                self._training = False

    def _refuse_if_training(self) -> None:
        if self._training:
            raise _errors.busy("the model is being trained; it is the trainer's until that call returns")

    def _refuse_if_in_use(self) -> None:
        self._refuse_if_training()
        if self._readers:
            raise _errors.busy("the model is in use by a tiler that is running")

    def close(self) -> None:
        with self._lock:
            self._refuse_if_in_use()
            if self._spare is not None:
                self._spare[1].close()
                self._spare = None
            super().close()

    # ---- Facts and parameters

    @property
    def info(self) -> Facts:
        """Architecture, normalisation, training record."""
        with self._quiet() as pointer:
            return _structs.facts(_structs.ask(lib.usplit_model_info, _abi.usplit_model_facts, pointer))

    @property
    def channel_names(self) -> list[str]:
        """Names of the structures; "channel1" and so on where none was given."""
        return [name or "channel%d" % (i + 1) for i, name in enumerate(self.info.channel_names)]

    @channel_names.setter
    def channel_names(self, names: Sequence[str]) -> None:
        listed = _structs.listed("channel_names", names, "names")
        if len(listed) != self._n_channels:
            raise _errors.argument("%d channel names; the model has %d channels" % (len(listed), self._n_channels))
        self.set_normalisation(channel_names=listed)

    def set_normalisation(self, **values: Any) -> None:
        """clip_value, input_mean, input_deviation, target_mean, target_deviation, padding, padding_value, pixel_size,
        channel_names. What is left out stays. A trainer sets the statistics by itself."""
        kind = _abi.usplit_model_normalisation
        now = self.info
        struct = _structs.empty(kind)
        kept = {name: getattr(now, name) for name in _structs.options_of(kind)}
        _structs.fill(struct, kept, "set_normalisation")
        _structs.fill(struct, values, "set_normalisation")
        with self._changing() as pointer:
            lib.usplit_model_set_normalisation(pointer, ctypes.byref(struct))

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all arrays, as published."""
        with self._quiet() as pointer:
            facts = _structs.ask(lib.usplit_model_info, _abi.usplit_model_facts, pointer)
            out = {}
            name, shape, n = ctypes.c_char_p(), (ctypes.c_int64 * 4)(), ctypes.c_int32()
            for i in range(facts.n_entries):
                lib.usplit_model_get_entry(pointer, i, ctypes.byref(name), shape, ctypes.byref(n))
                out[(name.value or b"").decode()] = tuple(shape[:n.value])
            return out

    def _shape_of(self, name: str) -> tuple[int, ...]:
        shapes = self.parameters
        if not isinstance(name, str) or name not in shapes:
            raise _errors.argument("the model has no parameter %s; accepted: a name in model.parameters"
                                   % _errors.shown(name))
        return shapes[name]

    def get_parameter(self, name: str) -> np.ndarray:
        out = np.empty(self._shape_of(name), np.float32)
        with self._quiet() as pointer:
            lib.usplit_model_get_parameter(pointer, name.encode(), out.ctypes.data_as(_FLOATS), out.size)
        return out

    def set_parameter(self, name: str, values: Any) -> None:
        shape = self._shape_of(name)
        array = np.ascontiguousarray(_arrays.numbers(values, "values"), np.float32)
        if array.shape != shape:
            raise _errors.ArgumentError(_abi.USPLIT_ERR_SHAPE, "%r has shape %s; given: %s"
                                        % (name, shape, array.shape))
        with self._changing() as pointer:
            lib.usplit_model_set_parameter(pointer, name.encode(), array.ctypes.data_as(_FLOATS), array.size)

    def check(self, must_pass: bool = True) -> Facts:
        """Runs the self-test of a model that was loaded: values (compared), error (largest deviation relative to the
        output's maximum), tolerance, passed. Not passed is a NumericError, unless must_pass is False."""
        with self._quiet() as pointer:
            facts = _structs.facts(_structs.ask(lib.usplit_model_check_report, _abi.usplit_model_check_facts, pointer))
        if must_pass and not facts.passed:
            raise _errors.NumericError(_abi.USPLIT_ERR_NUMERIC, "the self-test deviates by %g of the output's maximum; "
                                       "accepted: %g" % (facts.error, facts.tolerance))
        return facts

    # ---- Calibration

    @property
    def calibration(self) -> Facts | None:
        """slope and offset of each channel (calibrated deviation = slope * deviation + offset), rmse, deviation, the
        samples and shifts they belong to, and the residual that is usual; None where there is none. Set it to what
        calibrate() returned, or to None to remove it. save() writes it; training removes it."""
        with self._quiet() as pointer:
            if not _structs.ask(lib.usplit_model_info, _abi.usplit_model_facts, pointer).has_calibration:
                return None
            return _structs.facts(_structs.ask(lib.usplit_model_get_calibration, _abi.usplit_calibration, pointer),
                                  self._n_channels)

    @calibration.setter
    def calibration(self, facts: Facts | None) -> None:
        struct = None
        if facts is not None:
            if not isinstance(facts, Facts):
                raise TypeError("calibration is a %s; accepted: what Model.calibrate returned, or None"
                                % type(facts).__name__)
            struct = _structs.fill(_structs.empty(_abi.usplit_calibration), facts.asdict(), "calibration")
            n = np.size(getattr(facts, "slope", ()))
            if n != self._n_channels:
                raise _errors.ArgumentError(_abi.USPLIT_ERR_SHAPE, "calibration is of %d channels; accepted: %d"
                                            % (n, self._n_channels))
        with self._changing() as pointer:
            lib.usplit_model_set_calibration(pointer, None if struct is None else ctypes.byref(struct))

    def calibrate(self, dataset: Dataset, set: str = "validation", *, samples: int | None = None,
                  shifts: int | None = None, calibrated: bool | None = None, progress: _progress.Progress = None,
                  **options: Any) -> Facts:
        """Splits the frames of a set whose channels are known and were not trained on, and fits the real error to the
        deviations over samples or shifts (two or more). Give it the options that you will split with. The model is not
        changed: `model.calibration = model.calibrate(data, samples=20)` stores what came out.

        calibrated: True: holds the stored calibration against the set; slopes near 1 and offsets near 0 say that it is
                    right there."""
        expect(dataset, Dataset, "dataset")
        options.update(samples=samples, shifts=shifts, calibrated=calibrated)
        struct = _structs.make(_abi.usplit_tiler_options, options, "calibrate")
        result = _structs.empty(_abi.usplit_calibration)
        with self._reading(), _progress.reporter(progress) as report:
            call = Call()
            call.run(lib.usplit_model_calibrate, self._pointer, dataset._pointer, _structs.constant("set", set),
                     ctypes.byref(struct), ctypes.byref(result), _progress.callback(call, report), None)
        return _structs.facts(result, self._n_channels)

    def plan(self, mode: str = "train", batch: int = 32, inner: int = 0) -> Facts:
        """What training a batch, or predicting ("predict") the inner pixels of patches, would need."""
        what = self._planned(mode, batch, inner)
        with self._quiet() as pointer:
            return _structs.facts(_structs.ask(lib.usplit_model_plan, _abi.usplit_model_cost, pointer, *what))

    @staticmethod
    def _planned(mode: str, batch: int, inner: int) -> tuple[int, int, int]:
        return (_structs.constant("mode", mode), _structs.integer("batch", batch, ctypes.c_int32),
                _structs.integer("inner", inner, ctypes.c_int32))

    def plan_text(self, mode: str = "train", batch: int = 32, inner: int = 0) -> str:
        """The plan itself, a step per line."""
        lines: list[str] = []
        call = Call()
        take = call.callback(_abi.usplit_model_plan_text_line, lambda text, _user: lines.append(text.decode()))
        what = self._planned(mode, batch, inner)
        with self._quiet() as pointer:
            call.run(lib.usplit_model_plan_text, pointer, *what, take, None)
        return "\n".join(lines)

    # ---- Splitting

    def tiler(self, **options: Any) -> Tiler:
        return Tiler(self, **options)

    def split(self, image: Any, axes: str | None = None, *, samples: int | None = None, seed: int | None = None,
              pad: int | None = None, latent: str | None = None, memory_budget: int | None = None,
              dtype: Any = "float32", out: Any = None, residual: Any = False, std: Any = False,
              calibrated: bool | None = None, progress: _progress.Progress = None, **options: Any) -> Result:
        """Splits an image, or a stack frame by frame. Hand it the mean of the structures, in grey levels.

        image     a numpy array (uint8, uint16, float32), read through its strides without a copy; or anything with
                  shape and slicing (zarr, h5py, dask), of which rows are fetched as they are needed
        axes      letters of its axes: "YX", "TYX" (the defaults), "ZYX", "TZYX", "YXT", ...
        samples   posterior samples that are averaged (1)
        seed      of the latent noise (0)
        pad       pixels of a tile that are thrown away on each side (a quarter of the patch)
        latent    "mean": the posterior's mean instead of samples
        memory_budget  bytes; fewer tiles at a time, never other numbers
        dtype     of the result: "float32", "uint16", "uint8" (rounded and saturated), "same"
        out       an array, or anything of that shape that takes slices, to write the result to
        residual  True: also image, clipped as in training, - mean (or sum, as trained) of the channels; or what it is
                  written to, as with std
        std       True: also the standard deviation of every pixel over samples and shifts, of which there must be two
                  or more; or an array, or anything of that shape that takes slices, to write it to
        calibrated  True: std is corrected by the model's calibration, so that it means an error
        progress  True: shown; or a function of the facts of usplit_progress, which stops the call by returning False
        """
        options.update(samples=samples, seed=seed, pad=pad, latent=latent, memory_budget=memory_budget,
                       calibrated=calibrated)
        if _arrays.asked(std):
            options["deviations"] = 1
        key = bytes(_structs.make(_abi.usplit_tiler_options, options, "Tiler"))
        tiler = self._take(key) or Tiler(self, **options)
        try:
            return tiler.split(image, axes, dtype=dtype, out=out, residual=residual, std=std, progress=progress)
        finally:
            self._put_back(key, tiler)

    # Preparing a tiler costs more than a small image does: the last one is kept for the next split like it. It must not
    # keep the model alive meanwhile.

    def _take(self, key: bytes) -> Tiler | None:
        with self._lock:
            if self._spare is None or self._spare[0] != key:
                return None
            tiler, self._spare = self._spare[1], None
            tiler._model = self
            return tiler

    def _put_back(self, key: bytes, tiler: Tiler) -> None:
        with self._lock:
            if not self.closed and not tiler.closed:
                tiler._model = None     # type: ignore[assignment]
                self._spare = (key, tiler)
