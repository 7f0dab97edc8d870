"""Double-DIP: one image taken apart without training, the unsupervised baseline."""
from __future__ import annotations

import ctypes
from typing import Sequence

import numpy as np

from . import _abi, _arrays, _progress, _structs
from ._arrays import Axes
from ._calls import Call
from ._context import Context
from ._errors import Cancelled
from ._handles import expect
from ._library import lib
from ._tiler import Result


def dip(mixtures: np.ndarray, axes: str | None = None, *, iterations: int | None = None, seed: int | None = None,
        max_seconds: float | None = None, learning_rate: float | None = None, exclusion_weight: float | None = None,
        mode: str | None = None, out: np.ndarray | None = None, context: Context | None = None,
        progress: _progress.Progress = None) -> Result:
    """Splits one image, or two mixtures of the same structures in different proportions, into two estimates, by
    optimising two small networks on it: minutes to hours. Which estimate is which structure is not determined, and
    neither are offset and scale: compare with compare_pair.

    mixtures    rows x columns, or 1 or 2 channels of it ("CYX"); sides of 65 to 4096
    iterations  left out: 4000 with two mixtures, 8000 with one
    seed        of the networks and their noise (0)
    max_seconds stop at the end of the iteration that passes it, without an error
    mode        "single" or "two": to insist on a number of mixtures
    out         an array of 2 x rows x columns for the estimates
    context     of the CPU; left out: one with one thread. A run uses one thread: run several images in threads
    progress    True: shown; or a function of the facts of usplit_progress, which stops the call by returning False.
                The Cancelled that is raised then has a `result`, the best so far; out holds it after any exception of
                the function and after Ctrl-C

    The result has two channels and info: iterations, best_iteration, psnr (of the reconstruction), losses, share (of
    the first estimate in each mixture), low and high (grey levels taken for 0 and 1), bytes, seconds.
    """
    _arrays.check_array(mixtures, "mixtures")
    source = Axes(mixtures.shape, axes, "mixtures", {2: "YX", 3: "CYX"})
    struct = _structs.make(_abi.usplit_dip_options, dict(
        iterations=iterations, seed=seed, max_seconds=max_seconds, learning_rate=learning_rate,
        exclusion_weight=exclusion_weight, mode=mode), "dip")
    shape = (2,) + source.size
    if out is None:
        out = np.empty(shape, np.float32)
    _arrays.check_array(out, "out")
    _arrays.check_target(out, shape, "out", "CYX")
    src, _kept = _arrays.view(mixtures, source, "mixtures")
    dst, out = _arrays.view(out, Axes(shape, "CYX", "out"), "out", writable=True)
    made = Context("cpu", threads=1) if context is None else None
    where = made or expect(context, Context, "context")
    facts = _structs.empty(_abi.usplit_dip_result)

    def result() -> Result:
        return Result(out, "CYX", ["estimate1", "estimate2"], _structs.facts(facts))

    try:
        with _progress.reporter(progress) as report:
            call = Call()
            call.run(lib.usplit_dip_run, where._pointer, ctypes.byref(src), ctypes.byref(dst),
                     ctypes.byref(struct), ctypes.byref(facts), _progress.callback(call, report), None)
    except Cancelled as stop:
        stop.result = result()      # type: ignore[attr-defined]
        raise
    finally:
        if made is not None:
            made.close()
    return result()


def dip_mix(pair: np.ndarray, mix: Sequence[float] = (0.5, 0.3), axes: str = "CYX") -> np.ndarray:
    """Mixtures of two known structures to try dip() on, as many as there are shares: mix[i] * first + (1 - mix[i]) *
    second, float32, channels x rows x columns."""
    _arrays.check_array(pair, "pair")
    layout = Axes(pair.shape, axes, "pair")
    shares = _structs.reals("mix", mix)
    if len(shares) not in (1, 2):
        raise _arrays.shape_error("mix has %d numbers; accepted: 1 or 2, one per mixture" % len(shares))
    struct = _structs.make(_abi.usplit_dip_options, {}, "dip_mix")
    for i, share in enumerate(shares):
        struct.mix[i] = share
    out = np.empty((len(shares),) + layout.size, np.float32)
    src, _kept = _arrays.view(pair, layout, "pair")
    dst, out = _arrays.view(out, Axes(out.shape, "CYX", "out"), "out", writable=True)
    lib.usplit_dip_mix(ctypes.byref(src), ctypes.byref(dst), ctypes.byref(struct))
    return out
