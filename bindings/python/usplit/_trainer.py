"""Trainer: learns from a data set, shows progress, can be stopped, saved and taken up again."""
from __future__ import annotations

import contextlib
import ctypes
import os
import weakref
from typing import Any, Iterator

from . import _abi, _progress, _structs
from ._calls import Call
from ._dataset import Dataset
from ._handles import Handle, expect
from ._library import lib
from ._model import Model
from ._structs import Facts


class Trainer(Handle):
    """Training of a model. Options by the names of usplit_trainer_options: batch, max_epochs, max_steps,
    steps_per_epoch, max_seconds, learning_rate, clip_norm, kl_weight, free_bits, lr_factor, lr_patience,
    early_stop_patience, seed, max_validation_patches, memory_budget, augment (1: patches mirrored and turned),
    uncorrelated, weight_low and weight_high (one number per channel), fixed_targets, best_file, last_file.

    resume: a file that `last_file` was, from which the training goes on as if it had never stopped.

    A model has one trainer: a new one closes the old.
    """

    _noun = "trainer"

    def __init__(self, model: Model, dataset: Dataset, *, batch: int | None = None, max_epochs: int | None = None,
                 max_steps: int | None = None, max_seconds: float | None = None, learning_rate: float | None = None,
                 seed: int | None = None, best_file: str | os.PathLike | None = None,
                 last_file: str | os.PathLike | None = None, resume: str | os.PathLike | None = None,
                 **options: Any) -> None:
        options.update(batch=batch, max_epochs=max_epochs, max_steps=max_steps, max_seconds=max_seconds,
                       learning_rate=learning_rate, seed=seed, best_file=best_file, last_file=last_file)
        expect(model, Model, "model")
        expect(dataset, Dataset, "dataset")
        struct = _structs.make(_abi.usplit_trainer_options, options, "Trainer")
        start = None if resume is None else _structs.text("resume", resume)
        out = ctypes.POINTER(_abi.usplit_trainer)()
        self._model, self._dataset = model, dataset
        with model._changing() as pointer:
            old = model._trainer() if model._trainer is not None else None
            if old is not None:
                old.close()
            lib.usplit_trainer_create(ctypes.byref(out), pointer, dataset._pointer, ctypes.byref(struct))
            self._open(out, lib.usplit_trainer_free, model._context._keep)
            model._trainer = weakref.ref(self)
        if start is not None:
            with self._running() as pointer:
                Call().run(lib.usplit_trainer_resume, pointer, start)

    @contextlib.contextmanager
    def _running(self) -> Iterator[Any]:
        with self._model._training_it(), self._long() as pointer:
            yield pointer

    def fit(self, progress: _progress.Progress = None) -> Facts:
        """Trains until a limit of the options or the early stop, and returns the facts.

        progress: True shows it; a function is called with the facts of usplit_progress and stops the training by
        returning False. Ctrl-C, and any exception of that function, stop it at the end of the step and arrive here;
        last_file is then written, and fit() can be called again to go on."""
        with _progress.reporter(progress) as report, self._running() as pointer:
            call = Call(lambda: lib.usplit_trainer_cancel(pointer))
            call.run(lib.usplit_trainer_run, pointer, _progress.callback(call, report), None)
        return self.info

    def step(self) -> Facts:
        """Exactly one step of the optimiser."""
        with self._running() as pointer:
            Call().run(lib.usplit_trainer_step, pointer)
        return self.info

    def cancel(self) -> None:
        """From any thread: fit() stops at the end of its step, and raises Cancelled where it was called."""
        with self._lock:
            if not self.closed:
                lib.usplit_trainer_cancel(self._pointer)

    def save(self, path: str | os.PathLike) -> None:
        """Writes a model file from which the training can be resumed."""
        with self._running() as pointer:
            lib.usplit_trainer_save(pointer, _structs.text("path", path))

    @property
    def info(self) -> Facts:
        """Steps, losses, val_psnr, best_val_psnr, learning rate, seconds, memory."""
        with self._short() as pointer:
            return _structs.facts(_structs.ask(lib.usplit_trainer_info, _abi.usplit_trainer_facts, pointer))

    @property
    def epochs(self) -> list[Facts]:
        """One entry per finished epoch: step, loss, val_psnr, learning_rate, seconds, ..."""
        with self._short() as pointer:
            n = _structs.ask(lib.usplit_trainer_info, _abi.usplit_trainer_facts, pointer).epoch
            return [_structs.facts(_structs.ask(lib.usplit_trainer_get_epoch, _abi.usplit_trainer_epoch, pointer, i))
                    for i in range(n)]
