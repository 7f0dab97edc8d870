"""libusplit from Python: learn to split superimposed structures in fluorescence images, and split them.

    import usplit
    model = usplit.Model.load("model.h5")
    result = model.split(image)                 # image: rows x columns, uint8, uint16 or float32
    actin, nuclei = result

docs/python.md is the way in; usplit.h is the reference for every option and fact.
"""
from ._context import Context, default_context, devices
from ._dataset import Dataset
from ._dip import dip, dip_mix
from ._errors import (ArgumentError, Cancelled, DeviceError, Error, FileError, InternalError, NumericError,
                      OutOfMemoryError, StateError, UnusualInput)
from ._library import path as library_path
from ._library import version
from ._model import Model
from ._quality import Residual, compare, compare_pair, residual, seams
from ._structs import Facts
from ._tiler import Result, Tiler
from ._trainer import Trainer

__version__ = "0.1.0"
__all__ = ["ArgumentError", "Cancelled", "Context", "Dataset", "DeviceError", "Error", "Facts", "FileError",
           "InternalError", "Model", "NumericError", "OutOfMemoryError", "Residual", "Result", "StateError", "Tiler",
           "Trainer", "UnusualInput", "compare", "compare_pair", "default_context", "devices", "dip", "dip_mix",
           "library_path", "residual", "seams", "version"]
