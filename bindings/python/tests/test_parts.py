"""Parts of an image, as several machines would share one: together they give the bytes of the whole."""
import numpy as np

from .common import Case, image, sampling, trained
import usplit

HEIGHT, WIDTH = 210, 75


def spans(n, parts):
    """n rows of tiles in so many parts."""
    ends = [n * i // parts for i in range(parts + 1)]
    return list(zip(ends, ends[1:]))


class Parts(Case):
    def setUp(self):
        self.image = image(HEIGHT, WIDTH)

    def part(self, tiler, first, n, planes):
        """Streams a part into planes; gives facts, the rows written, and the rows asked for."""
        written, asked = [], []

        def read(row, n_rows):
            asked.append((row, row + n_rows))
            return self.image[row:row + n_rows]

        def write(row, p):
            written.append((row, row + p.shape[1]))
            planes[:, row:row + p.shape[1]] = p

        facts = tiler.stream(read, write, HEIGHT, WIDTH, first_tile_row=first, n_tile_rows=n)
        self.assertEqual([a for a, _ in written[1:]], [b for _, b in written[:-1]])     # in order, each once
        return facts, (written[0][0], written[-1][1]), (min(a for a, _ in asked), max(b for _, b in asked))

    def test_the_bytes_of_the_whole(self):
        for model, options in ((trained(), {}), (sampling(), {"samples": 2, "seed": 5, "deviations": 1}),
                               (trained(), {"shifts": 3, "deviations": 1}), (trained(), {"pad": 4}),
                               (trained(), {"tiling": "outer"}), (sampling(), {"samples": 2, "shifts": 2})):
            with self.subTest(options):
                tiler = model.tiler(**options)
                whole = tiler.split(self.image)
                expected = whole.channels if whole.std is None else np.concatenate([whole.channels, whole.std])
                plan = tiler.plan(HEIGHT, WIDTH)
                self.assertEqual(plan.tile_rows, -(-HEIGHT // plan.inner))
                for parts in (1, 2, 3, plan.tile_rows):
                    together = np.full(expected.shape, np.nan, np.float32)
                    tiles = 0
                    for first, end in spans(plan.tile_rows, parts):
                        # A machine of its own: another tiler.
                        facts, rows, _ = self.part(model.tiler(**options), first, end - first, together)
                        self.assertEqual(rows, (first * plan.inner, min(end * plan.inner, HEIGHT)))
                        tiles += facts.tiles
                    self.assertSame(together, expected)
                    # Tiles of shifted grids that lie on a border are predicted on both sides of it.
                    (self.assertGreaterEqual if options.get("shifts", 1) > 1 and parts > 1 else
                     self.assertEqual)(tiles, plan.tiles)

    def test_one_after_the_other_with_one_tiler(self):
        tiler = trained().tiler()
        together = np.full((2, HEIGHT, WIDTH), np.nan, np.float32)
        for first in (3, 0, 5):                             # in any order
            self.part(tiler, first, 3 if first == 0 else 2, together)
        rows = tiler.plan(HEIGHT, WIDTH).tile_rows
        self.part(tiler, 7, rows - 7, together)
        self.assertSame(together, tiler.split(self.image).channels)

    def test_the_rest(self):
        """n_tile_rows 0, or left out: all from the first one on; the last row of tiles may be cut."""
        tiler = trained().tiler()
        plan = tiler.plan(HEIGHT, WIDTH)
        expected = tiler.split(self.image).channels
        self.assertNotEqual(HEIGHT % plan.inner, 0)
        for first in (0, 5, plan.tile_rows - 1):
            planes = np.full(expected.shape, np.nan, np.float32)
            _, rows, _ = self.part(tiler, first, 0, planes)
            self.assertEqual(rows, (first * plan.inner, HEIGHT))
            self.assertSame(planes[:, rows[0]:].copy(), expected[:, rows[0]:].copy())
            self.assertTrue(np.isnan(planes[:, :rows[0]]).all())

    def test_reads_what_it_needs(self):
        """A part in the middle reads neither end of the image; what it clipped is counted of what it read."""
        tiler = trained().tiler()
        planes = np.zeros((2, HEIGHT, WIDTH), np.float32)
        facts, rows, (low, high) = self.part(tiler, 5, 1, planes)
        self.assertTrue(0 < low < rows[0] < rows[1] < high < HEIGHT)
        clip = trained().info.clip_value
        self.assertEqual(facts.clipped_pixels, int((self.image[low:high] > clip).sum()))
        self.assertLess(facts.clipped_pixels, tiler.split(self.image).info.clipped_pixels)

    def test_refused(self):
        tiler = trained().tiler()
        n = tiler.plan(HEIGHT, WIDTH).tile_rows
        for first, count in ((n, 1), (n, 0), (-1, 1), (0, n + 1), (n - 1, 2), (0, -1)):
            with self.assertRaisesRegex(usplit.ArgumentError, "tile_row.*accepted") as caught:
                tiler.stream(lambda row, m: self.image[row:row + m], lambda *a: None, HEIGHT, WIDTH,
                             first_tile_row=first, n_tile_rows=count)
            self.assertNotIn("\n", str(caught.exception))
