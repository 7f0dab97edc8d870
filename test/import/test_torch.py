"""usplit import against checkpoints that PyTorch writes: every parameter must come back bit by bit. Prints TAP.

    test_torch.py PROGRAM FOLDER-OF-THE-LIBRARY [FIXTURES]
"""
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import torch

PROGRAM, LIBRARY = (os.path.realpath(a) for a in sys.argv[1:3])
FIXTURES = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
os.environ["USPLIT_LIBRARY"] = os.path.join(LIBRARY, "libusplit.so")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bindings" / "python"))
import published
import usplit

CONSTANTS = ["--target-mean", "10,20", "--target-std", "3,4"]
folder = pathlib.Path(tempfile.mkdtemp(prefix="usplit-import-"))
ckpt, h5 = folder / "a.ckpt", folder / "a.h5"


def run(*options, status=0):
    got = subprocess.run([PROGRAM, "import", str(ckpt), "-o", str(h5), "--overwrite", "--threads", "1", *options],
                         capture_output=True, text=True, timeout=120)
    assert got.returncode == status, "status %d, expected %d: %s" % (got.returncode, status, got.stderr)
    lines = [l for l in got.stderr.splitlines() if l.startswith("usplit: ")]
    assert len(lines) == (status != 0), got.stderr
    return got.stderr


def refused(words, *options, status=1):
    said = run(*CONSTANTS, *options, status=status)
    assert words in said, "'%s' is not in: %s" % (words, said)


def compare(sd, model, aliases=()):
    shapes = model.parameters
    assert set(shapes) == set(sd) - set(aliases), set(shapes) ^ set(sd)
    for name in shapes:
        ours, theirs = model.get_parameter(name), sd[name].detach().to(torch.float32).numpy()
        assert ours.shape == theirs.shape, name
        assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32)), name


def round_trip(entries, facts, *options, dtype=torch.float32, change=None, aliases=(), **save):
    sd = published.state(entries, dtype=dtype)
    if change:
        sd = change(sd)
    torch.save(published.lightning(sd), ckpt, **save)
    run(*CONSTANTS, *options)
    model = usplit.Model.load(h5)
    compare(sd, model, aliases)
    for key, value in facts.items():
        is_ = getattr(model.info, key)
        assert is_ == value, "%s is %s, expected %s" % (key, is_, value)
    return model


# ---- Networks

def test_vanilla():
    round_trip(published.lvae(4, 0, 8, 6, 64, False),
               dict(family="hvae", variant="vanilla", levels=4, lc_count=0, filters=8, patch=64))


def test_lean():
    round_trip(published.lvae(4, 4, 6, 4, 64, False), dict(variant="lean", levels=4, lc_count=4, filters=6, patch=64))


def test_regular():
    round_trip(published.lvae(4, 4, 6, 4, 64, True), dict(variant="regular", levels=4, lc_count=4, filters=6, patch=64))


def test_deep():
    round_trip(published.lvae(8, 4, 4, 3, 64, True), dict(variant="deep", levels=8, lc_count=4, filters=4, patch=64))


def test_other_patch():
    entries = published.lvae(3, 2, 4, 4, 32, True)
    round_trip(entries, dict(variant="regular", levels=3, lc_count=2, patch=32), "--patch", "32")
    round_trip(entries, dict(variant="regular", patch=32), "--variant", "regular")
    refused("--patch is needed", status=2)


def test_hae():
    def untouched(sd):
        sd["top_down_layers.3.top_prior_params"].zero_()
        return sd
    entries = published.lvae(4, 4, 6, 4, 64, True)
    round_trip(entries, dict(family="hae", variant="regular"), change=untouched)
    round_trip(entries, dict(family="hae"), "--family", "hae")


def test_three_channels_without_logvar():
    round_trip(published.lvae(2, 0, 4, 4, 64, False, channels=3, logvar=False), dict(channels=3, logvar="none"),
               "--target-mean", "1,2,3", "--target-std", "1,2,3")


def test_unet():
    round_trip(published.unet(5, 4), dict(family="unet", variant="vanilla", levels=5, filters=4))


def test_unet_regular():
    round_trip(published.unet(3, 4, lc=2), dict(family="unet", variant="regular", lc_count=2, shared_branch=0))


def test_unet_shared():
    """Layers that are shared have two names and one storage."""
    twins = {}

    def share(sd):
        for name in sd:
            found = re.match(r"lowres_net\.(\d)\.(.*)", name)
            if found:
                sd[name] = sd["down%d.maxpool_conv.1.%s" % (int(found[1]) + 1, found[2])]
                twins[name] = 1
        return sd
    round_trip(published.unet(3, 4, lc=2), dict(variant="regular", shared_branch=1), change=share, aliases=twins)


def test_context_aware():
    round_trip(published.unet(3, 4, aware=32), dict(variant="context_aware", patch=32))


def test_bravenet():
    round_trip(published.bravenet(4), dict(family="bravenet", filters=4))


# ---- Files

def test_number_types():
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        round_trip(published.lvae(2, 0, 4, 4, 64, False), {}, dtype=dtype)


def test_views():
    """All parameters in one storage, some turned: offsets and strides count."""
    def one_storage(sd):
        all_of_it = torch.zeros(sum(2 * t.numel() + 3 for t in sd.values()))
        out, at = OrderedDict(), 1
        for i, (name, t) in enumerate(sd.items()):
            if not t.is_floating_point():
                out[name] = t
                continue
            dims = list(t.shape)
            strides = torch.empty(dims[::-1]).permute(*range(len(dims))[::-1]).stride() if i % 2 else \
                tuple(2 * s for s in torch.empty(dims).stride())
            out[name] = torch.as_strided(all_of_it, dims, strides, at).copy_(t)
            at += 2 * t.numel() + 1
        return out
    round_trip(published.lvae(2, 2, 4, 4, 64, False), {}, change=one_storage)


def test_protocols():
    for protocol in (2, 3, 4, 5):
        round_trip(published.unet(1, 4), {}, pickle_protocol=protocol)


def test_bare_state_dict():
    sd = published.state(published.unet(2, 4))
    sd["outc.conv.bias"] = torch.nn.Parameter(sd["outc.conv.bias"])
    torch.save(sd, ckpt)
    run(*CONSTANTS)
    compare(sd, usplit.Model.load(h5))


def rewrite(change, method=zipfile.ZIP_STORED):
    """The checkpoint as another writer of ZIP files makes it. change: (name, bytes) to bytes, or None."""
    with zipfile.ZipFile(ckpt) as z:
        members = [(n, change(n, z.read(n))) for n in z.namelist()]
    with zipfile.ZipFile(ckpt, "w", method) as z:
        for name, data in members:
            if data is not None:
                z.writestr(name, data)


def test_big_endian():
    sd = published.state(published.unet(2, 4, channels=3))     # no float storage has a counter's 8 bytes
    torch.save(published.lightning(sd), ckpt)
    long = {t.untyped_storage().nbytes() for n, t in sd.items() if "tracked" in n}

    def turn(name, data):
        if name.endswith("byteorder"):
            return b"big"
        if "/data/" not in name:
            return data
        return np.frombuffer(data, "<u8" if len(data) in long else "<u4").byteswap().tobytes()
    rewrite(turn)
    run("--target-mean", "1,2,3", "--target-std", "1,2,3")
    compare(sd, usplit.Model.load(h5))
    rewrite(lambda n, d: b"middle" if n.endswith("byteorder") else d)
    refused("neither little nor big")


def test_old_formats():
    torch.save(published.lightning(published.state(published.unet(1, 4))), ckpt, _use_new_zipfile_serialization=False)
    refused("PyTorch before 1.6")
    ckpt.write_bytes(b"not a checkpoint at all")
    refused("not a ZIP archive")
    ckpt.write_bytes(b"")
    refused("not a ZIP archive")


def test_compressed_and_damaged():
    torch.save(published.lightning(published.state(published.unet(1, 4))), ckpt)
    whole = ckpt.read_bytes()
    rewrite(lambda n, d: d, zipfile.ZIP_DEFLATED)
    refused("is compressed or encrypted")
    with zipfile.ZipFile(folder / "b.zip", "w") as z:
        z.writestr("x", "y")
    (folder / "b.zip").rename(ckpt)
    refused("without data.pkl")
    at = whole.index(b"inc.double_conv.0.weight")
    ckpt.write_bytes(whole[:at] + b"x" + whole[at + 1:])
    refused("checksum")
    for n in (len(whole) // 2, len(whole) - 1, 40):
        ckpt.write_bytes(whole[:n])
        refused("damaged or cut off")


# ---- What is not right

def test_names_and_shapes():
    sd = published.state(published.lvae(2, 2, 4, 4, 64, False))

    def broken(change):
        copy = OrderedDict(sd)
        change(copy)
        torch.save(published.lightning(copy), ckpt)
    broken(lambda s: [s.pop(n) for n in list(s) if "top_down_layers" in n])
    refused("'top_down_layers.0.stochastic.conv_in_q.weight' is missing")
    broken(lambda s: s.pop("top_down_layers.0.merge.layer.0.bias"))
    refused("'top_down_layers.0.merge.layer.0.bias' is missing; expected: 4")
    broken(lambda s: s.update({"likelihood.parameter_net.weight": torch.zeros(4, 4, 5, 5)}))
    refused("'likelihood.parameter_net.weight' is 4 x 4 x 5 x 5; expected: 4 x 4 x 3 x 3")
    broken(lambda s: s.update({"noise_model.weight": torch.zeros(3)}))
    refused("'noise_model.weight' (3) has no place")
    broken(lambda s: s.update({"first_bottom_up.0.bias": torch.tensor([1, 2, float("nan"), 4])}))
    refused("'first_bottom_up.0.bias' has a number that is not finite")
    broken(lambda s: s.update({"first_bottom_up.0.bias": torch.zeros(4, dtype=torch.complex64)}))
    refused("ComplexFloatStorage")
    broken(lambda s: s.update({"first_bottom_up.0.bias": 3}))
    refused("'first_bottom_up.0.bias' is a number; accepted: tensors")
    torch.save(published.lightning(sd), ckpt)
    refused("expected: 8 x 1 x 3 x 3", "--filters", "8")
    refused("--family unet was asked for", "--family", "unet", status=2)
    torch.save(published.lightning({"encoder.weight": torch.zeros(3)}), ckpt)
    refused("no network that is known")
    torch.save({"weights": 1}, ckpt)
    refused("'weights' is a number")
    torch.save([1, 2], ckpt)
    refused("what is there is a list")


def test_larger_than_the_file():
    """A few small arrays that speak of a network of 4 GB: refused before the memory is asked for."""
    sd = published.state([("first_bottom_up.0.weight", (1024, 1, 3, 3)),
                          ("top_down_layers.11.top_prior_params", (1, 2, 1, 1))] +
                         [("top_down_layers.%d.stochastic.conv_in_q.weight" % i, (2, 1, 1, 1)) for i in range(12)])
    torch.save(published.lightning(sd), ckpt)
    refused("larger than the file", "--patch", "4096")


class Evil:
    """Unpickling it by Python would make a file."""
    def __reduce__(self):
        return os.system, ("touch %s" % (folder / "executed"),)


def test_nothing_is_executed():
    sd = published.state(published.unet(1, 4))
    torch.save(published.lightning(sd, hyper_parameters={"config": Evil()}), ckpt)
    run(*CONSTANTS)
    compare(sd, usplit.Model.load(h5))
    sd["outc.conv.bias"] = Evil()
    torch.save(published.lightning(sd), ckpt)
    refused("'outc.conv.bias' is posix.system; accepted: tensors")
    assert not (folder / "executed").exists()
    torch.load(ckpt, weights_only=False)
    assert (folder / "executed").exists(), "the trap of this test does not work"


# ---- Settings and normalisation

class Settings:
    """As configuration objects pickle: the fields are in their state."""
    def __init__(self, **fields):
        self._fields, self._locked = fields, True


def test_settings():
    sd = published.state(published.lvae(3, 3, 4, 4, 32, True))
    config = Settings(data=Settings(image_size=32),
                      model=Settings(nonlin="leakyrelu", predict_logvar="global", non_stochastic_version=True,
                                     analytical_kl=True, logvar_lowerbound=-3))
    mean, std = torch.tensor([[[10.0]], [[20.0]]]), [3.0, 4]
    torch.save(published.lightning(sd, hyper_parameters={"config": config, "data_mean": mean, "data_std": std}), ckpt)
    run()
    info = usplit.Model.load(h5).info
    assert (info.family, info.activation, info.logvar, info.patch) == ("hae", "leaky_relu", "global", 32), info
    assert info.logvar_lower_bound == -3
    assert list(info.target_mean[:2]) == [10, 20] and list(info.target_deviation[:2]) == [3, 4]
    # over both channels' pixels together: the mean of the squares less the square of the mean
    assert info.input_mean == 15 and abs(info.input_deviation - ((109 + 416) / 2 - 225) ** 0.5) < 1e-12
    run("--activation", "elu", "--target-mean", "1,2", "--target-std", "3,4", "--mean", "5", "--std", "6", "--clip",
        "99", "--names", "nuclei,actin")
    info = usplit.Model.load(h5).info
    assert (info.activation, info.input_mean, info.input_deviation, info.clip_value) == ("elu", 5, 6, 99), info


def test_configuration_file():
    sd = published.state(published.lvae(3, 3, 4, 4, 32, True))
    torch.save(published.lightning(sd), ckpt)
    refused("--patch is needed", status=2)
    config = Settings(data=Settings(image_size=32), model=Settings(nonlin="relu", predict_logvar="channelwise",
                                                                   non_stochastic_version=False, analytical_kl=True))
    for protocol in (2, 3, 4, 5):
        (folder / "config.pkl").write_bytes(pickle.dumps(config, protocol))
        run(*CONSTANTS, "--config", str(folder / "config.pkl"))
        info = usplit.Model.load(h5).info
        assert (info.family, info.activation, info.logvar, info.kl, info.patch) == \
            ("hvae", "relu", "channelwise", "analytical", 32), info
    (folder / "config.pkl").write_bytes(pickle.dumps([1, 2]))
    refused("no configuration of the published code", "--config", str(folder / "config.pkl"))
    refused("cannot read", "--config", str(folder / "none.pkl"))


def test_normalisation_is_needed():
    torch.save(published.lightning(published.state(published.unet(1, 4))), ckpt)
    assert "does not hold the normalisation" in run(status=1)
    for options in (["--mean", "3"], ["--target-mean", "1,2"], ["--target-mean", "1,2", "--target-std", "1"],
                    ["--channel", "a.tif"], [*CONSTANTS, "--data", "x.h5"]):
        run(*options, status=2)


def test_images():
    """The constants of the images are those that training takes from them."""
    subprocess.run([PROGRAM, "synth", "-o", str(folder / "images"), "--frames", "12", "--size", "64", "--curves", "2"],
                   check=True, capture_output=True)
    channels = sorted(p for p in (folder / "images").iterdir() if p.is_dir() or p.suffix == ".tif")[:2]
    images = [x for p in channels for x in ("--channel", str(p))]
    torch.save(published.lightning(published.state(published.unet(1, 4))), ckpt)
    run(*images)
    ours = usplit.Model.load(h5).info
    subprocess.run([PROGRAM, "train", *images, "-o", str(folder / "t.h5"), "--family", "unet", "--levels", "1",
                    "--filters", "1", "--patch", "16", "--batch", "1", "--steps", "1", "--threads", "1"], check=True,
                   capture_output=True)
    theirs = usplit.Model.load(folder / "t.h5").info
    for key in ("clip_value", "input_mean", "input_deviation", "target_mean", "target_deviation"):
        assert np.array_equal(getattr(ours, key), getattr(theirs, key)), key


# ---- The published code's own numbers, where they are at hand

def fixture(name):
    import h5py
    file = h5py.File(FIXTURES / name)
    sd = OrderedDict()

    def add(path, data):
        if isinstance(data, h5py.Dataset):
            t = torch.from_numpy(np.asarray(data[()]).copy())
            sd[path] = t.to(torch.int64) if path.endswith("num_batches_tracked") else t
    file["weights"].visititems(add)
    return file, sd


def test_fixtures():
    for path in sorted(FIXTURES.glob("*.h5")):
        if path.name == "pieces.h5":
            continue
        file, sd = fixture(path.name)
        torch.save(published.lightning(sd), ckpt)
        config = file.attrs["config"]
        run(*CONSTANTS, "--patch", re.search(r'"image_size": (\d+)', config)[1])
        compare(sd, usplit.Model.load(h5))


def test_fixture_predictions():
    """Without context a patch is an image: what the published code predicts, to the fixtures' tolerance."""
    for name in ("hvae_vanilla.h5", "unet.h5"):
        file, sd = fixture(name)
        torch.save(published.lightning(sd), ckpt)
        x, expected = file["input"][()], file["eval/output"][()]
        run("--patch", str(x.shape[-1]), "--target-mean", "0,0", "--target-std", "1,1", "--mean", "0", "--std", "1")
        model = usplit.Model.load(h5)
        for image, planes in zip(x[:, 0], expected):
            ours = np.asarray(model.split(image, latent="mean", pad=0))
            ours = ours if ours.shape == planes.shape else np.moveaxis(ours, -1, 0)
            error = np.abs(ours - planes).max() / np.abs(planes).max()
            assert error <= 1e-5, "%s: %g" % (name, error)


def main():
    warnings.simplefilter("ignore")
    tests = [(n, t) for n, t in sorted(globals().items()) if n.startswith("test_")]
    print("1..%d" % len(tests))
    bad = 0
    for i, (name, test) in enumerate(tests):
        if "fixture" in name:
            why = "no folder of fixtures was named" if FIXTURES is None or not FIXTURES.is_dir() else ""
            try:
                import h5py  # noqa: F401
            except ImportError:
                why = "h5py is not installed"
            if why:
                print("skip: %s\nok %d - %s # SKIP" % (why, i + 1, name))
                continue
        try:
            test()
            print("ok %d - %s" % (i + 1, name), flush=True)
        except Exception:
            bad = 1
            print("not ok %d - %s" % (i + 1, name))
            print("".join("# %s\n" % l for l in traceback.format_exc().splitlines()), flush=True)
    subprocess.run(["rm", "-rf", str(folder)])
    return bad


if __name__ == "__main__":
    sys.exit(main())
