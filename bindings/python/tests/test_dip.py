"""Double-DIP: the mixing, what a run tells about itself, progress and stopping, and that a run comes closer to its
image."""
import io
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np

from .common import Case, context
import usplit


def pair(height=72, width=66):
    y, x = np.indices((height, width))
    return np.stack([200 + 100 * np.sin(x / 5), 150 + 80 * np.cos(y / 7)]).astype(np.float32)


class Mix(Case):
    def test_against_numpy(self):
        p = pair()
        first, second = p.astype(np.float64)
        for shares in ((0.5, 0.3), (0.9, 0.1), (0.5,), (1, 0)):
            got = usplit.dip_mix(p, shares)
            self.assertSame(got, np.stack([m * first + (1 - m) * second for m in shares]).astype(np.float32))
        self.assertSame(usplit.dip_mix(p), usplit.dip_mix(p, (0.5, 0.3)))
        self.assertSame(usplit.dip_mix(np.moveaxis(p, 0, -1), (0.5,), "YXC"), usplit.dip_mix(p, (0.5,)))
        whole = np.rint(p).astype(np.uint16)
        self.assertSame(usplit.dip_mix(whole, [0.25]), (whole[0] * 0.25 + whole[1] * 0.75).astype(np.float32)[None])


class Run(Case):
    def psnr(self, result, mixtures):
        """How well the estimates mix to the first mixture, both within 0 and 1."""
        info = result.info
        estimates = (result.channels.astype(np.float64) - info.low) / (info.high - info.low)
        mixed = np.tensordot([info.share[0], 1 - info.share[0]], estimates, 1)
        target = (mixtures[0].astype(np.float64) - info.low) / (info.high - info.low)
        return -10 * np.log10(((np.clip(mixed, 0, 1) - target) ** 2).mean())

    def test_comes_closer(self):
        mixtures = usplit.dip_mix(pair())
        seen = []
        result = usplit.dip(mixtures, iterations=12, seed=3, progress=seen.append)
        info = result.info
        self.assertEqual((result.axes, result.channels.shape, result.names), ("CYX", (2, 72, 66),
                                                                              ["estimate1", "estimate2"]))
        self.assertEqual((info.mode, info.iterations), ("two", 12))
        self.assertEqual((info.low, info.high), (mixtures.min(), mixtures.max()))
        self.assertTrue(0 <= info.best_iteration < 12 and info.bytes > 0 and info.seconds > 0)
        self.assertTrue(all(0.05 <= share <= 0.95 for share in info.share))
        self.assertAlmostEqual(info.psnr, self.psnr(result, mixtures), delta=1e-3)      # estimates are rounded
        # Progress comes after the first iteration, the last one, and now and then.
        self.assertEqual({p.phase for p in seen}, {"dip"})
        self.assertEqual((seen[0].done, seen[-1].done, seen[-1].total), (1, 12, 12))
        self.assertEqual([p.done for p in seen], sorted({p.done for p in seen}))
        self.assertLess(seen[-1].loss, seen[0].loss)
        self.assertEqual((seen[-1].loss, seen[-1].best_val_psnr), (info.loss, info.psnr))
        self.assertAlmostEqual(info.loss, info.reconstruction_loss + 0.1 * info.exclusion_loss, places=12)
        longer = usplit.dip(mixtures, iterations=60, seed=3)
        self.assertGreater(longer.info.psnr, usplit.dip(mixtures, iterations=1, seed=3).info.psnr + 1)

    def test_one_mixture(self):
        mean = usplit.dip_mix(pair(), (0.5,))
        result = usplit.dip(mean[0], iterations=5, seed=1)
        self.assertEqual((result.info.mode, result.info.share), ("single", (0.5, 0.0)))
        self.assertAlmostEqual(result.info.psnr, self.psnr(result, mean), delta=1e-3)
        none = usplit.dip(mean, iterations=1, exclusion_weight=-1).info
        self.assertEqual(none.loss, none.reconstruction_loss)

    def test_the_same_bits(self):
        mean = usplit.dip_mix(pair(), (0.5,))[0]
        first = usplit.dip(mean, iterations=2, seed=1)
        out = np.zeros((2, 72, 66), np.float32)
        again = usplit.dip(mean[None], iterations=2, seed=1, out=out, context=context(), mode="single")
        self.assertIs(again.channels, out)
        self.assertSame(out, first.channels)
        self.assertSame(usplit.dip(np.ascontiguousarray(mean.T), "XY", iterations=2, seed=1).channels, out)
        self.assertFalse(np.array_equal(usplit.dip(mean, iterations=2, seed=2).channels, out))
        with ThreadPoolExecutor(2) as pool:         # images side by side, a thread each
            for got in pool.map(lambda s: usplit.dip(mean, iterations=2, seed=1), range(2)):
                self.assertSame(got.channels, out)

    def test_whole_numbers(self):
        whole = np.rint(usplit.dip_mix(pair())).astype(np.uint16)
        exact = usplit.dip(whole, iterations=2).channels
        rounded = usplit.dip(whole, iterations=2, out=np.zeros((2, 72, 66), np.uint16)).channels
        self.assertSame(rounded, np.clip(np.rint(exact), 0, 65535).astype(np.uint16))

    def test_stopped(self):
        """By False, by an exception, from another thread: what was best so far is there."""
        mixtures = usplit.dip_mix(pair())
        with self.assertRaises(usplit.Cancelled) as caught:
            usplit.dip(mixtures, seed=3, progress=lambda p: p.done < 3)
        best = caught.exception.result
        self.assertGreaterEqual(best.info.iterations, 3)
        self.assertSame(best.channels, usplit.dip(mixtures, seed=3, iterations=best.info.iterations).channels)
        out, done = np.zeros((2, 72, 66), np.float32), []

        def fail(p):
            if p.done >= 3:
                done.append(p.done)
                raise KeyError("mine")
        with self.assertRaisesRegex(KeyError, "mine"):
            usplit.dip(mixtures, seed=3, out=out, progress=fail)
        self.assertSame(out, usplit.dip(mixtures, seed=3, iterations=done[0]).channels)
        out[...] = 0
        self.interrupted(lambda: usplit.dip(mixtures, out=out), 0.3)
        self.assertGreater(out.std(), 0)
        stop = threading.Event()
        timer = threading.Timer(0.2, stop.set)
        timer.start()
        self.addCleanup(timer.join)
        with self.assertRaises(usplit.Cancelled):
            usplit.dip(mixtures, progress=lambda p: not stop.is_set())
        limited = usplit.dip(mixtures, max_seconds=0.1).info
        self.assertTrue(1 <= limited.iterations < 4000)

    def test_shown(self):
        with mock.patch.object(sys, "stderr", io.StringIO()) as err:
            usplit.dip(usplit.dip_mix(pair()), iterations=2, progress=True)
        self.assertRegex(err.getvalue(), r"^\[#{20}\] 2/2 iterations  loss \d\.\d{4}  best reconstruction \d+\.\d\d dB")

    def test_refused(self):
        for line, array, options in (("64 x 66 pixels; accepted: sides of 65 to 4096", pair(64, 66), {}),
                                     ("mode 1 takes 1 mixtures; the image has 2", pair(), {"mode": "single"}),
                                     ("mode 2 takes 2 mixtures; the image has 1", pair()[0], {"mode": "two"}),
                                     ("mixtures has 3 channels; accepted: 1 or 2", pair()[[0, 1, 0]], {}),
                                     ("mixtures has 2 frames; accepted: 1", np.stack([pair()] * 2), {"axes": "TCYX"}),
                                     ("mixture 1 is constant", pair() * 0, {}),
                                     (r"out is \(2, 66, 72\); accepted: \(2, 72, 66\)", pair(),
                                      {"out": np.zeros((2, 66, 72), np.float32)})):
            with self.assertRaisesRegex(usplit.ArgumentError, line):
                usplit.dip(array, iterations=1, **options)

    def test_an_estimate_is_scored_by_compare_pair(self):
        p = pair()
        result = usplit.dip(usplit.dip_mix(p), iterations=3)
        got, turned = usplit.compare_pair(p, result.channels), usplit.compare_pair(p, result.channels[::-1])
        self.assertEqual((got.ri_psnr, got.swapped), (turned.ri_psnr, 1 - turned.swapped))
