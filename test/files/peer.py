"""Image files as other programs write and read them, for test_images.

peer.py write FOLDER   files of many layouts, and FOLDER/list: a line for each channel of each file,
                       name|axes|channels|slices|frames|width|height|pixel size|spacing|interval|raw
                       where raw holds the pixels, float32 [frame][slice][row][column]
peer.py check FOLDER   reads what the test wrote there; the first difference ends it with a line

Exit status 77: tifffile is not installed.
"""
import sys

try:
    import numpy as np
    import tifffile
except ImportError as e:
    print(e)
    sys.exit(77)
try:
    import h5py
except ImportError:
    h5py = None

T, C, Z, Y, X = 3, 2, 4, 37, 53


def numbers(axes, dtype):
    """An array with the axes named, every value telling its place; and its copy in the order TCZYX."""
    sizes = dict(T=T if "T" in axes else 1, C=C if "C" in axes else 1, Z=Z if "Z" in axes else 1, Y=Y, X=X)
    t, c, z, y, x = np.ogrid[tuple(slice(sizes[a]) for a in "TCZYX")]
    whole = t * 71 + c * 37 + z * 13 + y * 2 + x * 3 % 7 + (y * x) % 11
    whole = (whole % 250).astype(dtype) if np.dtype(dtype).itemsize == 1 else (whole * 5).astype(dtype)
    if np.dtype(dtype).kind in "if" and np.dtype(dtype).itemsize > 1:
        whole = (whole - 100).astype(dtype)
    if np.dtype(dtype).kind == "f":
        whole = (whole / 8).astype(dtype)
    kept = "".join(a for a in axes if a in "TCZYX")
    index = tuple(slice(None) if a in kept else 0 for a in "TCZYX")
    small = whole[index]
    standing = [a for a in "TCZYX" if a in kept]
    return np.ascontiguousarray(small.transpose([standing.index(a) for a in kept])), whole


def write(folder):
    with open(folder + "/list", "w") as lines:
        def add(name, whole, option="", pixel=0, spacing=0, interval=0):
            t, c, z, y, x = whole.shape
            for k in range(c):
                raw = f"{name.replace(':', '').replace('/', '')}.{k}.raw"
                whole[:, k].astype("<f4").tofile(f"{folder}/{raw}")
                chosen = f"{name}@{k + 1}" if c > 1 else name
                print(f"{chosen}|{option}|{c}|{z}|{t}|{x}|{y}|{pixel}|{spacing}|{interval}|{raw}", file=lines)

        def plain(name, axes, dtype, option="", **how):
            a, whole = numbers(axes, dtype)
            tifffile.imwrite(f"{folder}/{name}", a, **how)
            add(name, whole, option)

        # Types and ways to store.
        for dtype in "u1 u2 u4 i1 i2 i4 f4 f8".split():
            plain(f"type_{dtype}.tif", "TYX", dtype, photometric="minisblack")
        plain("bigendian.tif", "TYX", ">u2", byteorder=">", photometric="minisblack")
        plain("bigendian_f8.tif", "TYX", ">f8", byteorder=">", photometric="minisblack")
        plain("bigtiff.tif", "TYX", "u2", bigtiff=True, photometric="minisblack")
        plain("tiled.tif", "TYX", "u2", tile=(16, 32), photometric="minisblack")
        plain("strips.tif", "TYX", "f4", rowsperstrip=5, photometric="minisblack")
        plain("deflate.tif", "TYX", "u2", compression="zlib", photometric="minisblack")
        for name, dtype, how in (("predictor", "u2", dict(compression="zlib", predictor=True)),
                                 ("predictor_f4", "f4", dict(compression="zlib", predictor=True, tile=(16, 16))),
                                 ("lzw", "u2", dict(compression="lzw", rowsperstrip=9)),
                                 ("packbits", "u1", dict(compression="packbits", rowsperstrip=9)),
                                 ("zstd", "u2", dict(compression="zstd", tile=(32, 32))),
                                 ("lzma", "f4", dict(compression="lzma"))):
            try:
                plain(name + ".tif", "TYX", dtype, photometric="minisblack", **how)
            except (ImportError, ValueError, KeyError):
                pass    # needs the package imagecodecs
        # Samples of a pixel, side by side and plane by plane; microscopes' plain stacks.
        plain("interleaved.tif", "TYXC", "u2", photometric="minisblack", planarconfig="contig", metadata=None)
        plain("planar.tif", "TCYX", "u2", photometric="minisblack", planarconfig="separate", metadata=None)
        plain("planar_tiled.tif", "TCYX", "f4", photometric="minisblack", planarconfig="separate", tile=(16, 16),
              metadata=None)
        plain("noted.tif", "TZCYX", "u2", photometric="minisblack", metadata={"axes": "TZCYX"})
        plain("named_z.tif", "ZYX", "u2", "ZYX", photometric="minisblack", metadata=None)
        plain("named_ct.tif", "TCYX", "u2", "TC2YX", photometric="minisblack", metadata=None)
        plain("named_czt.tif", "CTZYX", "u2", "C2T3ZYX", photometric="minisblack", metadata=None)
        plain("named_shape.tif", "ZTCYX", "u2", "ZTCYX", photometric="minisblack")

        # ImageJ.
        for axes in "TZCYX TCYX ZCYX ZYX TYX CYX YX".split():
            for dtype in "u1 u2 f4".split():
                a, whole = numbers(axes, dtype)
                name = f"imagej_{axes}_{dtype}.tif"
                tifffile.imwrite(f"{folder}/{name}", a, imagej=True, resolution=(1 / 0.25, 1 / 0.25),
                                 metadata={"axes": axes, "unit": "um", "spacing": 0.5, "finterval": 2.5})
                add(name, whole, "", 0.25, 0.5, 2.5)

        # One directory for all pages, as ImageJ writes over 4 GB.
        a, whole = numbers("TZCYX", "u2")
        tifffile.imwrite(f"{folder}/truncated_imagej.tif", a, imagej=True, truncate=True, metadata={"axes": "TZCYX"})
        add("truncated_imagej.tif", whole)
        plain("truncated.tif", "TZCYX", ">f4", truncate=True, byteorder=">", photometric="minisblack",
              metadata={"axes": "TZCYX"})
        plain("truncated_zyx.tif", "ZYX", "f8", "ZYX", truncate=True, photometric="minisblack")

        # OME, in every order of its axes.
        for order in "XYCZT XYCTZ XYZCT XYZTC XYTCZ XYTZC".split():
            axes = order[::-1]
            a, whole = numbers(axes, "u2")
            name = f"ome_{order}.ome.tif"
            tifffile.imwrite(f"{folder}/{name}", a, ome=True, photometric="minisblack", metadata={
                "axes": axes, "PhysicalSizeX": 0.2, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 200,
                "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 0.7, "PhysicalSizeZUnit": "µm", "TimeIncrement": 1500,
                "TimeIncrementUnit": "ms", "Channel": {"Name": ["DNA <&>", "actin"]}})
            add(name, whole, "", 0.2, 0.7, 1.5)
        a, whole = numbers("TYXC", "u1")
        rgb = np.concatenate([a, a[..., :1]], axis=-1)
        tifffile.imwrite(f"{folder}/ome_rgb.ome.tif", rgb, ome=True, photometric="rgb", metadata={"axes": "TYXS"})
        add("ome_rgb.ome.tif", np.concatenate([whole, whole[:, :1]], axis=1))
        a, whole = numbers("TCZYX", "f4")
        with tifffile.TiffWriter(f"{folder}/pyramid.ome.tif", bigtiff=True, ome=True) as f:
            how = dict(tile=(16, 16), photometric="minisblack")
            f.write(a[0, 0], subifds=1, metadata={"axes": "ZYX"}, **how)
            f.write(a[0, 0, :, ::2, ::2], subfiletype=1, metadata=None, **how)
        add("pyramid.ome.tif", whole[:1, :1])

        if h5py is not None:
            with h5py.File(f"{folder}/many.h5", "w") as f:
                for axes, how in (("TCZYX", dict(chunks=(1, 1, 2, 16, 16), compression="gzip", shuffle=True)),
                                  ("ZYX", dict(chunks=True)), ("CYX", {}), ("TZCYX", {}), ("TYXC", dict(chunks=True))):
                    a, whole = numbers(axes, "u2")
                    f.create_dataset("group/" + axes, data=a, **how)
                    add(f"many.h5:/group/{axes}", whole, axes)
                a, whole = numbers("ZYX", "f8")
                f["tagged"] = a
                f["tagged"].attrs["axistags"] = '{"axes": [{"key": "z"}, {"key": "y"}, {"key": "x"}]}'
                f["tagged"].attrs["element_size_um"] = [0.7, 0.2, 0.2]
                add("many.h5:/tagged", whole, "", 0.2, 0.7)
            with h5py.File(f"{folder}/one.h5", "w") as f:
                a, whole = numbers("TYX", "i2")
                f["data"] = a
                f["text"] = "no image"
                f["list"] = [1, 2, 3]
                add("one.h5", whole)


def check(folder):
    """What write_for_peer in test_images.c wrote: 2 channels, 3 slices, 2 time points, 75 x 301."""
    t, z, c, y, x = np.ogrid[:2, :3, :2, :75, :301]
    expected = (t * 93 + z * 31 + c * 100 + y * 2 + x % 7).astype("f4")
    for name in ("out.ome.tif", "out_u16.ome.tif", "out_big.ome.tif", "out.tif", "out_u16.tif", "out_big.tif"):
        with tifffile.TiffFile(f"{folder}/{name}") as f:
            series = f.series[0]
            assert series.axes == "TZCYX", f"{name}: axes {series.axes}"
            assert f.is_bigtiff == ("big" in name), f"{name}: BigTIFF"
            pixels = series.asarray()
            assert pixels.dtype == ("<u2" if "u16" in name else "<f4"), f"{name}: {pixels.dtype}"
            assert np.array_equal(pixels, expected), f"{name}: other pixels"
            if ".ome." in name:
                assert f.is_ome, f"{name}: no OME-TIFF"
                pix = tifffile.xml2dict(f.ome_metadata)["OME"]["Image"]["Pixels"]
                names = [k["Name"] for k in pix["Channel"]]
                assert names == ["lamin <B1> & \"co\"", "DNA µ"], names
                for key, value in (("PhysicalSizeX", 0.36), ("PhysicalSizeY", 0.36), ("PhysicalSizeZ", 0.5),
                                   ("TimeIncrement", 2), ("DimensionOrder", "XYCZT"), ("PhysicalSizeXUnit", "µm"),
                                   ("PhysicalSizeZUnit", "µm"), ("TimeIncrementUnit", "s")):
                    assert pix[key] == value, f"{name}: {key} is {pix[key]}"
            else:
                m = f.imagej_metadata
                assert f.is_imagej and m["spacing"] == 0.5 and m["finterval"] == 2 and m["unit"] == "micron", m
                assert m["Labels"][:2] == ["lamin <B1> & \"co\"", "DNA µ"], m["Labels"]
            n, d = f.pages[0].tags["XResolution"].value
            per_um = n / d / (1e4 if ".ome." in name else 1)
            assert abs(per_um - 1 / 0.36) < 1e-6, f"{name}: resolution {n}/{d}"


{"write": write, "check": check}[sys.argv[1]](sys.argv[2])
