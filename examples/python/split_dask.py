#!/usr/bin/env python3
"""Splits a Dask array that is larger than memory, without map_overlap.

    split_dask.py MODEL OUTPUT.npy [HEIGHT]

The tiler asks for rows, with the surroundings that its tiles need, so that chunks need no overlap and seams do not depend
on them. Every row of chunks is computed once and kept as long as rows of it are asked for. The image here is made up
by Dask; dask.array.from_zarr, from_array (h5py) or dask_image.imread give real ones.
"""
import sys
from collections import OrderedDict

import numpy as np

import usplit


class ChunkRows:
    """Rows of a Dask array; the last few rows of chunks that were computed are kept."""

    def __init__(self, array, keep=4):
        self.array, self.keep, self.computed, self.held = array, keep, 0, OrderedDict()
        self.ends = np.cumsum(array.chunks[0])

    def chunk(self, index):
        if index not in self.held:
            self.held[index] = self.array.blocks[index].compute()
            self.computed += 1
            if len(self.held) > self.keep:
                self.held.popitem(last=False)
        self.held.move_to_end(index)
        return self.held[index]

    def rows(self, first, n):
        parts, row = [], first
        while row < first + n:
            index = int(np.searchsorted(self.ends, row, side="right"))
            start = int(self.ends[index]) - self.array.chunks[0][index]
            end = min(first + n, int(self.ends[index]))
            parts.append(self.chunk(index)[row - start:end - start])
            row = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def split_dask(model, array, target, progress=True, **options):
    """array: rows x columns; target: channels x rows x columns, anything that takes slices. Returns facts, source."""
    source = ChunkRows(array)

    def write(row, planes):
        target[:, row:row + planes.shape[1], :] = planes

    facts = model.tiler(**options).stream(source.rows, write, *array.shape, progress=progress)
    return facts, source


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit("use: split_dask.py MODEL OUTPUT.npy [HEIGHT]")
    try:
        import dask.array as da
    except ImportError:
        sys.exit("split_dask.py needs Dask: pip install dask")
    height, width = int(sys.argv[3]) if len(sys.argv) == 4 else 4096, 1024
    model = usplit.Model.load(sys.argv[1])
    y, x = da.arange(height, chunks=256)[:, None], da.arange(width, chunks=512)[None, :]
    waves = da.sin(y / 9) + da.cos(x / 5 + y / 40)              # as bright as what the model knows
    image = (model.info.input_mean + model.info.input_deviation * waves).astype("float32")
    target = np.lib.format.open_memmap(sys.argv[2], "w+", np.float32, (model.info.channels,) + image.shape)
    facts, source = split_dask(model, image, target)
    print("%d tiles in %.1f s; %d rows of chunks, %d computed" %
          (facts.tiles, facts.seconds, image.numblocks[0], source.computed))


if __name__ == "__main__":
    main()
