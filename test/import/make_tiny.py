"""Writes the checkpoint that the tests without PyTorch read, test/data/import_tiny.ckpt: a Lean-LC of one level.

    python3 test/import/make_tiny.py test/data/import_tiny.ckpt

Element i of the parameter NAME is ((31 s + 7 i) mod 97 - 48) / 64, s the sum of the name's bytes; a running variance is
((31 s + 7 i) mod 97 + 1) / 64, a counter s.
"""
import sys

import numpy
import torch

import published


def values(name, shape):
    s = sum(name.encode())
    if name.endswith("num_batches_tracked"):
        return torch.tensor(s)
    i = numpy.arange(int(numpy.prod(shape, dtype=int)))
    low = 1 if name.endswith("running_var") else -48
    return torch.tensor((((31 * s + 7 * i) % 97 + low) / 64).reshape(shape), dtype=torch.float32)


class Config(dict):
    """Not to be known where the file is read."""


if __name__ == "__main__":
    sd = published.state([])
    for name, shape in published.lvae(1, 1, 2, 2, 16, False):
        sd[name] = values(name, shape)
    config = Config(data=Config(image_size=16), model=Config(nonlin="relu", predict_logvar="pixelwise"))
    torch.save(published.lightning(sd, hyper_parameters=Config(
        config=config, data_mean={"input": 15.0, "target": [10.0, 20.0]},
        data_std={"input": 6.5, "target": torch.tensor([3.0, 4.0])})), sys.argv[1])
