"""How close a prediction is to a target."""
from __future__ import annotations

import ctypes

import numpy as np

from . import _abi, _arrays, _structs
from ._library import lib
from ._structs import Facts


def compare(target: np.ndarray, prediction: np.ndarray, axes: str = "YX") -> Facts:
    """ri_psnr (range-invariant PSNR, dB), psnr, ssim, rmse of one plane against another."""
    views = []
    for name, array in (("target", target), ("prediction", prediction)):
        _arrays.check_array(array, name)
        views.append(_arrays.view(array, _arrays.Axes(array.shape, axes, name), name))
    return _structs.facts(_structs.ask(lib.usplit_image_compare, _abi.usplit_image_quality,
                                       ctypes.byref(views[0][0]), ctypes.byref(views[1][0])))
