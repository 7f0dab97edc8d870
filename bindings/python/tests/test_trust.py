"""How far a split can be trusted: deviations, residuals, calibration, the self-test, and the warning about unusual
images, each against numpy in double precision."""
import functools
import hashlib
import warnings

import numpy as np

from .common import TRAINING, Case, context, dataset, fresh, image, sampling, trained
from .test_stream import Slices, Target
import usplit

HALF_ULP = 2.0 ** -24       # of float32: one rounding, relative


class Deviations(Case):
    def test_over_samples_drawn_one_by_one(self):
        """The mean of m samples less that of m - 1 of the same seed is the m-th sample."""
        x, n = image(), 5
        means = [np.zeros((2, 70, 90))] + [sampling().split(x, samples=m, seed=3).channels.astype(np.float64)
                                           for m in range(1, n + 1)]
        drawn = np.stack([m * means[m] - (m - 1) * means[m - 1] for m in range(1, n + 1)])
        self.assertGreater(np.abs(drawn[1] - drawn[0]).max(), 0.1)
        for m in (2, n):
            result = sampling().split(x, samples=m, seed=3, std=True)
            # A mean is rounded once, of numbers below 2^5: a sample is off by 2 m roundings at most, and no deviation
            # by more than sqrt(m / (m - 1)) times that; its own rounding is far smaller.
            off = 2 * m * 32 * HALF_ULP * np.sqrt(m / (m - 1))
            self.assertLess(np.abs(means[m]).max(), 32)
            self.assertLess(np.abs(result.std - drawn[:m].std(axis=0, ddof=1)).max(), off)
            self.assertSame(result.channels, sampling().split(x, samples=m, seed=3).channels)
            self.assertEqual((result.std.dtype, result.std.shape), (np.float32, (2, 70, 90)))
            self.assertEqual(result.info.passes, m * result.info.tiles)

    def test_over_shifts(self):
        """Of two grids the first is that of a split without shifts, so it lies a deviation / sqrt(2) from the mean."""
        x = image()
        first, both = trained().split(x).channels.astype(np.float64), trained().split(x, shifts=2, std=True)
        self.assertGreater(both.std.max(), 0.01)
        np.testing.assert_allclose(both.std, np.sqrt(2) * np.abs(first - both.channels), atol=4 * 32 * HALF_ULP)

    def test_stacks_types_and_targets(self):
        """The same numbers, each in an array of its own, however pixels come and go."""
        stack = np.stack([image(seed=s) for s in range(4)])
        run = dict(samples=2, seed=1, std=True)
        single = [sampling().split(frame, **run) for frame in stack]
        means, deviations = np.stack([r.channels for r in single]), np.stack([r.std for r in single])
        self.assertTrue(single[0].std.flags.c_contiguous and single[0].channels.flags.c_contiguous)
        for array, axes in ((stack, "TYX"), (stack.astype(np.uint16), "TYX"), (stack.reshape(2, 2, 70, 90), "TZYX"),
                            (np.ascontiguousarray(np.moveaxis(stack, 0, -1)), "YXT"), (Slices(stack), "TYX")):
            result = sampling().split(array, axes, **run)
            for got, expected in ((result.channels, means), (result.std, deviations)):
                self.assertTrue(got.flags.c_contiguous and got.flags.owndata)
                self.assertSame(got.reshape(expected.shape), expected)
            self.assertEqual(result.info.tiles, 4 * single[0].info.tiles)
        rounded = sampling().split(stack, dtype="uint8", **run)
        self.assertSame(rounded.channels, np.clip(np.rint(means), 0, 255).astype(np.uint8))
        self.assertSame(rounded.std, deviations)
        self.assertEqual(rounded.info.saturated_pixels, int((means < -0.5).sum()))
        out, std = np.zeros((4, 2, 70, 90), np.float32), np.zeros((4, 2, 70, 90))
        result = sampling().split(stack, out=out, **{**run, "std": std})
        self.assertIs(result.std, std)
        self.assertSame(out, means)
        self.assertSame(std.astype(np.float32), deviations)
        slices = Target((4, 2, 70, 90), np.float32)         # takes slices, and is no array
        self.assertSame(sampling().split(stack, **{**run, "std": slices}).channels, means)
        self.assertSame(slices.array, deviations)

    def test_tiler_and_stream(self):
        x = image(200, 75)
        tiler = sampling().tiler(samples=2, deviations=1)
        expected = tiler.split(x)
        self.assertIsNotNone(expected.std)
        planes = np.zeros((4, 200, 75), np.float32)
        tiler.stream(lambda row, n: x[row:row + n],
                     lambda row, p: planes.__setitem__((slice(None), slice(row, row + p.shape[1])), p), 200, 75)
        self.assertSame(planes, np.concatenate([expected.channels, expected.std]))
        self.assertIsNone(sampling().split(x, samples=2).std)
        self.assertIsNone(sampling().split(x, samples=2, std=np.False_).std)

    def test_progress_counts_all_frames(self):
        seen = []
        sampling().split(np.stack([image()] * 3), samples=2, std=True, progress=seen.append)
        self.assertEqual({p.total for p in seen}, {seen[0].total})
        self.assertEqual([p.done for p in seen], sorted(p.done for p in seen))
        self.assertEqual(seen[-1].done, seen[-1].total)


class Residuals(Case):
    def exact(self, x, planes, model):
        """In double precision, rounded once."""
        weights = np.array(model.info.mixture_weight)
        clipped = np.minimum(np.asarray(x, np.float32), np.float32(model.info.clip_value)).astype(np.float64)
        return (clipped - np.tensordot(weights, planes.astype(np.float64), 1)).astype(np.float32)

    def test_of_a_split(self):
        model, x = trained(), image()
        self.assertLess(model.info.clip_value, x.max())
        expected = model.split(x, residual=True)
        exact = self.exact(x, expected.channels, model)
        self.assertSame(expected.residual, exact)
        # What usplit.residual and the program say, too.
        again = np.zeros((70, 90), np.float32)
        usplit.residual(x, expected.channels, weights=model.info.mixture_weight,
                        clip_value=expected.info.clip_value, out=again)
        self.assertSame(again, exact)
        self.assertSame(model.split(Slices(x), residual=True).residual, exact)
        self.assertSame(sampling().split(x, samples=2, std=True, residual=True).residual,
                        sampling().split(x, samples=2, residual=True).residual)

    def test_does_not_depend_on_the_type_of_the_channels(self):
        x = image()
        exact = trained().split(x, residual=True).residual
        for source in (x.astype(np.uint8), Slices(x.astype(np.uint8))):
            for dtype in ("uint8", "same", "float32"):
                result = trained().split(source, dtype=dtype, residual=True)
                self.assertSame(result.residual, exact)
        self.assertSame(trained().split(x.astype(np.uint8), dtype="uint8", residual=True).channels,
                        trained().split(x, dtype="uint8").channels)

    def test_targets(self):
        stack = np.stack([image(seed=s) for s in range(3)])
        expected = trained().split(stack, residual=True)
        self.assertTrue(expected.residual.flags.c_contiguous)
        for frame in range(3):
            self.assertSame(expected.residual[frame], self.exact(stack[frame], expected.channels[frame], trained()))
        double, slices = np.zeros((3, 70, 90)), Target((3, 70, 90), np.float32)
        self.assertIs(trained().split(stack, residual=double).residual, double)
        self.assertSame(double.astype(np.float32), expected.residual)
        trained().split(stack, residual=slices)
        self.assertSame(slices.array, expected.residual)
        turned = np.zeros((90, 70), np.float32).T
        trained().split(np.ascontiguousarray(stack[0].T), "XY", residual=turned)
        self.assertSame(turned, expected.residual[0])


@functools.lru_cache(maxsize=None)
def frames():
    return usplit.Dataset.critters(n_frames=24, size=64, n_curves=2, kinds=1, levels=3, seed=1,
                                   validation_fraction=0.25, context=context())


@functools.lru_cache(maxsize=None)
def learnt():
    """A variational model whose error grows with its deviations. Its calibration is a test's own."""
    model = fresh(family="hvae")
    usplit.Trainer(model, frames(), batch=8, learning_rate=0.003, max_steps=80, max_validation_patches=1).fit()
    return model


SAMPLES = 6


def fit(deviations, errors):
    """Slope and offset as published, but a bin weighs as many as its pixels."""
    low, high = deviations.min(), deviations.max()
    bins = np.minimum(((deviations - low) / (high - low) * 30).astype(int), 29)
    n = np.bincount(bins.ravel(), minlength=30)
    rms = [np.sqrt(np.bincount(bins.ravel(), (v ** 2).ravel(), 30)[n > 0] / n[n > 0]) for v in (deviations, errors)]
    kept = np.arange(30)[n > 0]
    kept = (np.cumsum(n)[kept] >= 1e-5 * n.sum()) & (np.cumsum(n[::-1])[::-1][kept] >= 1e-5 * n.sum())
    return np.polyfit(rms[0][kept], rms[1][kept], 1, w=np.sqrt(n[n > 0][kept]))


class Calibration(Case):
    def tearDown(self):
        learnt().calibration = None

    @staticmethod
    @functools.lru_cache(maxsize=None)
    def made():
        return learnt().calibrate(frames(), samples=SAMPLES)

    @staticmethod
    @functools.lru_cache(maxsize=None)
    def predicted():
        """Of every frame of the validation: input, truth, result."""
        model, data = learnt(), frames()
        out = []
        for f in data.frames("validation"):
            truth = np.stack([data.frame(f, c) for c in range(2)]).astype(np.float64)
            mixed = truth.mean(axis=0).astype(np.float32)
            out.append((mixed, truth, model.split(mixed, samples=SAMPLES, std=True)))
        return out

    def test_against_numpy(self):
        made = self.made()
        self.assertEqual((made.samples, made.shifts, made.pixels), (SAMPLES, 1, len(self.predicted()) * 64 * 64))
        for c in range(2):
            errors = np.stack([r.channels[c] - truth[c] for _, truth, r in self.predicted()])
            deviations = np.stack([r.std[c] for _, _, r in self.predicted()]).astype(np.float64)
            self.assertAlmostEqual(made.rmse[c] / np.sqrt((errors ** 2).mean()), 1, places=6)
            self.assertAlmostEqual(made.deviation[c] / np.sqrt((deviations ** 2).mean()), 1, places=6)
            # The library sorts pixels into bins by deviations that are rounded to 1 part in 2^8.
            slope, offset = fit(deviations, errors)
            self.assertGreater(slope, 0)
            self.assertAlmostEqual(made.slope[c] / slope, 1, delta=1 / 2 ** 8)
            self.assertAlmostEqual(made.offset[c], offset, delta=made.rmse[c] / 2 ** 8)
        self.assertIsNone(learnt().calibration)             # the model was not changed

    def test_usual_residual(self):
        figures = []
        for mixed, _, result in self.predicted():
            rest = np.minimum(mixed, learnt().info.clip_value) - result.channels.astype(np.float64).mean(axis=0)
            about = np.abs(rest - np.median(rest))
            scale = np.subtract(*np.percentile(mixed, (99.5, 0.5)))
            figures.append((1.482602218505602 * np.median(about) / scale, np.percentile(about, 99) / scale))
        score, tail = np.mean(figures, axis=0)
        self.assertAlmostEqual(self.made().residual_score / score, 1, delta=0.01)   # quantiles of histograms
        self.assertAlmostEqual(self.made().residual_tail / tail, 1, delta=0.01)
        self.assertTrue(0 <= self.made().residual_structure <= 1)

    def test_stored_saved_and_removed(self):
        model, made = learnt(), self.made()
        model.calibration = made
        self.assertEqual(model.calibration, made)
        self.assertEqual(model.info.has_calibration, 1)
        file = self.folder() / "model.h5"
        model.save(file)
        again = usplit.Model.load(file, context=context())
        self.assertEqual(again.calibration, made)
        again.calibration = usplit.Facts(**{**made.asdict(), "slope": (2.0, 3.0)})
        self.assertEqual(again.calibration.slope, (2.0, 3.0))
        name = next(iter(again.parameters))
        again.set_parameter(name, again.get_parameter(name))
        self.assertIsNone(again.calibration)
        again.calibration = made
        usplit.Trainer(again, frames(), **TRAINING).step()
        self.assertIsNone(again.calibration)
        model.calibration = None
        self.assertIsNone(model.calibration)
        for name, value, line in (("slope", (-1.0, 1.0), r"slope\[0\] is -1"), ("samples", 0, "samples 0"),
                                  ("slope", (1.0,), "is of 1 channels; accepted: 2"), ("slope", 1.0, "of 1 channels"),
                                  ("offset", (0, np.nan), "offset nan")):
            with self.assertRaisesRegex(usplit.ArgumentError, line):
                model.calibration = usplit.Facts(**{**made.asdict(), name: value})
        self.assertIsNone(model.calibration)

    def test_applied(self):
        model, made = learnt(), self.made()
        mixed, _, plain = self.predicted()[0]
        self.assertEqual((plain.info.calibrated, plain.info.deviation_slope), (0, (1, 1)))
        offset = 0.25, -made.slope[1] * float(np.median(plain.std[1]))      # takes half of the pixels below 0
        model.calibration = usplit.Facts(**{**made.asdict(), "offset": offset})
        for source in (mixed, Slices(mixed)):
            result = model.split(source, samples=SAMPLES, std=True, calibrated=True)
            self.assertSame(result.channels, plain.channels)
            exact = np.maximum(np.array(made.slope)[:, None, None] * plain.std + np.array(offset)[:, None, None], 0)
            np.testing.assert_allclose(result.std, exact, rtol=4 * HALF_ULP, atol=1e-6)
            self.assertAlmostEqual((exact[1] == 0).mean(), 0.5, delta=0.01)
            self.assertEqual((result.info.calibrated, result.info.deviation_slope, result.info.deviation_offset),
                             (1, made.slope, offset))
        self.assertSame(model.split(mixed, samples=SAMPLES, std=True).std, plain.std)
        # A tiler that is kept follows the calibration.
        tiler = model.tiler(samples=SAMPLES, deviations=1, calibrated=1)
        before = tiler.split(mixed).std
        model.calibration = usplit.Facts(**{**made.asdict(), "slope": tuple(2 * s for s in made.slope)})
        self.assertGreater(np.abs(tiler.split(mixed).std - before).max(), 0)

    def test_held_against_itself(self):
        """With what was fitted, deviations mean the error: a slope of 1, an offset of 0, on the same frames."""
        learnt().calibration = self.made()
        again = learnt().calibrate(frames(), samples=SAMPLES, calibrated=True)
        for c in range(2):
            self.assertAlmostEqual(again.slope[c], 1, delta=0.01)
            self.assertAlmostEqual(again.offset[c], 0, delta=0.01 * again.rmse[c])
            self.assertAlmostEqual(again.deviation[c] / again.rmse[c], 1, delta=0.05)
        self.assertEqual(again.rmse, self.made().rmse)

    def test_progress_stops_it(self):
        seen = []
        learnt().calibrate(frames(), "test", samples=2, progress=seen.append)
        self.assertEqual((seen[-1].phase, seen[-1].done), ("tile", seen[-1].total))
        with self.assertRaises(usplit.Cancelled):
            learnt().calibrate(frames(), samples=2, progress=lambda p: False)
        with self.assertRaisesRegex(KeyError, "mine"):
            learnt().calibrate(frames(), samples=2, progress=lambda p: {}["mine"])
        self.interrupted(lambda: learnt().calibrate(frames(), samples=5000))
        with self.assertRaisesRegex(usplit.StateError, "in use by a tiler"):
            learnt().calibrate(frames(), samples=2, progress=lambda p: setattr(learnt(), "calibration", None))


class SelfTest(Case):
    def damaged(self, good, name, value):
        """The file with one value of a parameter changed, under a valid checksum: a header of 512 bytes holds the
        SHA-256 of what follows at byte 24."""
        data = bytearray(good.read_bytes())
        body = data[512:]
        old = usplit.Model.load(good, context=context()).get_parameter(name)
        at = body.index(old.tobytes())
        self.assertEqual(body.count(old.tobytes()), 1)
        self.assertEqual(data[24:56], hashlib.sha256(body).digest())
        body[at:at + 4] = np.float32(value).tobytes()
        bad = good.with_name("bad.h5")
        bad.write_bytes(data[:24] + hashlib.sha256(body).digest() + data[56:512] + body)
        return bad

    def test_facts(self):
        good = self.folder() / "good.h5"
        trained().save(good)
        facts = usplit.Model.load(good, context=context()).check()
        # Every pixel of a patch; two channels, whose logarithms of variances are there too.
        self.assertEqual((facts.values, facts.tolerance, facts.passed), (32 * 32 * 4, 1e-3, 1))
        self.assertTrue(0 <= facts.error <= facts.tolerance)
        name = next(iter(trained().parameters))
        model = usplit.Model.load(self.damaged(good, name, 5.0), context=context())
        facts = model.check(must_pass=False)
        self.assertEqual((facts.values, facts.passed), (32 * 32 * 4, 0))
        self.assertGreater(facts.error, facts.tolerance)
        for call in (model.check, lambda: model.check(must_pass=True)):
            with self.assertRaisesRegex(usplit.NumericError, "deviates by %.6g of .*; accepted: 0.001" % facts.error):
                call()
        model.split(image())                                # usable all the same

    def test_none(self):
        with self.assertRaisesRegex(usplit.StateError, "no self-test"):
            fresh().check()
        with self.assertRaisesRegex(usplit.StateError, "no self-test"):
            fresh().check(must_pass=False)


class Unusual(Case):
    def distance(self, x, model=None):
        """How usplit.h defines it."""
        m = (model or trained()).info
        clipped = np.minimum(np.asarray(x, np.float32), np.float32(m.clip_value)).astype(np.float64)
        mean, deviation = clipped.mean(), max(clipped.std(), 1e-9)
        return max(abs(mean - m.frame_mean[0]) / max(m.frame_mean[1], 0.2 * m.frame_deviation[0]),
                   abs(np.log(deviation / m.frame_deviation[0])) / max(m.frame_deviation[1], 0.2))

    def at(self, make, distance):
        """make(t) where the distance is that, by bisection between t = 0 and 1."""
        low, high = 0.0, 1.0
        self.assertTrue(self.distance(make(low)) < distance < self.distance(make(high)))
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if self.distance(make(middle)) < distance else (low, middle)
        return make(high).astype(np.float32)

    def warned(self, call):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = call()
        self.assertEqual([w for w in caught if w.category is not usplit.UnusualInput], [])
        return result, caught

    def test_given_exactly_when_out_of_the_training_range(self):
        usual = dataset().mixed(0).astype(np.float64)
        top = trained().info.clip_value
        ways = {"brighter": lambda t: usual + t * top, "darker": lambda t: usual * (1 - 0.99 * t),
                "stronger": lambda t: usual.mean() + (usual - usual.mean()) * (1 + 20 * t),
                "flatter": lambda t: usual.mean() + (usual - usual.mean()) * (1 - 0.99 * t),
                "negative": lambda t: usual - 10 * t * top}
        for way, make in ways.items():
            with self.subTest(way):
                for distance, expected in ((3.99, 0), (4.01, 1)):
                    x = self.at(make, distance)
                    for source in (x, Slices(x)):
                        result, caught = self.warned(lambda: trained().split(source))
                        self.assertAlmostEqual(result.info.input_distance, distance, places=4)
                        self.assertEqual((result.info.input_unusual, len(caught)), (expected, expected))

    def test_training_frames_are_usual(self):
        for frame in range(10):
            result, caught = self.warned(lambda: trained().split(dataset().mixed(frame)))
            self.assertEqual((caught, result.info.input_unusual), ([], 0))
            self.assertAlmostEqual(result.info.input_distance, self.distance(dataset().mixed(frame)), places=5)

    def test_what_it_says_and_where(self):
        x = dataset().mixed(0) * 16
        result, caught = self.warned(lambda: trained().split(x))
        info, m = result.info, trained().info
        clipped = np.minimum(x, np.float32(m.clip_value)).astype(np.float64)
        self.assertAlmostEqual(info.input_mean, clipped.mean(), places=6)
        self.assertAlmostEqual(info.input_deviation, clipped.std(), places=6)
        self.assertEqual(str(caught[0].message), "the image is not like the training images: mean %.4g, deviation "
                         "%.4g; trained on: mean %.4g to %.4g, deviation %.4g to %.4g" % (
                             clipped.mean(), clipped.std(), *m.frame_mean[2:], *m.frame_deviation[2:]))
        self.assertEqual(caught[0].filename, __file__)      # the line of the caller, not one of the package
        tiler = trained().tiler()
        calls = (lambda: tiler.split(x), lambda: trained().split(x, shifts=2, std=True, residual=True),
                 lambda: tiler.stream(lambda r, n: x[r:r + n], lambda *a: None, 64, 64))
        for call in calls:
            _, caught = self.warned(call)
            self.assertEqual([w.filename for w in caught], [__file__])

    def test_one_of_a_stack(self):
        """One warning, about the frame that is least like the training's."""
        usual = dataset().mixed(0)
        stack = np.stack([usual, usual * 2, usual * 3, usual])
        self.assertEqual(int(np.argmax([self.distance(f) for f in stack])), 2)
        for source in (stack, Slices(stack)):
            for options in ({}, {"std": True, "shifts": 2}):
                result, caught = self.warned(lambda: trained().split(source, **options))
                self.assertEqual(len(caught), 1)
                self.assertAlmostEqual(result.info.input_distance, self.distance(stack[2]), places=4)
                self.assertIn("mean %.4g," % result.info.input_mean, str(caught[0].message))

    def test_as_an_error(self):
        """Python's own switch; the tiler and the model can be used afterwards."""
        x = dataset().mixed(0)
        tiler = trained().tiler()
        with warnings.catch_warnings():
            warnings.simplefilter("error", usplit.UnusualInput)
            for split in (tiler.split, trained().split):
                with self.assertRaisesRegex(usplit.UnusualInput, "not like the training images"):
                    split(x * 16)
                self.assertSame(split(x).channels, trained().split(x).channels)

    def test_no_record_no_warning(self):
        model = fresh()
        model.set_normalisation(clip_value=200, input_mean=10, input_deviation=5, target_mean=[9, 11],
                                target_deviation=[4, 6])
        result, caught = self.warned(lambda: model.split(image() * 7))
        self.assertEqual(caught, [])
        self.assertTrue(np.isnan(result.info.input_distance))
