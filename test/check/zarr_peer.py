# zarr_peer.py TOOL FOLDER: OME-Zarr exchanged with zarr-python 2. What it writes in many types, codecs and chunks, TOOL
# (test_zarr) reads; what TOOL writes has the same pixels there, and metadata that keep the rules of NGFF 0.4.
import itertools
import json
import math
import subprocess
import sys

import numpy
import zarr
from numcodecs import GZip, Zlib, Zstd, Blosc

tool, folder = sys.argv[1:]
checks = 0


def expect(is_so, what):
    global checks
    checks += 1
    if not is_so:
        sys.exit(f"zarr_peer: {what}")


def read(name):
    done = subprocess.run([tool, "read", name], capture_output=True)
    expect(done.returncode == 0, f"{name}: {done.stderr.decode()}")
    slices, frames, height, width = (int(n) for n in done.stderr.split()[:4])
    return numpy.frombuffer(done.stdout, numpy.float32).reshape(frames, slices, height, width), done.stderr.decode()


# ---- theirs, read by us
codecs = [None, Zlib(5), GZip(5), Zstd(3)] + [
    Blosc(cname, 5, shuffle) for cname, shuffle in
    (("lz4", Blosc.SHUFFLE), ("lz4hc", Blosc.BITSHUFFLE), ("zstd", Blosc.SHUFFLE), ("blosclz", Blosc.NOSHUFFLE),
     ("zlib", Blosc.BITSHUFFLE))
]
types = ["u1", "i1", "<u2", ">u2", "<i2", "<u4", ">i4", "<f4", ">f4", "<f8", ">f8"]
shapes = [((2, 2, 3, 61, 83), (1, 1, 1, 20, 32)), ((2, 2, 3, 61, 83), (2, 1, 2, 61, 100)),
          ((2, 2, 3, 61, 83), (1, 2, 3, 7, 83))]
random = numpy.random.default_rng(1)
for n, (codec, dtype) in enumerate(itertools.product(codecs, types)):
    shape, chunks = shapes[n % 3]
    name = f"{folder}/theirs{n}.ome.zarr"
    image = (random.random(shape) * (127 if dtype[-1] == "1" else 30000)).astype(dtype)
    store = zarr.DirectoryStore(name)
    group = zarr.group(store)
    array = group.create_dataset("deep/0" if n % 2 else "0", shape=shape, chunks=chunks, dtype=dtype, compressor=codec,
                                 dimension_separator="/" if n % 3 else ".", fill_value=0, write_empty_chunks=n % 5 > 0)
    image[0, 1, 2, 20:40] = 0
    array[:] = image
    group.attrs["multiscales"] = [{
        "version": "0.4", "name": "x",
        "axes": [{"name": "t", "type": "time", "unit": "millisecond"}, {"name": "c", "type": "channel"}] +
                [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"],
        "datasets": [{"path": array.path,
                      "coordinateTransformations": [{"type": "scale", "scale": [500, 1, 0.5, 0.25, 0.125]}]}]}]
    group.attrs["omero"] = {"channels": [{"label": "one"}, {"label": "two µ"}]}
    for c in range(2):
        ours, facts = read(f"{name}@{c + 1}")
        expect(numpy.array_equal(ours, image[:, c].astype(numpy.float32)), f"{name}: other pixels ({codec}, {dtype})")
        expect(facts.split()[5:9] == ["0.25", "0.125", "0.5", "0.5"], f"{name}: facts are {facts}")
        expect(facts.split(maxsplit=9)[9].strip() == ["one", "two µ"][c], f"{name}: facts are {facts}")

# ---- ours, read by them


def pixel(place, c, height, width):
    y, x = numpy.mgrid[:height, :width]
    return (place * 31 + c * 100 + y * 3 + x % 101) % 251


def halved(image):
    height, width = image.shape
    image = numpy.pad(image, ((0, height % 2), (0, width % 2)), mode="edge").astype(float)
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


for dtype, height, width, channels, slices, frames in (
        ("u8", 100, 90, 1, 1, 1), ("u16", 1301, 777, 3, 2, 1), ("f32", 600, 1201, 2, 1, 3)):
    name = f"{folder}/ours_{dtype}.ome.zarr"
    done = subprocess.run([tool, "write", name, dtype, *(str(n) for n in (height, width, channels, slices, frames))])
    expect(done.returncode == 0, f"{name}: not written")
    group = zarr.open(name, mode="r")
    attributes = group.attrs.asdict()
    (multiscale,) = attributes["multiscales"]
    expect(multiscale["version"] == "0.4", "version")
    names = [a["name"] for a in multiscale["axes"]]
    expect(names == list("tczyx"), "axes are not in the order time, channel, space")
    expect([a["type"] for a in multiscale["axes"]] == ["time", "channel"] + 3 * ["space"], "types of the axes")
    expect([a.get("unit") for a in multiscale["axes"]] == ["second", None] + 3 * ["micrometer"], "units of the axes")
    shape = (frames, channels, slices, height, width)
    planes = {(t, c, z): pixel(z + slices * t, c, height, width).astype(float) for t in range(frames)
              for c in range(channels) for z in range(slices)}
    for k, dataset in enumerate(multiscale["datasets"]):
        array = group[dataset["path"]]
        expect(array.dtype == {"u8": "u1", "u16": "u2", "f32": "f4"}[dtype], "dtype")
        expect(array.shape == shape, f"level {k} has shape {array.shape}, not {shape}")
        expect(json.load(open(f"{name}/{dataset['path']}/.zarray"))["dimension_separator"] == "/", "separator")
        for (t, c, z), plane in planes.items():
            expected = plane.astype(numpy.float32) if dtype == "f32" else numpy.rint(plane)
            expect(numpy.array_equal(array[t, c, z], expected), f"{name}: level {k} has other pixels")
        transformations = dataset["coordinateTransformations"]
        expect([x["type"] for x in transformations] in (["scale"], ["scale", "translation"]), "transformations")
        expect(all(len(x[x["type"]]) == 5 for x in transformations), "numbers of a transformation")
        scale = transformations[0]["scale"]
        expect(scale[:3] == [2, 1, 0.5] and math.isclose(scale[3], 0.35 * 2**k) and math.isclose(scale[4], 0.36 * 2**k),
               f"level {k} has scale {scale}")
        if k > 0:
            shift = transformations[1]["translation"]
            expect(shift[:3] == [0, 0, 0] and math.isclose(shift[4], 0.36 * (2**k - 1) / 2), f"translation {shift}")
        planes = {at: halved(plane) for at, plane in planes.items()}
        shape = shape[:3] + tuple((n + 1) // 2 for n in shape[3:])
    expect(max(array.shape[3:]) <= 512, "the pyramid ends early")
    labels = attributes["omero"]["channels"]
    expect(len(labels) == channels, "number of channels")
    expect(labels[0]["label"] == "lamin B1", "label")
    for label in labels:
        expect(len(label["color"]) == 6 and int(label["color"], 16) >= 0, "colour")
        expect(label["window"]["min"] <= label["window"]["start"] < label["window"]["end"] <= label["window"]["max"],
               f"window {label['window']}")
print(f"{checks} checks with zarr {zarr.__version__}: both ways the same pixels and metadata")
