"""Figures about predictions (compare, compare_pair, seams, residual) against numpy in double precision, written down
from their definitions."""
import math

import numpy as np

from .common import Case, dataset, image, trained
import usplit


def quality(target, prediction):
    """Range-invariant PSNR: after the best affine fit of the prediction; SSIM: 7 x 7 windows, sample covariance."""
    g, p = target.astype(np.float64), prediction.astype(np.float64)
    span, about_g, about_p = g.max() - g.min(), g - g.mean(), p - p.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        fitted = about_g - (about_g * about_p).sum() / (about_p ** 2).sum() * about_p
        ri_psnr = 20 * np.log10(span / np.sqrt((fitted ** 2).mean()))
        rmse = np.sqrt(((g - p) ** 2).mean())
        psnr = 20 * np.log10(span / rmse)
    windows = [np.lib.stride_tricks.sliding_window_view(v, (7, 7)).reshape(-1, 49) for v in (g, p)] \
        if min(g.shape) >= 7 else None
    if windows is None:
        return ri_psnr, psnr, math.nan, rmse
    mg, mp = (w.mean(axis=1) for w in windows)
    vg, vp = (w.var(axis=1, ddof=1) for w in windows)
    cov = ((windows[0] - mg[:, None]) * (windows[1] - mp[:, None])).sum(axis=1) / 48
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    ssim = (2 * mg * mp + c1) * (2 * cov + c2) / ((mg ** 2 + mp ** 2 + c1) * (vg + vp + c2))
    return ri_psnr, psnr, ssim.mean(), rmse


def figures(facts):
    return facts.ri_psnr, facts.psnr, facts.ssim, facts.rmse


class Compare(Case):
    def test_published_vectors(self):
        for target, prediction, psnr, ri_psnr in (
                ((10, 11, 12), (15, 10, 13), -3.521825, 8.527849),
                ((100, 120, 140), (10, 13, 14), -8.680686, 18.920946)):
            got = usplit.compare(np.float32([target]), np.float32([prediction]))
            self.assertAlmostEqual(got.psnr, psnr, delta=1e-6)
            self.assertAlmostEqual(got.ri_psnr, ri_psnr, delta=1e-6)
        i, j = np.indices((16, 16))
        target, prediction = (3 * i + 5 * j) % 17, (3 * i + 5 * j + i * j % 3) % 17
        for dtype in (np.uint8, np.uint16, np.float32):
            got = usplit.compare(target.astype(dtype), prediction.astype(dtype))
            self.assertAlmostEqual(got.ri_psnr, 15.319945, delta=1e-6)
            self.assertAlmostEqual(got.psnr, 14.901440, delta=1e-6)
            self.assertAlmostEqual(got.ssim, 0.8130160055, delta=1e-10)

    def test_against_numpy(self):
        for a, b in ((image(), image(seed=1)), (image(9, 7), image(9, 7, 2)), (image(6, 50), image(6, 50, 3) * 1e4),
                     (image() + 30000, image() * 0.5 + image(seed=4))):
            np.testing.assert_allclose(figures(usplit.compare(a, b)), quality(a, b), rtol=1e-9)

    def test_where_there_is_no_figure(self):
        flat = np.full((9, 9), 5, np.float32)
        self.assertTrue(math.isnan(usplit.compare(image(9, 9), flat).ri_psnr))
        self.assertTrue(math.isnan(usplit.compare(image(6, 9), image(6, 9)).ssim))
        same = usplit.compare(image(), image())
        self.assertEqual((same.psnr, same.rmse, same.ssim), (math.inf, 0, 1))


class ComparePair(Case):
    def test_against_numpy(self):
        a = np.stack([image(), image(seed=1)])
        rng = np.random.default_rng(5)
        noisy = (a * [[[2.0]], [[0.5]]] + rng.normal(0, 4, a.shape)).astype(np.float32)
        single = [quality(a[c], noisy[c]) for c in range(2)]
        for given, swapped in ((noisy, 0), (noisy[::-1], 1)):
            got = usplit.compare_pair(a, given)
            self.assertEqual(got.swapped, swapped)
            np.testing.assert_allclose(np.transpose(figures(got)), single, rtol=1e-9)
        self.assertEqual(usplit.compare_pair(np.moveaxis(a, 0, -1), np.moveaxis(noisy, 0, -1), "YXC"),
                         usplit.compare_pair(a, noisy))

    def test_the_larger_sum_counts(self):
        """Not the better single figure: over many pairs, numpy's choice."""
        seen = set()
        for seed in range(20):
            rng = np.random.default_rng(seed)
            a, b = (rng.normal(size=(2, 8, 8)).astype(np.float32) for _ in range(2))
            q = [[quality(a[c], b[k])[0] for k in range(2)] for c in range(2)]
            expected = int(q[0][1] + q[1][0] >= q[0][0] + q[1][1])
            self.assertEqual(usplit.compare_pair(a, b).swapped, expected)
            seen.add(expected)
        self.assertEqual(seen, {0, 1})

    def test_ties_are_exchanged(self):
        x = image(9, 9)
        self.assertEqual(usplit.compare_pair(np.stack([x, x]), np.stack([x, x])).swapped, 1)

    def test_shapes(self):
        a = np.stack([image(), image(seed=1)])
        for odd in (a[:1], np.concatenate([a, a]), a[:, 1:]):
            with self.assertRaises(usplit.ArgumentError):
                usplit.compare_pair(a, odd)


def seam_sides(plane, tile, row, column):
    """Mean |e| on each side of a tile that is a border, and inside beside it, times its length; e of the step q - p
    between neighbours o p | q r is (q - p) - ((p - o) + (r - q)) / 2. Borders between tiles above one another."""
    v = plane.astype(np.float64)
    e = np.full((len(v) + 1, v.shape[1]), np.nan)           # of the step from row i - 1 to row i
    e[2:-2] = np.abs(1.5 * (v[2:-1] - v[1:-2]) - 0.5 * (v[3:] - v[:-3]))
    for at in range(row % tile, len(v), tile):
        inside = [at + sign * k for k in range(2, tile // 2 + 1) for sign in (-1, 1)
                  if at - k >= 2 and at + k + 1 < len(v)]
        for left in range(column % tile - tile, v.shape[1], tile):
            side = slice(max(left, 0), max(left + tile, 0))
            if inside and e[at, side].size:
                yield e[at, side].sum(), np.mean([e[i, side].sum() for i in inside])


def seam_ratio(sides):
    b, c = np.array(list(sides)).T
    n, ratio = len(b), b.sum() / c.sum()
    return n, ratio, np.sqrt(n / (n - 1) * ((b - ratio * c) ** 2).sum()) / c.sum()


class Seams(Case):
    def test_against_numpy(self):
        for height, width, tile, row, column in ((70, 90, 16, 0, 0), (70, 90, 16, 3, 5), (64, 64, 32, -7, 40),
                                                 (41, 83, 10, 0, 9), (100, 30, 5, 2, 0)):
            x = image(height, width)
            got = usplit.seams(x, tile, row, column)
            rows, columns = list(seam_sides(x, tile, row, column)), list(seam_sides(x.T, tile, column, row))
            for sides, *values in ((rows, got.row_borders, got.row_ratio, got.row_error),
                                   (columns, got.column_borders, got.column_ratio, got.column_error),
                                   (rows + columns, got.row_borders + got.column_borders, got.ratio, got.ratio_error)):
                np.testing.assert_allclose(values, seam_ratio(sides), rtol=1e-9)
            turned = usplit.seams(x, tile, column, row, axes="XY")
            self.assertEqual((turned.column_ratio, turned.row_borders), (got.row_ratio, got.column_borders))

    def test_a_seam_shows(self):
        y, x = np.indices((128, 128))
        smooth = (100 + 20 * np.sin(x / 9) + 10 * np.cos(y / 7)).astype(np.float32)
        noise = np.random.default_rng(1).normal(0, 1, smooth.shape)
        plane = (smooth + noise).astype(np.float32)
        clean = usplit.seams(plane, 32)
        self.assertLess(abs(clean.ratio - 1), 4 * clean.ratio_error)
        steps = (plane + 5 * ((x // 32 + y // 32) % 2)).astype(np.float32)      # 5 up or down at every border
        self.assertGreater(usplit.seams(steps, 32).ratio, 2)
        self.assertLess(usplit.seams(steps, 32, 16, 16).ratio, 1.2)             # no border there
        self.assertGreater(usplit.seams(steps[5:, 9:], 32, -5, -9).ratio, 2)    # a crop
        scaled = usplit.seams((steps * 4 + 1000).astype(np.float32), 32)        # gain and offset
        self.assertAlmostEqual(scaled.ratio, usplit.seams(steps, 32).ratio, places=3)

    def test_nothing_to_measure(self):
        got = usplit.seams(image(20, 20), 32)
        self.assertEqual((got.row_borders, got.column_borders), (0, 0))
        self.assertTrue(math.isnan(got.ratio) and math.isnan(got.ratio_error))
        for tile in (3, 0, -1):
            with self.assertRaisesRegex(usplit.ArgumentError, "tile is %d; accepted: 4 to" % tile):
                usplit.seams(image(), tile)

    def test_of_a_split(self):
        """The tile's side is that of the plan."""
        result = trained().split(dataset().mixed(0))
        inner = trained().tiler().plan(64, 64).inner
        self.assertEqual(usplit.seams(result[0], inner).row_borders, 64 // inner * (64 // inner - 1))


def share(x, rest):
    """Figures of a residual, with numpy's quantiles."""
    span = np.subtract(*np.percentile(x, (99.5, 0.5)))
    about = np.abs(rest - np.median(rest))
    score = 1.482602218505602 * np.median(about)
    noise = 1.482602218505602 / math.sqrt(2) * np.median(np.abs(np.diff(rest, axis=1)))
    return dict(pixels=x.size, range=span, score=score / span, tail=np.percentile(about, 99) / span,
                offset=np.median(rest) / span, noise=noise / span,
                structure=math.sqrt(max(1 - (noise / score) ** 2, 0)))


class Residual(Case):
    def setUp(self):
        rng = np.random.default_rng(7)
        y, x = np.indices((120, 150))
        self.planes = np.stack([200 + 90 * np.sin(x / 6), 150 + 60 * np.cos(y / 5)]).astype(np.float32)
        self.image = (self.planes.mean(axis=0) + rng.normal(3, 5, (120, 150)) + 20 * np.sin(y / 15)).astype(np.float32)

    def check(self, facts, x, rest):
        for name, expected in share(x, rest).items():
            # Quantiles of histograms, to about one percent of their value; structure is 1 - their ratio's square.
            tolerance = 0.03 if name == "structure" else 0.02 * abs(expected) + 1e-4
            self.assertAlmostEqual(getattr(facts, name), expected, delta=tolerance, msg=name)

    def test_against_numpy(self):
        x, planes = self.image, self.planes
        for options, clip, weights in (({}, math.inf, (0.5, 0.5)),
                                       ({"clip_value": 190}, 190, (0.5, 0.5)),
                                       ({"weights": (0.7, 0.3), "clip_value": 200.3}, np.float32(200.3), (0.7, 0.3)),
                                       ({"weights": (1, 0)}, math.inf, (1, 0))):
            out = np.zeros_like(x)
            facts = usplit.residual(x, planes, out=out, **options)
            clipped = np.minimum(x, clip).astype(np.float64)
            exact = clipped - np.tensordot(weights, planes.astype(np.float64), 1)
            self.assertLess(np.abs(out - exact).max(), 2.0 ** (9 - 24))         # one rounding, below 2^9
            self.check(facts, clipped, exact)
            self.assertEqual(usplit.residual(x, planes, **options), facts)      # without `out`

    def test_structure(self):
        rng = np.random.default_rng(8)
        noise = rng.normal(0, 5, (200, 200)).astype(np.float32)
        planes = np.stack([image(200, 200), image(200, 200, 1)]) * 10
        mean = planes.mean(axis=0)
        y, x = np.indices((200, 200))
        self.assertLess(usplit.residual(mean + noise, planes).structure, 0.2)
        waves = (5 * math.sqrt(2) * np.sin(x / 12) * np.cos(y / 12)).astype(np.float32)
        self.assertGreater(usplit.residual(mean + waves, planes).structure, 0.9)
        # Gain and offset that image and planes share change nothing but the range.
        one, other = usplit.residual(mean + noise, planes), usplit.residual(4 * (mean + noise) + 64, 4 * planes + 64)
        self.assertAlmostEqual(other.score, one.score, delta=0.03 * one.score)
        self.assertAlmostEqual(other.range / one.range, 4, delta=0.1)

    def test_types_and_axes(self):
        x, planes = np.rint(self.image).astype(np.uint16), np.rint(self.planes).astype(np.uint8)
        expected = usplit.residual(x.astype(np.float32), planes.astype(np.float32))
        self.assertEqual(usplit.residual(x, planes), expected)
        last = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
        out = np.zeros((150, 120), np.float32)
        self.assertEqual(usplit.residual(np.ascontiguousarray(x.T), last, "XY", "YXC", out=out), expected)
        self.assertSame(out.T.copy(), (x - planes.astype(np.float64).mean(axis=0)).astype(np.float32))
        flat = usplit.residual(np.full((9, 9), 4, np.float32), np.zeros((1, 9, 9), np.float32))
        self.assertEqual(flat.range, 0)
        self.assertTrue(math.isnan(flat.score))
        for odd in (planes[:, 1:], np.concatenate([planes] * 5)):
            with self.assertRaises(usplit.ArgumentError):
                usplit.residual(x, odd)

    def test_rows_at_a_time(self):
        """The same figures and bits, however many rows come together, from arrays of any type."""
        x, planes = self.image, self.planes
        out = np.zeros_like(x)
        whole = usplit.residual(x, planes, weights=(0.6, 0.4), clip_value=250, out=out)
        for cuts in ((0, 120), (0, 1, 2, 50, 120), tuple(range(121))):
            rest = np.zeros_like(x)
            with usplit.Residual(150, 2, weights=(0.6, 0.4), clip_value=250) as r:
                for a, b in zip(cuts, cuts[1:]):
                    r.add(x[a:b].astype(np.float64), planes[:, a:b], rest[a:b])
                self.assertEqual(r.info, whole)
            self.assertSame(rest, out)
            self.assertTrue(r.closed)
        r = usplit.Residual(150, 2)
        with self.assertRaisesRegex(usplit.StateError, "no rows"):
            r.info
        r.add(x[:50], planes[:, :50])
        first = usplit.residual(x[:50], planes[:, :50])
        self.assertEqual(r.info, first)
        with self.assertRaises(usplit.NumericError):        # and nothing of it is counted
            r.add(np.full((2, 150), np.nan), planes[:, :2])
        self.assertEqual(r.info, first)
        r.close()
        with self.assertRaisesRegex(usplit.StateError, "the residual is closed"):
            r.add(x[:1], planes[:, :1])
