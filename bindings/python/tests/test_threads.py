"""Threads, cancelling, signals, fork and the order in which handles go."""
import signal
import threading
import time

import numpy as np

from .common import TRAINING, Case, context, dataset, fresh, image, sampling, script, trained
import usplit

ENDLESS = dict(batch=4, steps_per_epoch=50, max_epochs=1000000)

# What the scripts begin with: small things to be freed, interrupted or inherited.
MAKE = """
import gc, itertools, os, signal, sys, threading, time, weakref
import numpy as np
import usplit
def make(log=None, threads=2):
    context = usplit.Context("cpu", threads=threads, log=log)
    data = usplit.Dataset.critters(n_frames=6, size=64, n_curves=2, levels=3, context=context)
    model = usplit.Model.create("hae", "lean", levels=2, lc_count=2, filters=8, z_dims=8, patch=32, context=context)
    trainer = usplit.Trainer(model, data, batch=4, steps_per_epoch=50, max_epochs=1000000)
    trainer.step()
    return context, data, model, trainer
x = np.random.default_rng(0).integers(0, 30, (70, 90)).astype(np.uint16)
"""


class Threads(Case):
    def run_all(self, functions):
        """Each in a thread; their results, or the first exception."""
        results, errors = [None] * len(functions), []

        def work(i):
            try:
                results[i] = functions[i]()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(functions))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results

    def test_one_model_in_many_threads(self):
        images = [image(100, 90, seed) for seed in range(4)]
        expected = [sampling().split(x, seed=i).channels for i, x in enumerate(images)]

        def work(i):
            return [sampling().split(images[i], seed=i).channels for _ in range(5)]

        for i, results in enumerate(self.run_all([lambda i=i: work(i) for i in range(4)])):
            for channels in results:
                self.assertSame(channels, expected[i])

    def test_messages_belong_to_their_threads(self):
        def work(i):
            for _ in range(50):
                with self.assertRaisesRegex(usplit.ArgumentError, "levels is %d;" % (100 + i)):
                    fresh(levels=100 + i)
        self.run_all([lambda i=i: work(i) for i in range(4)])

    def test_python_runs_during_a_call(self):
        """One pass over a patch that takes long, with no callback in between: another thread gets on meanwhile."""
        big = usplit.Model.create("hae", "vanilla", lc_count=0, filters=64, patch=64, context=context())
        big.set_normalisation(clip_value=100, input_mean=10, input_deviation=5, target_mean=[9, 9],
                              target_deviation=[5, 5])
        tiler = big.tiler(batch=1)
        x = image(64, 64)
        tiler.split(x)
        begun, ended, seen = [], [], []

        def work():
            begun.append(time.perf_counter())
            tiler.split(x)
            ended.append(time.perf_counter())

        for _ in range(20):                     # the scheduler may not have let us in: try again
            thread = threading.Thread(target=work)
            thread.start()
            while thread.is_alive():
                seen.append(time.perf_counter())
            thread.join()
            inside = [t for t in seen if begun[-1] + 0.2 * (ended[-1] - begun[-1]) < t <
                      ended[-1] - 0.2 * (ended[-1] - begun[-1])]
            if len(inside) > 3:
                return
        self.fail("no other thread ran during a call")

    def test_refused_while_training(self):
        model = fresh()
        trainer = usplit.Trainer(model, dataset(), **ENDLESS)
        started, outcome = threading.Event(), []

        def work():
            try:
                trainer.fit(progress=lambda p: started.set())
            except usplit.Error as error:
                outcome.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        self.assertTrue(started.wait(20))
        for call in (lambda: model.split(image()), lambda: model.info, lambda: model.save("x.h5"), lambda: trainer.info,
                     trainer.fit, trainer.close, model.close, lambda: usplit.Trainer(model, dataset()),
                     lambda: model.set_normalisation(pixel_size=1)):
            with self.assertRaisesRegex(usplit.StateError, "is running|is being trained") as caught:
                call()
            self.assertEqual(caught.exception.code, "USPLIT_ERR_BUSY")
        trainer.cancel()
        thread.join(20)
        self.assertIsInstance(outcome[0], usplit.Cancelled)
        self.assertGreater(trainer.info.step, 0)
        self.assertEqual(model.split(image()).channels.shape, (2, 70, 90))

    def test_refused_in_its_own_callback(self):
        model = fresh()
        trainer = usplit.Trainer(model, dataset(), **TRAINING)
        codes = []

        def report(progress):
            for call in (trainer.step, lambda: trainer.info, lambda: model.split(image()), trainer.close):
                try:
                    call()
                except usplit.StateError as error:
                    codes.append(error.code)

        trainer.fit(progress=report)
        self.assertEqual(set(codes), {"USPLIT_ERR_BUSY"})
        self.assertEqual(trainer.info.step, 8)

    def test_refused_while_splitting(self):
        model = fresh()
        usplit.Trainer(model, dataset(), **TRAINING).fit()
        tiler = model.tiler()
        codes = []

        def report(progress):
            for call in (lambda: tiler.plan(9, 9), lambda: tiler.split(image()), tiler.close, model.close,
                         lambda: model.set_normalisation(pixel_size=1), lambda: usplit.Trainer(model, dataset())):
                try:
                    call()
                except usplit.StateError as error:
                    codes.append(error.code)
            model.info                      # reading is free, and so are other tilers
            self.assertSame(model.tiler().split(image()).channels, expected)

        expected = tiler.split(image()).channels
        self.assertSame(tiler.split(image(), progress=report).channels, expected)
        self.assertEqual(set(codes), {"USPLIT_ERR_BUSY"})
        self.assertEqual(len(codes) % 6, 0)

    def test_cancel_a_split_from_another_thread(self):
        tiler = sampling().tiler(samples=2000)
        started = threading.Event()
        thread = threading.Thread(target=lambda: (started.wait(20), tiler.cancel()))
        thread.start()
        with self.assertRaises(usplit.Cancelled):
            tiler.split(image(300, 300), progress=lambda p: started.set())
        thread.join()
        self.assertEqual(trained().tiler().split(image()).channels.shape, (2, 70, 90))

    def test_progress_stops_and_fails(self):
        last = self.folder() / "last.h5"
        trainer = usplit.Trainer(fresh(), dataset(), last_file=last, **ENDLESS)
        with self.assertRaisesRegex(usplit.Cancelled, "progress callback"):
            trainer.fit(progress=lambda p: False)
        self.assertTrue(last.exists())
        with self.assertRaisesRegex(ZeroDivisionError, "division"):
            trainer.fit(progress=lambda p: 1 / 0)
        done = trainer.info.step
        self.assertEqual(trainer.step().step, done + 1)
        with self.assertRaises(usplit.Cancelled):
            trained().split(image(), progress=lambda p: False)
        with self.assertRaises(KeyError):
            trained().split(image(), progress=lambda p: {}["x"])

    def test_closed(self):
        model = fresh()
        with model:
            self.assertFalse(model.closed)
        with self.assertRaisesRegex(usplit.StateError, "the model is closed"):
            model.split(image())
        model.close()                                   # again: nothing happens


class Signals(Case):
    """In this process' main thread, with an alarm whose handler raises; and Ctrl-C as a user's program sees it."""

    class Alarm(Exception):
        pass

    def setUp(self):
        def ring(number, frame):
            raise self.Alarm()
        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, ring))
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)

    def test_an_exception_of_a_handler_arrives_whenever_it_is_raised(self):
        trainer = usplit.Trainer(fresh(), dataset(), **ENDLESS)
        tiler = sampling().tiler(samples=65536)
        calls = [trainer.fit, lambda: trainer.fit(progress=lambda p: None), lambda: tiler.split(image()),
                 lambda: tiler.stream(lambda row, n: np.zeros((n, 200)), lambda row, planes: None, 5000, 200)]
        for i in range(12):
            handler = signal.getsignal(signal.SIGALRM)
            signal.setitimer(signal.ITIMER_REAL, 0.02 + 0.003 * i)
            with self.assertRaises(self.Alarm):
                calls[i % len(calls)]()
            self.assertIs(signal.getsignal(signal.SIGALRM), handler)
        trainer.step()
        self.assertEqual(sampling().split(image()).channels.shape, (2, 70, 90))

    def test_a_handler_that_does_not_raise_stops_nothing(self):
        rung = []
        signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        trainer = usplit.Trainer(fresh(), dataset(), batch=4, steps_per_epoch=100, max_epochs=1)
        self.assertEqual(trainer.fit().step, 100)
        self.assertGreater(len(rung), 0)

    def test_a_reader_is_interrupted(self):
        signal.setitimer(signal.ITIMER_REAL, 0.05)

        def read(frame, channel):
            time.sleep(0.01)
            return np.ones((64, 64))

        with self.assertRaises(self.Alarm):
            usplit.Dataset.from_reader(read, 100000, 2, (64, 64), context=context())

    def test_a_read_that_blocks_is_interrupted(self):
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        begun = time.monotonic()
        with self.assertRaises(self.Alarm):
            trained().tiler().stream(lambda row, n: time.sleep(60), lambda row, planes: None, 100, 100)
        self.assertLess(time.monotonic() - begun, 30)

    def test_a_read_may_handle_its_own_alarm(self):
        rung = []

        def read(row, n):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            try:
                time.sleep(60)
            except self.Alarm:
                rung.append(row)
            return np.ones((n, 40))

        facts = trained().tiler().stream(read, lambda row, planes: None, 40, 40)
        self.assertGreater(len(rung), 0)
        self.assertGreater(facts.tiles, 0)

    def test_control_c(self):
        done = script(MAKE + """
def press(delay):
    threading.Thread(target=lambda: (time.sleep(delay), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
context, data, model, trainer = make()
begun = time.monotonic()
press(0.3)
try:
    trainer.fit(progress=True)
    print("returned")
except KeyboardInterrupt:
    print("interrupted")
assert time.monotonic() - begun < 20
print(trainer.step().step == trainer.info.step > 1)
press(0.2)
try:
    model.split(np.zeros((20000, 2000), np.uint8))
except KeyboardInterrupt:
    print("interrupted")
print(model.split(x).channels.shape == (2, 70, 90))
try:                                    # outside a call everything is as it was
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except KeyboardInterrupt:
    print("interrupted")
""")
        self.assertEnded(done, "interrupted True interrupted True interrupted")

    def test_control_c_ends_a_program(self):
        done = script(MAKE + """
context, data, model, trainer = make()
threading.Thread(target=lambda: (time.sleep(0.3), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
trainer.fit()
""")
        self.assertEqual(done.returncode, -signal.SIGINT)
        self.assertTrue(done.stderr.rstrip().endswith("KeyboardInterrupt"), done.stderr)
        self.assertNotIn("Exception ignored", done.stderr)


class Ends(Case):
    def test_handles_go_in_any_order(self):
        done = script(MAKE + """
lines = []
for order in itertools.permutations(range(5)):
    things = list(make(log=lambda level, line: lines.append(line), threads=1))
    things.append(things[2].tiler())
    del things[3:3]
    weak = [weakref.ref(thing) for thing in things]
    finalizers = [thing._finalizer for thing in things]
    for i in order:                     # the handle itself, whatever Python still thinks of it
        finalizers[i]()
    del things
    gc.collect()
    assert all(w() is None for w in weak)
print(len(lines))
""")
        self.assertEnded(done, "120")

    def test_handles_go_by_reference_and_in_cycles(self):
        done = script(MAKE + """
gc.disable()
context, data, model, trainer = make()
model.split(x)                          # keeps a tiler for next time, but no cycle
weak = [weakref.ref(thing) for thing in (context, data, model, trainer)]
del context, data, trainer
print(sum(w() is not None for w in weak))     # the model keeps its context
del model
print(sum(w() is not None for w in weak))
gc.enable()
for i in range(20):
    context, data, model, trainer = things = make(log=print if i < 0 else lambda level, line: None)
    tiler = model.tiler()
    for thing in things + (tiler,):
        thing.others = things + (tiler,)
    del context, data, model, trainer, things, thing, tiler
    gc.collect()
print("collected")
""")
        self.assertEnded(done, "2 0 collected")

    def test_handles_live_to_the_end_of_the_program(self):
        done = script(MAKE + """
context, data, model, trainer = make(log=lambda level, line: None)
tiler = model.tiler()
model.split(x)
keep = [context, data, model, trainer, tiler]
keep.append(keep)
print("end")
""")
        self.assertEnded(done, "end")

    def test_a_daemon_thread_still_trains_at_the_end(self):
        done = script(MAKE + """
context, data, model, trainer = make()
started = threading.Event()
threading.Thread(target=lambda: trainer.fit(progress=lambda p: started.set()), daemon=True).start()
started.wait(20)
print("end")
""")
        self.assertEnded(done, "end")

    def test_fork(self):
        """A child can neither use nor free what it inherited, and can make its own."""
        done = script(MAKE + """
context, data, model, trainer = make()
usplit.default_context()
expected = model.split(x).channels
model.save(sys.argv[1])
child = os.fork()
if child == 0:
    for call in (lambda: model.split(x), lambda: model.info, trainer.step, lambda: data.info, lambda: context.info):
        try:
            call()
            print("used")
        except usplit.StateError as error:
            assert "fork()" in str(error), error
    del context, data, model, trainer
    gc.collect()
    own = usplit.Model.load(sys.argv[1])
    print("child", (own.split(x).channels == expected).all(), flush=True)
    sys.exit(0)                         # with finalisers
assert os.waitpid(child, 0)[1] == 0
print("parent", (model.split(x).channels == expected).all())
""", self.folder() / "model.h5")
        self.assertEnded(done, "child True parent True")

    def test_not_pickled_and_not_copied(self):
        import copy
        import pickle
        for thing in (trained(), context(), dataset()):
            with self.assertRaisesRegex(TypeError, "cannot be pickled"):
                pickle.dumps(thing)
            with self.assertRaisesRegex(TypeError, "cannot be copied"):
                copy.copy(thing)
        error = usplit.ArgumentError(11, "a line")
        again = pickle.loads(pickle.dumps(error))
        self.assertEqual((type(again), again.status, str(again)), (usplit.ArgumentError, 11, "a line"))
