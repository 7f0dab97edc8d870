"""From data to a split, and everything that is told on the way."""
import math
import pickle

import numpy as np

from .common import TRAINING, Case, context, dataset, fresh, image, trained
import usplit


class Life(Case):
    def test_versions_and_devices(self):
        self.assertEqual(usplit.version(), usplit.__version__)
        devices = usplit.devices()
        self.assertEqual(devices[0].name, "cpu")
        self.assertEqual(devices[0].usable, 1)
        self.assertEqual(context().info.device, "cpu")
        self.assertEqual(context().info.threads, 2)

    def test_train_save_load_split(self):
        file = self.folder() / "model.h5"
        model = fresh(seed=3)
        seen = []
        trainer = usplit.Trainer(model, dataset(), **TRAINING)
        facts = trainer.fit(progress=seen.append)
        self.assertEqual((facts.step, facts.epoch), (8, 2))
        self.assertEqual([p.epoch for p in seen if p.phase == "epoch"], [0, 1])
        self.assertTrue(all(p.phase in ("train", "validate", "epoch") for p in seen))
        self.assertEqual([e.step for e in trainer.epochs], [4, 8])
        self.assertEqual([len(e.kl_level) for e in trainer.epochs], [12, 12])
        self.assertTrue(math.isfinite(facts.best_val_psnr))
        model.channel_names = ["actin", "nuclei"]
        model.save(file)
        again = usplit.Model.load(file, context=context())
        self.assertLess(again.check().error, 1e-3)
        self.assertEqual(again.channel_names, ["actin", "nuclei"])
        self.assertEqual(again.info.epochs_trained, 2)
        mixed = dataset().mixed(0)
        result = model.split(mixed)
        self.assertSame(result.channels, again.split(mixed).channels)
        self.assertEqual((result.axes, result.channels.shape), ("CYX", (2, 64, 64)))
        self.assertEqual(result.channels.dtype, np.float32)
        self.assertSame(result["nuclei"], result.channels[1])
        self.assertSame(result[-2], result.channels[0])
        self.assertEqual(len(list(result)), 2)
        with self.assertRaises(KeyError):
            result["membranes"]
        with self.assertRaises(IndexError):
            result[2]
        self.assertEqual(result.info.gain, model.info.target_deviation)
        self.assertGreater(result.info.tiles, 0)

    def test_training_learns(self):
        """What is trained is the model that was handed over: its split comes nearer, its loss falls."""
        model = fresh()
        trainer = usplit.Trainer(model, dataset(), batch=8, steps_per_epoch=30, max_epochs=2)
        mixed, truth = dataset().mixed(3), dataset().frame(3, 0)
        before = usplit.compare(truth, model.split(mixed)[0]).rmse
        trainer.fit()
        self.assertLess(usplit.compare(truth, model.split(mixed)[0]).rmse, before)
        self.assertLess(trainer.epochs[1].loss, trainer.epochs[0].loss)

    def test_resume_gives_the_same_bits(self):
        folder = self.folder()
        whole, first, second = fresh(), fresh(), fresh(seed=9)
        usplit.Trainer(whole, dataset(), **{**TRAINING, "max_epochs": 3}).fit()
        usplit.Trainer(first, dataset(), last_file=folder / "last.h5", **{**TRAINING, "max_epochs": 1}).fit()
        with usplit.Trainer(second, dataset(), resume=folder / "last.h5", **{**TRAINING, "max_epochs": 3}) as trainer:
            self.assertEqual(trainer.info.step, 4)
            trainer.fit()
        for name in whole.parameters:
            self.assertSame(whole.get_parameter(name), second.get_parameter(name))

    def test_single_steps_and_save(self):
        file = self.folder() / "after.h5"
        model = fresh()
        trainer = usplit.Trainer(model, dataset(), **TRAINING)
        self.assertEqual(trainer.step().step, 1)
        self.assertEqual(trainer.step().step, 2)
        trainer.save(file)
        other = fresh(seed=5)
        self.assertEqual(usplit.Trainer(other, dataset(), resume=file, **TRAINING).info.step, 2)

    def test_a_new_trainer_closes_the_old_one(self):
        model = fresh()
        old = usplit.Trainer(model, dataset(), **TRAINING)
        new = usplit.Trainer(model, dataset(), **TRAINING)
        self.assertTrue(old.closed)
        with self.assertRaisesRegex(usplit.StateError, "the trainer is closed"):
            old.fit()
        self.assertEqual(new.step().step, 1)

    def test_parameters(self):
        model = fresh()
        name, shape = next((n, s) for n, s in model.parameters.items() if len(s) == 4)
        values = model.get_parameter(name)
        self.assertEqual(values.shape, shape)
        model.set_parameter(name, values * 2)
        self.assertSame(model.get_parameter(name), values * 2)
        with self.assertRaisesRegex(usplit.ArgumentError, "no parameter 'x'"):
            model.get_parameter("x")
        with self.assertRaisesRegex(usplit.ArgumentError, "has shape"):
            model.set_parameter(name, values[0])
        with self.assertRaises(usplit.NumericError):
            model.set_parameter(name, np.full(shape, np.nan))

    def test_a_kept_tiler_follows_the_model(self):
        model = fresh()
        usplit.Trainer(model, dataset(), **TRAINING).fit()
        x = image()
        tiler = model.tiler()
        before = tiler.split(x).channels
        self.assertSame(before, model.split(x).channels)
        name = next(n for n in model.parameters if n.endswith("weight"))
        model.set_parameter(name, model.get_parameter(name) * 1.5)
        after = tiler.split(x).channels
        self.assertFalse(np.array_equal(before, after))
        self.assertSame(after, model.split(x).channels)
        self.assertSame(after, model.tiler().split(x).channels)

    def test_normalisation(self):
        model = fresh()
        with self.assertRaisesRegex(usplit.StateError, "normalisation"):
            model.split(image())
        model.set_normalisation(clip_value=200, input_mean=10, input_deviation=5, target_mean=[9, 11],
                                target_deviation=[4, 6], padding="constant", pixel_size=0.065)
        facts = model.info
        self.assertEqual(facts.target_mean, (9, 11))
        self.assertEqual((facts.padding, facts.pixel_size, facts.has_normalisation), ("constant", 0.065, 1))
        model.set_normalisation(target_deviation=[5, 7])            # the rest stays
        self.assertEqual(model.info.target_mean, (9, 11))
        self.assertEqual(model.info.target_deviation, (5, 7))
        self.assertEqual(model.split(image()).channels.shape, (2, 70, 90))

    def test_plans(self):
        model = trained()
        cost = model.tiler(samples=3).plan(200, 300)
        self.assertGreaterEqual(cost.tiles, (200 // cost.inner) * (300 // cost.inner))
        self.assertGreater(cost.host_bytes, 0)
        self.assertGreater(model.plan("train", batch=8).arena_bytes, model.plan("predict", batch=1).arena_bytes)
        self.assertGreater(len(model.plan_text("predict", 1).splitlines()), 5)

    def test_options_by_name(self):
        facts = fresh(family="HVAE", variant="vanilla", lc_count=0).info
        self.assertEqual((facts.family, facts.variant, facts.lc_count), ("hvae", "vanilla", 0))
        facts = fresh(z_dims=[8, 12], activation="leaky-relu", merge="LINEAR").info
        self.assertEqual((facts.z_dims, facts.activation, facts.merge), ((8, 12), "leaky_relu", "linear"))
        data = usplit.Dataset.critters(n_frames=6, size=64, n_curves=2, levels=3, train_frames=[0, 2, 4],
                                       validation_frames=np.array([1]), test_frames=[], context=context())
        self.assertEqual(list(data.frames("train")), [0, 2, 4])
        self.assertEqual(list(data.frames("validation")), [1])
        self.assertEqual(list(data.frames("test")), [])
        self.assertEqual(data.info.padding, "constant")

    def test_facts_print_and_compare(self):
        facts = dataset().info
        self.assertEqual(facts, dataset().info)
        self.assertEqual(facts.asdict()["n_frames"], 10)
        self.assertIn("n_frames", str(facts))
        self.assertEqual(pickle.loads(pickle.dumps(facts)), facts)

    def test_log(self):
        lines = []
        made = usplit.Context("cpu", threads=1, log=lambda level, line: lines.append(line))
        self.assertIn("device cpu", lines[0])
        with self.assertLogs("usplit", "INFO") as logged:
            usplit.Context("cpu", threads=1, log=True)
        self.assertIn("device cpu", logged.output[0])
        made.close()


class Datasets(Case):
    def setUp(self):
        rng = np.random.default_rng(2)
        self.one = rng.integers(0, 900, (6, 64, 72)).astype(np.uint16)
        self.two = rng.integers(0, 700, (6, 64, 72)).astype(np.uint16)
        self.made = usplit.Dataset.from_arrays([self.one, self.two], levels=3, context=context())

    def assertSameData(self, a, b):
        self.assertEqual(a.info, b.info)
        for frame in range(a.info.n_frames):
            for channel in range(a.info.n_channels):
                self.assertSame(a.frame(frame, channel, 1), b.frame(frame, channel, 1))

    def test_ways_to_hand_over_arrays(self):
        stack = np.stack([self.one, self.two], 1)
        last = np.stack([self.one, self.two], -1)
        make = usplit.Dataset.from_arrays
        self.assertSameData(self.made, make(stack, levels=3, context=context()))
        self.assertSameData(self.made, make(last, "TYXC", levels=3, context=context()))
        self.assertSameData(self.made, make(np.moveaxis(last, 1, 2), "txyc", levels=3, context=context()))
        self.assertSameData(self.made, make([self.one.astype(np.float32), self.two], levels=3, context=context()))
        self.assertEqual(make([self.one[0], self.two[0]], validation_fraction=0, test_fraction=0,
                              context=context()).info.n_frames, 1)

    def test_reader(self):
        asked = []

        def read(frame, channel):
            asked.append((frame, channel))
            return (self.one, self.two)[channel][frame].astype(np.float64)

        data = usplit.Dataset.from_reader(read, 6, 2, (64, 72), levels=3, context=context())
        self.assertSameData(self.made, data)
        self.assertEqual(set(asked), {(f, c) for f in range(6) for c in range(2)})
        sizes = usplit.Dataset.from_reader(lambda f, c: np.ones((40 + f, 50)) * (1 + c + np.arange(50)), 6, 2,
                                           lambda frame: (40 + frame, 50), levels=2, context=context())
        self.assertEqual(sizes.frame(3, 0).shape, (43, 50))

    def test_unpaired(self):
        make = dict(unpaired=1, levels=3, validation_fraction=0, test_fraction=0, context=context())
        arrays = [self.one, self.two[:2, :40]]
        data = usplit.Dataset.from_arrays(arrays, **make)
        sizes = [a.shape[1:] for a in arrays for _ in a]
        same = usplit.Dataset.from_reader(lambda f, c: arrays[c][f - 6 * c], 8, 2, lambda f: sizes[f],
                                          channel_frames=[6, 2], **make)
        for f in range(8):
            self.assertSame(data.frame(f, int(f >= 6), 1), same.frame(f, int(f >= 6), 1))
        model = fresh()
        facts = usplit.Trainer(model, data, augment=1, weight_low=[0.5, 0.8], batch=4, max_steps=3).fit()
        self.assertTrue(np.isfinite(facts.loss))
        with self.assertRaisesRegex(usplit.ArgumentError, "channel_frames has 1"):
            usplit.Dataset.from_reader(lambda f, c: None, 8, 2, (64, 72), channel_frames=[8], **make)

    def test_inputs(self):
        make = dict(levels=3, context=context(), clip_quantile=1)
        mixture = (self.one + 2.0 * self.two).astype(np.float32)
        arrays = [self.one.astype(np.float32), self.two.astype(np.float32)]
        measured = usplit.Dataset.from_arrays(arrays + [mixture], input="measured", **make)
        self.assertEqual((measured.info.n_channels, measured.info.input), (2, "measured"))
        self.assertSame(measured.mixed(1), mixture[1])
        added = usplit.Dataset.from_arrays(arrays, input="sum", centring="exact", **make)
        np.testing.assert_allclose(added.mixed(1), self.one[1].astype(float) + self.two[1], rtol=1e-6)
        model = fresh()
        usplit.Trainer(model, added, **TRAINING).fit()
        self.assertEqual((model.info.input, model.info.centring), ("sum", "exact"))
        self.assertEqual(model.info.mixture_weight[:2], (1.0, 1.0))
        result = model.split(added.mixed(1), residual=True)
        np.testing.assert_allclose(result.residual, added.mixed(1) - result.channels.sum(0), atol=1e-3)
        model = fresh()
        usplit.Trainer(model, measured, **TRAINING).fit()
        with self.assertRaisesRegex(usplit.ArgumentError, "measured"):
            model.split(mixture[0], residual=True)

    def test_reader_that_fails(self):
        def read(frame, channel):
            raise LookupError("frame %d is on tape" % frame)
        with self.assertRaisesRegex(LookupError, "frame 0 is on tape"):
            usplit.Dataset.from_reader(read, 6, 2, (64, 72), context=context())
        with self.assertRaisesRegex(usplit.ArgumentError, "returned 3 x 4 pixels; accepted: 64 x 72"):
            usplit.Dataset.from_reader(lambda f, c: np.zeros((3, 4)), 6, 2, (64, 72), context=context())

    def test_refused(self):
        with self.assertRaisesRegex(TypeError, r"arrays\[1\] has dtype float64"):
            usplit.Dataset.from_arrays([self.one, self.two.astype(float)], context=context())
        with self.assertRaisesRegex(usplit.ArgumentError, "images"):
            usplit.Dataset.from_arrays([self.one, self.two[:3]], context=context())
        with self.assertRaisesRegex(TypeError, "critters has no option 'curves'.*n_curves.*clip_quantile"):
            usplit.Dataset.critters(curves=3)
        with self.assertRaisesRegex(TypeError, "from_arrays"):
            usplit.Dataset()
        with self.assertRaisesRegex(usplit.ArgumentError, "split is 'random'; accepted: 'interleaved'"):
            usplit.Dataset.critters(split="random")

    def test_file(self):
        try:
            import h5py
        except ImportError:
            self.skipTest("h5py is not installed")
        file = self.folder() / "frames.h5"
        with h5py.File(file, "w") as out:
            out["images"] = np.stack([self.one, self.two], 1)
        self.assertSameData(self.made, usplit.Dataset.open(file, "/images", levels=3, context=context()))


class Compare(Case):
    def test_against_numpy(self):
        a, b = image(), image(seed=1)
        quality = usplit.compare(a, b)
        self.assertAlmostEqual(quality.rmse, float(np.sqrt(np.mean((a - b) ** 2))), places=4)
        self.assertAlmostEqual(quality.psnr, 20 * math.log10(float(a.max() - a.min()) / quality.rmse), places=4)
        self.assertEqual(usplit.compare(a.T, b.T, "XY"), quality)
        self.assertEqual(usplit.compare(a.astype(np.uint8), b), quality)
        with self.assertRaises(usplit.ArgumentError):
            usplit.compare(a, b[:10])
