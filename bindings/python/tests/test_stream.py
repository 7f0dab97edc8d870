"""Images that come row by row: the same bits as from memory, in a bounded piece of it, and errors that arrive whole."""
import os
import subprocess
import sys

import numpy as np

from .common import PACKAGE, ROOT, Case, image, sampling, trained
import usplit


class Slices:
    """Anything with shape and slicing: no numpy array, and it tells how it was read."""

    def __init__(self, array, dtype=None):
        self.array, self.shape, self.most = array, array.shape, 0
        self.dtype = np.dtype(dtype or array.dtype)

    def __getitem__(self, at):
        got = self.array[at]
        self.most = max(self.most, got.size)
        return got


class Target:
    def __init__(self, shape, dtype):
        self.array, self.shape, self.dtype, self.calls = np.zeros(shape, dtype), shape, np.dtype(dtype), 0

    def __setitem__(self, at, values):
        self.array[at] = values
        self.calls += 1


class Stream(Case):
    def test_same_bits_as_from_memory(self):
        for model in (trained(), sampling()):
            x = image(300, 75)
            expected = model.split(x, samples=2, seed=4, residual=True)
            source = Slices(x)
            got = model.split(source, samples=2, seed=4, residual=True)
            self.assertSame(got.channels, expected.channels)
            self.assertSame(got.residual, expected.residual)
            self.assertEqual(got.info.tiles, expected.info.tiles)
            self.assertEqual(got.info.clipped_pixels, expected.info.clipped_pixels)
            self.assertLess(source.most, x.size)            # never the whole image

    def test_axes_and_types(self):
        stack = np.stack([image(seed=s) for s in range(4)])
        expected = trained().split(stack).channels
        for array, axes in ((stack.astype(np.uint16), "TYX"), (stack.astype(np.float64), "TYX"),
                            (stack.astype(np.int64), "ZYX"), (np.moveaxis(stack, 0, -1), "YXT"),
                            (stack.transpose(0, 2, 1), "TXY"), (stack[:, None], "TCYX"),
                            (stack.reshape(2, 2, 70, 90), "TZYX")):
            got = trained().split(Slices(array), axes)
            self.assertSame(got.channels.reshape(expected.shape), expected)

    def test_targets(self):
        x = image(300, 75)
        for dtype in ("float32", "uint16", "uint8"):
            expected = trained().split(x, dtype=dtype)
            out, rest = Target((2, 300, 75), dtype), Target((300, 75), np.float32)
            got = trained().split(Slices(x), out=out, residual=rest)
            self.assertSame(out.array, expected.channels)
            self.assertEqual(got.info.saturated_pixels, expected.info.saturated_pixels)
            self.assertGreater(out.calls, 1)
            again = Target((2, 300, 75), dtype)             # of an image in memory, too
            self.assertIs(trained().split(x, out=again).channels, again)
            self.assertSame(again.array, expected.channels)
            self.assertSame(trained().split(Slices(x), dtype=dtype).channels, expected.channels)
        with self.assertRaisesRegex(TypeError, "dtype is int16"):
            trained().split(Slices(x), out=Target((2, 300, 75), np.int16))

    def test_functions(self):
        x = image(200, 75)
        out, rows = np.zeros((2, 200, 75), np.float32), []

        def write(row, planes):
            rows.append((row, planes.shape[1]))
            self.assertFalse(planes.flags.writeable)
            out[:, row:row + planes.shape[1]] = planes

        facts = trained().tiler().stream(lambda row, n: x[row:row + n], write, 200, 75)
        self.assertSame(out, trained().split(x).channels)
        self.assertEqual(rows[0][0], 0)
        self.assertEqual([r + n for r, n in rows], [r for r, _ in rows[1:]] + [200])       # in order, once
        self.assertGreater(facts.seconds, 0)

    def test_memory_grows_with_the_width_only(self):
        plan = trained().tiler().plan
        self.assertEqual(plan(1000, 512).host_bytes, plan(100000, 512).host_bytes)

    def test_errors_arrive_as_they_are(self):
        tiler = trained().tiler()
        x = image(200, 75)

        def lost(row, n):
            if row > 50:
                raise ConnectionError("row %d is gone" % row)
            return x[row:row + n]

        def full(row, planes):
            raise OSError(28, "disk full")

        for read, write, kind, line in ((lost, lambda *a: None, ConnectionError, "is gone"),
                                        (lambda row, n: x[row:row + n], full, OSError, "disk full"),
                                        (lambda row, n: x[row], full, usplit.ArgumentError, "returned 75 pixels"),
                                        (lambda row, n: "text", full, usplit.ArgumentError, "returned  pixels")):
            with self.assertRaisesRegex(kind, line):
                tiler.stream(read, write, 200, 75)
        for pixels, line in (("x", "dtype <U1"), (1j, "dtype complex128"), (np.ma.masked, "a mask")):
            with self.assertRaisesRegex(TypeError, r"read\(0, \d+\) has %s; accepted: real numbers" % line):
                tiler.stream(lambda row, n: np.ma.array(np.zeros((n, 75)), mask=True) if pixels is np.ma.masked else
                             np.full((n, 75), pixels), full, 200, 75)
        with self.assertRaisesRegex(usplit.NumericError, "row"):
            tiler.stream(lambda row, n: np.full((n, 75), np.inf), full, 200, 75)
        self.assertSame(tiler.split(x).channels, trained().split(x).channels)      # still usable

    def test_progress_counts_all_frames(self):
        seen = []
        trained().split(Slices(np.stack([image()] * 3)), progress=seen.append)
        self.assertEqual({p.total for p in seen}, {seen[0].total})
        self.assertEqual([p.done for p in seen], sorted(p.done for p in seen))
        self.assertEqual(seen[-1].done, seen[-1].total)

    def test_example(self):
        """examples/python/split_large.py on files that are mapped into memory."""
        folder = self.folder()
        x = image(500, 130).astype(np.uint16)
        np.save(folder / "in.npy", x)
        trained().save(folder / "model.h5")
        done = subprocess.run([sys.executable, ROOT / "examples/python/split_large.py", folder / "model.h5",
                               folder / "in.npy", folder / "out.npy"], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "PYTHONPATH": str(PACKAGE), "USPLIT_LIBRARY": usplit.library_path})
        self.assertEnded(done)
        expected = usplit.Model.load(folder / "model.h5").split(x).channels
        self.assertSame(np.load(folder / "out.npy"), expected)

    def test_dask_example(self):
        """examples/python/split_dask.py: chunks of any height, each computed once, and the split of the whole."""
        try:
            import dask.array as da
        except ImportError:
            self.skipTest("dask is not installed")
        sys.path.insert(0, str(ROOT / "examples/python"))
        self.addCleanup(sys.path.pop, 0)
        import split_dask
        x = image(200, 130)
        model = trained()
        target = np.zeros((model.info.channels, 200, 130), np.float32)
        array = da.from_array(x, chunks=((7, 64, 100, 29), (50, 80)))
        facts, source = split_dask.split_dask(model, array, target, progress=None)
        self.assertSame(target, model.split(x).channels)
        self.assertGreater(target.std(), 0)
        self.assertEqual(source.computed, 4)
        rows = split_dask.ChunkRows(array, keep=1)
        self.assertSame(rows.rows(3, 180), x[3:183])
