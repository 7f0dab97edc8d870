"""Arrays of several types, strides and axes: nothing is copied, and the numbers do not depend on how pixels lie."""
import numpy as np

from .common import Case, context, dataset, image, sampling, trained
import usplit
from usplit import _tiler


class Spy:
    """The library's functions, with the views handed to usplit_tiler_run kept."""

    def __init__(self, functions):
        self._functions, self.views = functions, []

    def __getattr__(self, name):
        function = getattr(self._functions, name)
        if name != "usplit_tiler_run":
            return function

        def run(tiler, src, dst, *rest):
            self.views.append((src._obj, dst._obj))
            return function(tiler, src, dst, *rest)
        return run


class NoCopy(Case):
    def setUp(self):
        self.spy = _tiler.lib = Spy(_tiler.lib)
        self.addCleanup(setattr, _tiler, "lib", self.spy._functions)

    def handed(self, array, axes=None, **options):
        result = trained().split(array, axes, **options)
        src, dst = self.spy.views[-1]
        self.assertEqual(dst.data, result.channels.ctypes.data)
        return src

    def test_contiguous(self):
        for dtype in (np.uint8, np.uint16, np.float32):
            array = image().astype(dtype)
            src = self.handed(array)
            self.assertEqual(src.data, array.ctypes.data)
            self.assertEqual((src.stride_row, src.stride_column), (90 * array.itemsize, array.itemsize))

    def test_strided(self):
        big = np.repeat(image(), 2, 0)
        part = big[::-2, 3:-3]                      # upside down, every other row, without its margins
        src = self.handed(part)
        self.assertEqual(src.data, big.ctypes.data + (139 * 90 + 3) * 4)
        self.assertEqual((src.stride_row, src.stride_column), (-2 * 90 * 4, 4))
        turned = image().T
        src = self.handed(turned, "XY")
        self.assertEqual(src.data, turned.ctypes.data)
        self.assertEqual((src.height, src.width, src.stride_row), (70, 90, 90 * 4))

    def test_stacks(self):
        stack = np.stack([image(seed=s) for s in range(6)])
        src = self.handed(stack[1::2])
        frame = 70 * 90 * 4
        self.assertEqual((src.data, src.frames, src.stride_frame), (stack.ctypes.data + frame, 3, 2 * frame))
        both = stack.reshape(2, 3, 70, 90)          # two axes of frames that one stride walks over
        src = self.handed(both, "TZYX")
        self.assertEqual((src.data, src.frames, src.stride_frame), (both.ctypes.data, 6, 70 * 90 * 4))

    def test_read_only_and_memory_mapped(self):
        array = image()
        array.flags.writeable = False
        self.assertEqual(self.handed(array).data, array.ctypes.data)
        mapped = np.memmap(self.folder() / "image.raw", np.uint16, "w+", shape=(70, 90))
        mapped[...] = image()
        self.assertEqual(self.handed(mapped).data, mapped.ctypes.data)

    def test_result_goes_to_the_callers_array(self):
        whole = np.zeros((70, 90, 2), np.float32)
        planes = np.moveaxis(whole, -1, 0)          # channel fastest
        result = trained().split(image(), out=planes)
        self.assertIs(result.channels, planes)
        self.assertSame(np.ascontiguousarray(planes), trained().split(image()).channels)


class Numbers(Case):
    def setUp(self):
        self.image = image()
        self.expected = trained().split(self.image).channels

    def test_types(self):
        for dtype in (np.uint8, np.uint16, np.float32):
            self.assertSame(trained().split(self.image.astype(dtype)).channels, self.expected)

    def test_strides(self):
        wide = np.zeros((140, 270), np.float32)
        wide[1::2, ::3] = self.image
        self.assertSame(trained().split(wide[1::2, ::3]).channels, self.expected)
        self.assertSame(trained().split(np.asfortranarray(self.image)).channels, self.expected)
        self.assertSame(trained().split(self.image[::-1, ::-1].copy()[::-1, ::-1]).channels, self.expected)

    def test_axes(self):
        split = trained().split
        self.assertSame(split(np.ascontiguousarray(self.image.T), "XY").channels, self.expected)
        self.assertSame(split(self.image[..., None], "YXC").channels, self.expected)
        for axes, shape, letters in (("TYX", (3, 70, 90), "TCYX"), ("ZYX", (3, 70, 90), "ZCYX"),
                                     ("TCYX", (3, 1, 70, 90), "TCYX"), ("TZYX", (3, 2, 70, 90), "TZCYX"),
                                     ("yxt", (70, 90, 3), "TCYX")):
            array = np.empty(shape, np.float32)
            letter = axes.upper().index
            view = np.moveaxis(array, (letter("Y"), letter("X")), (-2, -1))
            view[...] = self.image
            result = split(array, axes)
            self.assertEqual(result.axes, letters)
            for frame in result.channels.reshape(-1, 2, 70, 90):
                self.assertSame(frame, self.expected)

    def test_frames_that_no_stride_walks_over(self):
        stack = np.stack([image(seed=s) for s in range(6)]).reshape(2, 3, 70, 90)
        apart = np.transpose(stack, (1, 0, 2, 3))
        result = trained().split(apart, "ZTYX")
        self.assertEqual((result.axes, result.channels.shape), ("ZTCYX", (3, 2, 2, 70, 90)))
        for z in range(3):
            for t in range(2):
                self.assertSame(result.channels[z, t], trained().split(stack[t, z]).channels)
        around = np.ascontiguousarray(np.moveaxis(stack, 1, -1))           # frames before and after the pixels
        result = trained().split(around, "TYXZ", residual=True)
        self.assertEqual((result.axes, result.channels.shape), ("TZCYX", (2, 3, 2, 70, 90)))
        self.assertSame(result.channels[1, 2], trained().split(stack[1, 2]).channels)
        self.assertSame(result.residual[1, 2], trained().split(stack[1, 2], residual=True).residual)
        with self.assertRaisesRegex(usplit.ArgumentError, "out: its ZT axes do not follow each other"):
            trained().split(apart, "ZTYX", out=np.zeros((2, 3, 2, 70, 90), np.float32).transpose(1, 0, 2, 3, 4))

    def test_whole_numbers(self):
        for dtype in ("uint8", "uint16"):
            result = trained().split(self.image, dtype=dtype)
            rounded = np.clip(np.rint(self.expected), 0, np.iinfo(dtype).max).astype(dtype)
            self.assertSame(result.channels, rounded)
            self.assertEqual(result.info.saturated_pixels, int((self.expected < -0.5).sum()))
        self.assertEqual(trained().split(self.image.astype(np.uint8), dtype="same").channels.dtype, np.uint8)

    def test_residual(self):
        result = trained().split(self.image, residual=True)
        self.assertSame(result.channels, self.expected)
        self.assertEqual(result.residual.dtype, np.float32)
        # One rounding of the exact number: sums of two float32 in double precision are exact.
        clipped = np.minimum(self.image, np.float32(result.info.clip_value))
        self.assertLess(clipped.max(), self.image.max())
        exact = clipped.astype(np.float64) - self.expected.astype(np.float64).mean(0)
        self.assertSame(result.residual, exact.astype(np.float32))
        stack = np.stack([self.image, image(seed=1)]).astype(np.uint16)
        both = trained().split(stack, residual=True)
        self.assertEqual(both.residual.shape, (2, 70, 90))
        self.assertSame(both.residual[0], result.residual)
        turned = trained().split(np.ascontiguousarray(self.image.T), "XY", residual=True)
        self.assertSame(turned.residual, result.residual)

    def test_samples_and_seed(self):
        split, x = sampling().split, self.image
        one = split(x, seed=1).channels
        self.assertSame(one, split(x, seed=1).channels)
        self.assertFalse(np.array_equal(one, split(x, seed=2).channels))
        mean = split(x, samples=4, seed=1)
        self.assertEqual(mean.info.passes, 4 * mean.info.tiles)
        self.assertSame(split(x, latent="mean").channels, split(x, latent="mean", seed=7).channels)
        self.assertGreater(split(x, pad=12).info.tiles, split(x, pad=4).info.tiles)


class Refused(Case):
    def refused(self, kind, line, array, axes=None, **options):
        with self.assertRaisesRegex(kind, line) as caught:
            trained().split(array, axes, **options)
        self.assertNotIn("\n", str(caught.exception))

    def test_axes(self):
        x = image()
        self.refused(usplit.ArgumentError, "has 2 axes, .* and axes is 'TYX'", x, "TYX")
        for axes in ("YY", "QX", "TX", "Y1"):
            self.refused(usplit.ArgumentError, "accepted: Y and X, and any of T, Z, C, each once", x, axes)
        self.refused(usplit.ArgumentError, "4 axes: say which", x[None, None])
        self.refused(usplit.ArgumentError, "2 channels along C; accepted: 1", np.stack([x, x]), "CYX")
        self.refused(usplit.ArgumentError, r"image is \(0, 70, 90\); accepted: 1 or more along each axis",
                     np.empty((0, 70, 90), np.float32))

    def test_types(self):
        x = image()
        for dtype in (np.float64, np.int32, np.int16, ">u2", ">f4", bool, complex):
            self.refused(TypeError, "accepted: uint8, uint16, float32", x.astype(dtype))
        self.refused(TypeError, "without a mask", np.ma.masked_array(x, x > 3))
        self.refused(TypeError, "is a list", x.tolist())
        self.refused(TypeError, "dtype is 'int16'; accepted: float32", x, dtype="int16")
        self.refused(TypeError, "progress is a str", x, progress="yes")

    def test_pixels(self):
        x = image()
        x[3, 4] = np.nan
        self.refused(usplit.NumericError, "row 3, column 4", x)

    def test_results(self):
        x = image()
        self.refused(usplit.ArgumentError, r"out is \(3, 70, 90\); accepted: \(2, 70, 90\), axes CYX", x,
                     out=np.zeros((3, 70, 90), np.float32))
        fixed = np.zeros((2, 70, 90), np.float32)
        fixed.flags.writeable = False
        self.refused(usplit.ArgumentError, "out is read-only", x, out=fixed)
        self.refused(TypeError, "out has dtype float64", x, out=np.zeros((2, 70, 90)))
        self.refused(usplit.ArgumentError, r"residual is \(3,\)", x, residual=np.zeros(3, np.float32))

    def test_options(self):
        x = image()
        self.refused(TypeError, "Tiler has no option 'sample'; accepted: .*samples", x, sample=3)
        self.refused(TypeError, "samples is 1.5; accepted: an integer", x, samples=1.5)
        self.refused(usplit.ArgumentError, "samples is 4294967297; accepted: -2147483648 to 2147483647", x,
                     samples=2 ** 32 + 1)
        self.refused(usplit.ArgumentError, "seed is -1; accepted: 0 to 18446744073709551615", x, seed=-1)
        self.refused(usplit.ArgumentError, "latent is 'median'; accepted: 'sample', 'mean'", x, latent="median")
        self.refused(usplit.OutOfMemoryError, "memory_budget is 1000", x, memory_budget=1000)

    def test_status_groups(self):
        with self.assertRaises(usplit.FileError) as caught:
            usplit.Model.load(self.folder() / "nothing.h5", context=context())
        self.assertEqual(caught.exception.code, "USPLIT_ERR_FILE")
        self.assertIsInstance(caught.exception, OSError)
        self.assertIn("nothing.h5", str(caught.exception))
        damaged = self.folder() / "damaged.h5"
        trained().save(damaged)
        data = bytearray(damaged.read_bytes())
        data[len(data) // 2] ^= 255
        damaged.write_bytes(data)
        with self.assertRaises(usplit.FileError) as caught:
            usplit.Model.load(damaged, context=context())
        self.assertEqual((caught.exception.status, caught.exception.code), (31, "USPLIT_ERR_FORMAT"))
        with self.assertRaisesRegex(usplit.ArgumentError, "levels") as caught:
            usplit.Model.create(levels=99, context=context())
        self.assertIsInstance(caught.exception, ValueError)
        with self.assertRaisesRegex(usplit.ArgumentError, "levels"):
            usplit.Trainer(usplit.Model.create("hae", levels=4, patch=64, filters=8, z_dims=8, context=context()),
                           dataset())
        with self.assertRaises(usplit.Error):
            usplit.Context("abacus")
        with self.assertRaisesRegex(usplit.ArgumentError, "zero byte"):
            usplit.Model.load("a\0b", context=context())
