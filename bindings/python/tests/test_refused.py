"""Odd input to every function: refused by an exception of the right kind, whose one line names the value and what is
accepted. Nothing is cut to size, converted or left unread on the quiet, and nothing crashes."""
import math

import numpy as np

from .common import TRAINING, Case, context, dataset, fresh, image, sampling, trained
import usplit

KINDS = (usplit.Error, ValueError, TypeError)
NAN = math.nan


def pair():
    return np.stack([image(), image(seed=1)])


# What is no array of pixels; and arrays of pixels that the library does not read.
NO_ARRAYS = [None, 5, "text", [[1, 2]], (1, 2), NAN]
OTHER_TYPES = [np.float64, ">f4", ">u2", np.int8, bool, complex, object, "U3"]


class Refused(Case):
    def refused(self, line, call, kind=KINDS):
        with self.assertRaisesRegex(kind, line) as caught:
            call()
        self.assertNotIn("\n", str(caught.exception))
        self.assertLess(len(str(caught.exception)), 300)


class Arrays(Refused):
    """Every argument that is an array: its name in messages, a call with it, an array that is accepted."""

    def takers(self):
        x, two, planes = image(), pair(), trained().split(image()).channels
        return [
            ("image", trained().split, x),
            ("out", lambda a: trained().split(x, out=a), planes),
            ("target", lambda a: usplit.compare(a, x), x),
            ("prediction", lambda a: usplit.compare(x, a), x),
            ("target", lambda a: usplit.compare_pair(a, two), two),
            ("prediction", lambda a: usplit.compare_pair(two, a), two),
            ("plane", lambda a: usplit.seams(a, 16), x),
            ("image", lambda a: usplit.residual(a, two), x),
            ("channels", lambda a: usplit.residual(x, a), two),
            ("mixtures", lambda a: usplit.dip(a, iterations=1), two),
            ("out", lambda a: usplit.dip(two, iterations=1, out=a), np.zeros((2, 70, 90), np.float32)),
            ("pair", usplit.dip_mix, two),
            (r"(arrays|images)\[1\]", lambda a: usplit.Dataset.from_arrays([np.stack([x] * 6), a], levels=2,
                                                                          context=context()), np.stack([x + 1] * 6)),
        ]

    def test_no_arrays_and_other_types(self):
        for name, call, good in self.takers():
            call(good.copy())
            for odd in NO_ARRAYS:
                if not (odd is None and name == "out"):
                    self.refused("^%s is a .*; accepted: " % name, lambda: call(odd), TypeError)
            for dtype in OTHER_TYPES:
                self.refused("^%s has dtype .*; accepted: uint8, uint16, float32" % name,
                             lambda: call(good.astype(dtype)), TypeError)
            self.refused("^%s is a MaskedArray; accepted" % name, lambda: call(np.ma.masked_array(good, good > 9)))

    def test_shapes(self):
        for name, call, good in self.takers():
            for odd in (good[..., 0], good[None, None], np.array(1, np.float32), good[..., :0], good[:0]):
                self.refused("^%s( is| has|:) .*(accepted|axes)" % name, lambda: call(odd), usplit.ArgumentError)

    def test_pixels_that_are_not_finite(self):
        for name, call, good in self.takers():
            if name != "out":
                for odd in (NAN, math.inf, -math.inf):
                    array = good.copy()
                    array[(1,) * (good.ndim - 2) + (3, 4)] = odd
                    self.refused("row 3, column 4 is -?(nan|inf); accepted: finite", lambda: call(array),
                                 usplit.NumericError)

    def test_strides_do_not_matter(self):
        x, two = image(), pair()
        wide = np.zeros((140, 270), np.float32)
        wide[1::2, ::3] = x
        last = np.ascontiguousarray(np.moveaxis(two, 0, -1))
        for same in (wide[1::2, ::3], np.asfortranarray(x), x[::-1, ::-1].copy()[::-1, ::-1], last[..., 0]):
            self.assertEqual(usplit.compare(same, two[1]), usplit.compare(x, two[1]))
            self.assertEqual(usplit.seams(same, 16), usplit.seams(x, 16))
            self.assertEqual(usplit.residual(same, two), usplit.residual(x, two))
        apart = np.moveaxis(last, -1, 0)
        self.assertEqual(usplit.compare_pair(apart, two), usplit.compare_pair(two, two))
        self.assertEqual(usplit.compare_pair(last, last, "YXC"), usplit.compare_pair(two, two))
        self.assertEqual(usplit.residual(x, last, channel_axes="YXC"), usplit.residual(x, two))
        self.assertSame(usplit.dip_mix(apart), usplit.dip_mix(two))

    def test_axes(self):
        x, two = image(), pair()
        takers = [(x, trained().split), (x, lambda a, axes: usplit.compare(a, x, axes)),
                  (two, lambda a, axes: usplit.compare_pair(two, a, axes)),
                  (x, lambda a, axes: usplit.seams(a, 16, axes=axes)),
                  (x, lambda a, axes: usplit.residual(a, two, axes)),
                  (two, lambda a, axes: usplit.residual(x, a, channel_axes=axes)),
                  (two, lambda a, axes: usplit.dip(a, axes, iterations=1)),
                  (two, lambda a, axes: usplit.dip_mix(a, axes=axes)),
                  (np.stack([two] * 6), lambda a, axes: usplit.Dataset.from_arrays(a, axes, context=context()))]
        for array, call in takers:
            for axes in ("Q" * array.ndim, "YX"[:array.ndim - 1] + "Y" * (array.ndim - 1), "", "CYXTZ", "Y"):
                self.refused("axes", lambda: call(array, axes), usplit.ArgumentError)
            for axes in (5, 1.5, ["Y", "X"], b"YX", x):
                self.refused("axes is .*; accepted: a letter for each axis", lambda: call(array, axes), TypeError)

    def test_results(self):
        """Where integers would cut a residual or a deviation, and where nothing can be written."""
        x = image()
        for name, call, shape in (
                ("residual", lambda a: trained().split(x, residual=a), (70, 90)),
                ("std", lambda a: sampling().split(x, samples=2, std=a), (2, 70, 90)),
                ("out", lambda a: usplit.Residual(90, 2).add(x, pair(), a), (70, 90))):
            for odd in (5, "text", [1.0]):
                self.refused("^%s is a .*; accepted: " % name, lambda: call(odd), TypeError)
            for dtype in (np.uint8, np.int32, bool, object):
                self.refused("^%s has dtype .*; accepted: float32" % name, lambda: call(np.zeros(shape, dtype)),
                             TypeError)
            self.refused(r"^%s is \(1, 1\); accepted: \(" % name, lambda: call(np.zeros((1, 1), np.float32)))
            fixed = np.zeros(shape, np.float32)
            fixed.flags.writeable = False
            self.refused("^%s is read-only" % name, lambda: call(fixed), usplit.ArgumentError)
            call(np.zeros(shape, np.float64))
        self.refused("^out has dtype uint8; accepted: float32", lambda: usplit.residual(
            x, pair(), out=np.zeros((70, 90), np.uint8)), TypeError)
        self.refused("std is asked of a tiler without deviations", lambda: trained().tiler().split(x, std=True))
        self.refused("deviations is 1 .*samples or shifts", lambda: sampling().split(x, std=True))

    def test_what_functions_return(self):
        x = image(70, 90)
        tiler = trained().tiler()
        for odd, line in ((x[:, :3], "returned .* pixels; accepted: "), (x.astype(complex), "dtype complex"),
                          (np.ma.masked_array(x, x > 3), "a mask"), (x.astype("U3"), "dtype <U3"), (None, "returned")):
            self.refused(r"^read\(0, 70\) .*" + line, lambda: tiler.stream(lambda r, n: odd, print, 70, 90))
            self.refused(r"^read\(0, 0\) .*" + line, lambda: usplit.Dataset.from_reader(
                lambda f, c: odd, 6, 2, (70, 90), levels=2, context=context()))
        for odd in (5, (1, 2, 3), "ab", None, (70, 1.5), (70, None)):
            for size in (odd, lambda frame: odd):
                self.refused("^frame_size .*(accepted|height)", lambda: usplit.Dataset.from_reader(
                    lambda f, c: x, 6, 2, size, context=context()))
        rows, planes = x[:4], pair()[:, :4]
        for odd, line in ((rows[:, 1:], r"rows is \(4, 89\); accepted"), (rows[0], "rows is"),
                          (rows.astype(complex), "rows has dtype complex"),
                          (np.ma.masked_array(rows, rows > 3), "rows has a mask")):
            self.refused(line, lambda: usplit.Residual(90, 2).add(odd, planes))
        for odd, line in ((planes[:1], "planes is"), (planes[:, 1:], "planes is"),
                          (planes.astype(object), "planes has"), (planes * NAN, "planes: value 0 is nan")):
            self.refused(line, lambda: usplit.Residual(90, 2).add(rows, odd))
        self.refused("n_rows is 0; accepted", lambda: usplit.Residual(90, 2).add(rows[:0], planes[:, :0]))


class Numbers(Refused):
    def test_integers(self):
        """No fraction is dropped, and no number is cut to the size of a field."""
        x, two = image(), pair()
        tiler, data, model = trained().tiler(), dataset(), trained()
        takers = {
            "tile": lambda v: usplit.seams(x, v), "row": lambda v: usplit.seams(x, 16, v),
            "column": lambda v: usplit.seams(x, 16, 0, v), "width": lambda v: usplit.Residual(v, 2),
            "channels": lambda v: usplit.Residual(90, v), "height": lambda v: tiler.plan(v, 90),
            "frame": lambda v: data.frame(v, 0), "channel": lambda v: data.frame(0, v),
            "level": lambda v: data.frame(0, 0, v), "batch": lambda v: model.plan("train", v),
            "inner": lambda v: model.plan("predict", 1, v), "samples": lambda v: model.split(x, samples=v),
            "shifts": lambda v: model.split(x, shifts=v), "seed": lambda v: model.split(x, seed=v),
            "calibrated": lambda v: model.split(x, calibrated=v),
            "iterations": lambda v: usplit.dip(two, iterations=v),
            "first_tile_row": lambda v: tiler.stream(lambda r, n: x[r:r + n], lambda *a: None, 70, 90,
                                                     first_tile_row=v),
            "n_tile_rows": lambda v: tiler.stream(lambda r, n: x[r:r + n], lambda *a: None, 70, 90, n_tile_rows=v),
            "levels": lambda v: usplit.Model.create(levels=v, context=context()),
            "z_dims": lambda v: fresh(z_dims=[v]), "max_epochs": lambda v: usplit.Trainer(fresh(), data, max_epochs=v),
            "n_frames": lambda v: usplit.Dataset.critters(n_frames=v, context=context()),
            "train_frames": lambda v: usplit.Dataset.critters(n_frames=6, train_frames=[v], context=context()),
            "threads": lambda v: usplit.Context("cpu", threads=v),
        }
        for name, call in takers.items():
            for odd in (1.5, NAN, "5", b"5", [[1]], np.zeros((3, 3))):
                self.refused("^%s is .*; accepted: an integer" % name, lambda: call(odd), TypeError)
            for odd in (2 ** 64 + 1, -2 ** 64):
                self.refused("^%s is -?18446744073709551.*; accepted: " % name, lambda: call(odd), usplit.ArgumentError)

    def test_reals(self):
        x, two = image(), pair()
        takers = {
            "clip_value": lambda v: usplit.residual(x, two, clip_value=v), "weights": lambda v: usplit.residual(
                x, two, weights=[1, v]), "mix": lambda v: usplit.dip_mix(two, [v]),
            "learning_rate": lambda v: usplit.dip(two, learning_rate=v),
            "max_seconds": lambda v: usplit.dip(two, max_seconds=v),
            "input_mean": lambda v: fresh().set_normalisation(input_mean=v),
            "target_mean": lambda v: fresh().set_normalisation(
                clip_value=9, input_deviation=1, target_deviation=[1, 1], target_mean=[v, 1]),
            "weight_low": lambda v: usplit.Trainer(fresh(), dataset(), weight_low=[v]),
        }
        for name, call in takers.items():
            for odd in ("text", "0.5", b"1", 1j, [1], np.zeros((3, 3))):
                self.refused(r"^%s(\[\d\])? is .*; accepted: a number" % name, lambda: call(odd), TypeError)
            self.refused(r"^%s(\[\d\])? is (nan|NaN)" % name, lambda: call(NAN))
        for odd in (5, NAN, "ab"):
            self.refused("^weights is .*; accepted: a list of numbers", lambda: usplit.residual(x, two, weights=odd))
            self.refused("^mix is .*; accepted: a list of numbers", lambda: usplit.dip_mix(two, odd))
        self.refused("weights has 3 numbers; accepted: 2", lambda: usplit.Residual(9, 2, weights=[1, 2, 3]))
        self.refused("mix has 3 numbers; accepted: 1 or 2", lambda: usplit.dip_mix(two, [0.5, 0.3, 0.2]))
        self.refused("two different shares", lambda: usplit.dip_mix(two, (0.5, 0.5)))
        self.refused(r"mix\[0\] is 1.5; accepted: 0 to 1", lambda: usplit.dip_mix(two, [1.5]))

    def test_constants(self):
        """By their own names: `mode` of dip() is not that of plan()."""
        x, two, data, model = image(), pair(), dataset(), trained()
        takers = {
            ("mode", "'single', 'two'"): lambda v: usplit.dip(two, iterations=1, mode=v),
            ("mode", "'train', 'predict'"): lambda v: model.plan(v),
            ("set", "'all', 'train', 'validation', 'test'"): lambda v: data.frames(v),
            ("set", "'all', 'train'"): lambda v: sampling().calibrate(data, v, samples=2),
            ("latent", "'sample', 'mean'"): lambda v: model.split(x, latent=v),
            ("tiling", "'inner', 'outer'"): lambda v: model.split(x, tiling=v),
            ("cover", "'all', 'whole_tiles'"): lambda v: model.tiler(cover=v),
            ("family", "'hvae', 'hae'"): lambda v: fresh(family=v),
            ("variant", "'vanilla', 'lean'"): lambda v: fresh(variant=v),
            ("latent_scale", "'reference', 'paper', 'none'"): lambda v: fresh(latent_scale=v),
            ("padding", "'reflect', 'constant'"): lambda v: usplit.Dataset.from_arrays(
                np.stack([two] * 6), padding=v, context=context()),
            ("input", "'mean', 'sum', 'measured'"): lambda v: usplit.Dataset.critters(input=v, context=context()),
            ("precision", "'best', 'float32', 'float16'"): lambda v: usplit.Context("cpu", precision=v),
        }
        for (name, accepted), call in takers.items():
            for odd, kind in (("three", usplit.ArgumentError), ("", usplit.ArgumentError), (1.5, TypeError),
                              (b"two", TypeError), ([1], TypeError)):
                self.refused("^%s is .*; accepted: %s" % (name, accepted), lambda: call(odd), kind)
            self.refused("^%s is 4294967296; accepted" % name, lambda: call(2 ** 32), usplit.ArgumentError)
            self.refused("%s.* 99|99.*%s" % (name, name), lambda: call(99), usplit.Error)


class Others(Refused):
    def test_handles(self):
        for odd in (5, "model.h5", [1], trained(), dataset(), context()):
            if not isinstance(odd, usplit.Model):
                self.refused("^model is a .*; accepted: a usplit.Model", lambda: usplit.Trainer(odd, dataset()),
                             TypeError)
                self.refused("^model is a .*; accepted: a usplit.Model", lambda: usplit.Tiler(odd), TypeError)
            if not isinstance(odd, usplit.Dataset):
                self.refused("^dataset is a .*; accepted", lambda: usplit.Trainer(fresh(), odd), TypeError)
                self.refused("^dataset is a .*; accepted", lambda: sampling().calibrate(odd, samples=2), TypeError)
            if not isinstance(odd, usplit.Context):
                for call in (lambda: usplit.Model.load("x", context=odd), lambda: usplit.Model.create(context=odd),
                             lambda: usplit.Dataset.critters(context=odd),
                             lambda: usplit.dip(pair(), iterations=1, context=odd)):
                    self.refused("^context is a .*; accepted: a usplit.Context", call, TypeError)

    def test_functions_and_paths(self):
        x = image()
        for odd in (5, "print", [print]):
            self.refused("^read is a .*; accepted: a function", lambda: trained().tiler().stream(odd, print, 70, 90))
            self.refused("^write is a .*; accepted", lambda: trained().tiler().stream(lambda r, n: x, odd, 70, 90))
            self.refused("^read is a .*; accepted", lambda: usplit.Dataset.from_reader(odd, 6, 2, (70, 90)))
            self.refused("^log is a .*; accepted", lambda: usplit.Context("cpu", log=odd))
            self.refused("^progress is a .*; accepted", lambda: usplit.dip(pair(), iterations=1, progress=odd))
            self.refused("^progress is a .*; accepted", lambda: sampling().calibrate(dataset(), samples=2,
                                                                                     progress=odd))
        for odd in (5, 1.5, [1], x):
            self.refused("^path is .*; accepted: text or a path", lambda: usplit.Model.load(odd), TypeError)
            self.refused("^path is .*; accepted: text or a path", lambda: trained().save(odd), TypeError)
            self.refused("^file is .*; accepted", lambda: usplit.Dataset.open(odd), TypeError)
            self.refused("^resume is .*; accepted", lambda: usplit.Trainer(fresh(), dataset(), resume=odd), TypeError)
            self.refused("^last_file is .*; accepted", lambda: usplit.Trainer(fresh(), dataset(), **TRAINING,
                                                                              last_file=odd), TypeError)

    def test_names_and_parameters(self):
        model = fresh()
        for odd in (5, "ab", None):
            self.refused("^channel_names is .*; accepted: a list of names",
                         lambda: setattr(model, "channel_names", odd), TypeError)
        for odd in ([1, 2], ["a", None], ["a", "b\0c"], [b"a", b"b"]):
            self.refused("^channel_names has .* in it; accepted: text", lambda: setattr(model, "channel_names", odd))
        self.refused("channel_names: .* has 64 bytes; accepted: up to 63",
                     lambda: setattr(model, "channel_names", ["x" * 64, "y"]))
        self.refused("^1 channel names; the model has 2", lambda: setattr(model, "channel_names", ["x"]))
        for odd in ("x", 5, None, [1], np.zeros(3)):
            self.refused("no parameter .*; accepted: a name in model.parameters", lambda: model.get_parameter(odd))
        name = next(iter(model.parameters))
        for odd in ("text", 1j, [["a"]]):
            self.refused("^values has dtype .*; accepted: real numbers", lambda: model.set_parameter(name, odd),
                         TypeError)

    def test_results_by_channel(self):
        result = trained().split(image())
        for odd in (1.5, None, [1], b"x", slice(1)):
            self.refused("^channel is .*; accepted: a name or a number", lambda: result[odd], TypeError)
        self.assertSame(result[np.int64(1)], result.channels[1])

    def test_calibrations(self):
        for odd in (5, "text", {"slope": 1}, image()):
            self.refused("^calibration is a .*; accepted: what Model.calibrate returned, or None",
                         lambda: setattr(fresh(), "calibration", odd), TypeError)
        self.refused("calibration has no option 'gradient'; accepted: .*slope",
                     lambda: setattr(fresh(), "calibration", usplit.Facts(gradient=1)), TypeError)
        self.refused("no calibration", lambda: sampling().split(image(), samples=2, std=True, calibrated=True),
                     usplit.StateError)
        self.refused("deviations is 1 .*samples or shifts", lambda: sampling().calibrate(dataset()))
