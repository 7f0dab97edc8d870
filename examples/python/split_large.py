#!/usr/bin/env python3
"""Splits an image that is larger than memory, row by row, from and to anything that takes slices.

    split_large.py MODEL INPUT OUTPUT

Files that end in .npy are mapped into memory by NumPy; .zarr is opened with zarr, if that is installed. In a program
of your own, hand any object with `shape` and slicing to split_large(): an h5py or zarr array, a Dask array, a slide
reader of yours. No neighbourhoods need to be passed around (map_overlap and its kin): the tiler itself asks for the
rows it wants, those around a tile included, and an object's rows are fetched when they are asked for. A row may be
fetched more than once, so pieces (chunks) that are wide and low serve best.
"""
import sys

import numpy as np

import usplit


def split_large(model, source, target, **options):
    """source: rows x columns; target: channels x rows x columns. Memory grows with the width of the image only."""
    height, width = source.shape
    tiler = model.tiler(**options)

    def read(row, n_rows):
        return np.asarray(source[row:row + n_rows, :])

    def write(row, planes):
        target[:, row:row + planes.shape[1], :] = planes

    print("%d bytes of memory" % tiler.plan(height, width).host_bytes)
    return tiler.stream(read, write, height, width, progress=True)


def open_source(name):
    if name.endswith(".npy"):
        return np.load(name, mmap_mode="r")
    import zarr
    return zarr.open(name, mode="r")


def open_target(name, shape):
    if name.endswith(".npy"):
        return np.lib.format.open_memmap(name, "w+", np.float32, shape)
    import zarr
    return zarr.open(name, mode="w", shape=shape, dtype="float32", chunks=(1, 64, shape[2]))


def main():
    if len(sys.argv) != 4:
        sys.exit("use: split_large.py MODEL INPUT OUTPUT")
    model = usplit.Model.load(sys.argv[1])
    source = open_source(sys.argv[2])
    target = open_target(sys.argv[3], (model.info.channels,) + source.shape)
    facts = split_large(model, source, target)
    print("%d tiles in %.1f s" % (facts.tiles, facts.seconds))


if __name__ == "__main__":
    main()
