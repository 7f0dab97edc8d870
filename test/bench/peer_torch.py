#!/usr/bin/env python3
"""HVAE and HAE of the uSplit paper in plain PyTorch, as a peer for timing.

The networks follow our written description of the published method: the
variants vanilla, lean, regular and deep, with the published parameter names,
so that a published state dict loads unchanged.  It serves the benchmark as
the thing to compare with, and nothing else in the library depends on it.

As a command it times one workload and prints one line of JSON:

    python3 peer_torch.py --variant regular --family hvae --mode train \\
        --batch 8 --threads 2 --repeat 5 --channels-last

  train    zero_grad, forward (dropout 0.1, sampled latents, KL), backward,
           clipping of the gradient norm at 0.5, Adamax step
  predict  evaluation mode, sampled latents, no KL, no gradients

Times are seconds per patch.  `peak_mib` is the growth of the peak resident
set over the resident set after the model was built, that is activations,
gradients, optimiser state and work space.  Work whose result is not used
(the prior's convolution when there is no KL, the log-variance half of the
posterior in the HAE) is left out unless --published-work is given.

A build of PyTorch without fast kernels is no fair peer: two short measured
checks (a matrix product and a convolution) find it out, and the command then
ends with status 3.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import math
import re
import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

LOG_2PI = math.log(2.0 * math.pi)


# ---------------------------------------------------------------------------
# Crops and pads

def crop_to(x, size):
    """Centre crop; the smaller half of an odd difference at the top and left."""
    top = (x.shape[2] - size[0]) // 2
    left = (x.shape[3] - size[1]) // 2
    return x[:, :, top:top + size[0], left:left + size[1]]


def crop_to_rounded(x, size):
    """Centre crop; the offset is half the difference, rounded half to even."""
    top = round((x.shape[2] - size[0]) / 2)
    left = round((x.shape[3] - size[1]) / 2)
    return x[:, :, top:top + size[0], left:left + size[1]]


def pad_to(x, size):
    """Centre pad with zeros, the smaller half at the top and left."""
    dh = size[0] - x.shape[2]
    dw = size[1] - x.shape[3]
    if dh == 0 and dw == 0:
        return x
    return F.pad(x, (dw // 2, dw - dw // 2, dh // 2, dh - dh // 2))


# ---------------------------------------------------------------------------
# Blocks

class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 1)

    def forward(self, x):
        value, gate = self.conv(x).chunk(2, dim=1)
        return F.elu(value) * torch.sigmoid(gate)


class ResidualBlock(nn.Module):
    """Twice (batch norm, ELU, 3x3 convolution, dropout), an optional gate, + x."""

    def __init__(self, channels, dropout, gated):
        super().__init__()
        modules = []
        for _ in range(2):
            modules += [nn.BatchNorm2d(channels), nn.ELU(inplace=True),
                        nn.Conv2d(channels, channels, 3, padding=1),
                        nn.Dropout2d(dropout)]
        if gated:
            modules.append(Gate(channels))
        self.block = nn.Sequential(*modules)

    def forward(self, x):
        return self.block(x) + x


class ResamplingBlock(nn.Module):
    """A strided or transposed convolution, if any, then a residual block."""

    def __init__(self, channels, dropout, gated, mode=None):
        super().__init__()
        if mode == "down":
            self.pre_conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        elif mode == "up":
            self.pre_conv = nn.ConvTranspose2d(channels, channels, 3, stride=2,
                                               padding=1, output_padding=1)
        else:
            self.pre_conv = None
        self.res = ResidualBlock(channels, dropout, gated)

    def forward(self, x):
        return self.res(x if self.pre_conv is None else self.pre_conv(x))


class Merge(nn.Module):
    def __init__(self, channels, dropout):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(2 * channels, channels, 1),
                                   ResidualBlock(channels, dropout, gated=True))

    def forward(self, a, b):
        return self.layer(torch.cat((a, b), dim=1))


def input_branch(channels, kernel, dropout):
    return nn.Sequential(nn.Conv2d(1, channels, kernel, padding=kernel // 2),
                         nn.ELU(inplace=True),
                         ResamplingBlock(channels, dropout, gated=False))


class BottomUpLayer(nn.Module):
    def __init__(self, channels, dropout, lateral):
        super().__init__()
        self.net_downsized = nn.Sequential(
            ResamplingBlock(channels, dropout, gated=True, mode="down"))
        if lateral:
            self.lowres_merge = Merge(channels, dropout)

    def forward(self, x, context):
        x = self.net_downsized(x)
        if context is None:
            return x
        return self.lowres_merge(pad_to(x, context.shape[2:]), context)


def explin_variance(raw, clip):
    """exp below zero, 1 + x above, plus a small floor."""
    raw = raw.clamp(max=clip)
    return raw.clamp(max=0).exp() + raw.relu() + 1e-6


class Stochastic(nn.Module):
    def __init__(self, channels, z_dim, is_top, stochastic, var_clip,
                 published_work):
        super().__init__()
        self.z_dim = z_dim
        self.stochastic = stochastic
        self.var_clip = var_clip
        self.published_work = published_work
        if not is_top:
            self.conv_in_p = nn.Conv2d(channels, 2 * z_dim, 3, padding=1)
        self.conv_in_q = nn.Conv2d(channels, 2 * z_dim, 3, padding=1)
        self.conv_out = nn.Conv2d(z_dim, channels, 3, padding=1)

    def mean_q(self, q):
        """The first half of conv_in_q's output, without computing the second."""
        n = self.z_dim
        return F.conv2d(q, self.conv_in_q.weight[:n], self.conv_in_q.bias[:n],
                        padding=1)

    def forward(self, q, above, top_prior, noise, sample, want_kl):
        """Returns conv_out(z), the KL per sample or None, and (mu, lv, z) of q.

        `noise` is the standard normal noise, or None to draw it; without
        `sample` the latent is the posterior mean.
        """
        want_kl = want_kl and self.stochastic
        if want_kl or self.published_work:
            p = self.conv_in_p(above) if top_prior is None else top_prior

        if not self.stochastic or not (sample or want_kl):
            z = self.conv_in_q(q).chunk(2, dim=1)[0] if self.published_work \
                else self.mean_q(q)
            return self.conv_out(z), None, (z, None, z)

        mu_q, raw_q = self.conv_in_q(q).chunk(2, dim=1)
        var_q = explin_variance(raw_q, self.var_clip)
        if not sample:
            noise = torch.zeros_like(mu_q)
        elif noise is None:
            noise = torch.randn_like(mu_q)
        z = mu_q + var_q.sqrt() * noise

        kl = None
        if want_kl:
            mu_p, raw_p = p.chunk(2, dim=1)
            var_p = explin_variance(raw_p, self.var_clip)
            k = (var_p.log() - var_q.log() + (z - mu_p).square() / var_p
                 - noise.square())
            kl = 0.5 * k.sum(dim=(1, 2, 3))
        return self.conv_out(z), kl, (mu_q, var_q, z)


class TopDownLayer(nn.Module):
    def __init__(self, channels, z_dim, dropout, prior_size, stochastic,
                 var_clip, published_work):
        super().__init__()
        self.is_top = prior_size is not None
        if self.is_top:
            self.top_prior_params = nn.Parameter(
                torch.zeros(1, 2 * z_dim, prior_size, prior_size))
        self.deterministic_block = nn.Sequential(
            ResamplingBlock(channels, dropout, gated=True, mode="up"))
        self.stochastic = Stochastic(channels, z_dim, self.is_top, stochastic,
                                     var_clip, published_work)
        if not self.is_top:
            self.merge = Merge(channels, dropout)
            self.skip_connection_merger = Merge(channels, dropout)

    def forward(self, above, bottom_up, scale, limit, noise, sample, want_kl):
        q = bottom_up if self.is_top else self.merge(bottom_up, above)
        if scale != 1.0:
            q = q * scale
        prior = self.top_prior_params if self.is_top else None
        s, kl, latent = self.stochastic(q, above, prior, noise, sample, want_kl)
        if not self.is_top:
            s = self.skip_connection_merger(s, above)
        if limit is not None and s.shape[2] > limit[0]:
            s = crop_to_rounded(s, limit)
        return self.deterministic_block(s), kl, latent


class Head(nn.Module):
    def __init__(self, channels, targets):
        super().__init__()
        self.parameter_net = nn.Conv2d(channels, 2 * targets, 3, padding=1)

    def forward(self, x):
        return self.parameter_net(x).chunk(2, dim=1)


# ---------------------------------------------------------------------------
# The network

class Network(nn.Module):
    """HVAE (stochastic) or HAE (not).

    lateral is the number of lateral context inputs (0: vanilla), retain tells
    whether the top-down pass keeps the full size at the levels with lateral
    context (regular, deep) or not (lean).
    """

    def __init__(self, filters=64, z_dims=(128,) * 4, lateral=4, retain=True,
                 patch=64, dropout=0.1, stochastic=True, targets=2,
                 var_clip=20.0, logvar_lowerbound=-5.0, published_work=False):
        super().__init__()
        levels = len(z_dims)
        if lateral > levels:
            raise ValueError("more lateral context inputs than levels")
        self.levels = levels
        self.lateral = lateral
        self.retain = retain and lateral > 0
        self.logvar_lowerbound = logvar_lowerbound

        if self.retain:
            prior_size = patch // 2 ** (levels - lateral)
        else:
            prior_size = -(-patch // 2 ** levels)

        self.first_bottom_up = input_branch(filters, 3, dropout)
        if lateral:
            self.lowres_first_bottom_ups = nn.ModuleList(
                input_branch(filters, 5, dropout) for _ in range(lateral))
        self.top_down_layers = nn.ModuleList(
            TopDownLayer(filters, z_dims[i], dropout,
                         prior_size if i == levels - 1 else None,
                         stochastic, var_clip, published_work)
            for i in range(levels))
        self.bottom_up_layers = nn.ModuleList(
            BottomUpLayer(filters, dropout, lateral > 0) for _ in range(levels))
        self.final_top_down = nn.Sequential(
            ResamplingBlock(filters, dropout, gated=True))
        self.likelihood = Head(filters, targets)

    def bottom_up(self, x):
        size = x.shape[2:]
        values = []
        flow = self.first_bottom_up(x[:, 0:1])
        for i, layer in enumerate(self.bottom_up_layers):
            context = None
            if i < self.lateral:
                context = self.lowres_first_bottom_ups[i](x[:, i + 1:i + 2])
            flow = layer(flow, context)
            if self.lateral and not self.retain:
                values.append(crop_to(flow, [s >> (i + 1) for s in size]))
            else:
                values.append(flow)
        return values

    def forward(self, x, noise=None, sample=True, want_kl=True):
        """Returns a dict: output, logvar, features, kl (samples, levels), latents."""
        size = x.shape[2:]
        if not self.lateral:
            unit = 2 ** self.levels
            x = pad_to(x, [-(-s // unit) * unit for s in size])
        limit = [s // 2 for s in x.shape[2:]] if self.retain else None

        values = self.bottom_up(x)
        kls = [None] * self.levels
        latents = [None] * self.levels
        t = None
        for i in reversed(range(self.levels)):
            scale = math.sqrt(2.0 * (i + 1)) if self.levels > 4 else 1.0
            t, kls[i], latents[i] = self.top_down_layers[i](
                t, values[i], scale, limit,
                None if noise is None else noise[i], sample, want_kl)
        features = self.final_top_down(t)
        if not self.lateral:
            features = crop_to(features, size)  # before the head, not after it
        output, logvar = self.likelihood(features)
        logvar = logvar.clamp(min=self.logvar_lowerbound)
        kl = torch.stack(kls, dim=1) if kls[0] is not None else None
        return {"output": output, "logvar": logvar, "features": features,
                "kl": kl, "latents": latents}


def losses(result, target, kl_weight=1.0, free_bits=0.0):
    """Reconstruction, KL per level and total loss; target is normalised."""
    mean, logvar = result["output"], result["logvar"]
    nll = 0.5 * ((target - mean).square() * torch.exp(-logvar) + logvar + LOG_2PI)
    channels = nll.mean(dim=(0, 2, 3))
    rec = channels.mean()
    out = {"channels": channels, "rec": rec, "loss": rec}
    if result["kl"] is not None:
        # plain numbers: a tensor would lie on another device, or be copied to it at every step
        kl = torch.stack([k / z[0][0].numel() for k, z in
                          zip(result["kl"].unbind(1), result["latents"])], dim=1)
        if free_bits > 1e-6:
            kl = kl.clamp(min=free_bits)
        out["kl_levels"] = kl.mean(dim=0)
        out["kl"] = out["kl_levels"].mean()
        out["loss"] = rec + kl_weight * out["kl"]
    return out


VARIANTS = {  # default levels, lateral context inputs, retain
    "vanilla": (4, 0, False),
    "lean": (4, 4, False),
    "regular": (4, 4, True),
    "deep": (8, 4, True),
}


def build(variant="regular", family="hvae", filters=64, z_dim=128, levels=None,
          lateral=None, patch=64, dropout=0.1, published_work=False):
    default_levels, default_lateral, retain = VARIANTS[variant]
    levels = levels or default_levels
    if lateral is None:
        lateral = min(default_lateral, levels)
    return Network(filters, (z_dim,) * levels, lateral, retain, patch, dropout,
                   stochastic=family == "hvae", published_work=published_work)


# ---------------------------------------------------------------------------
# Measurement

def best_rate(work, flop, seconds=0.6):
    """Best GFLOP/s over about that many seconds."""
    work()
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return flop / best * 1e-9


def machine_rates():
    """GFLOP/s of a 1024^3 product and of a 64 -> 64 3x3 convolution at 64 x 64."""
    with torch.no_grad():
        a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
        gemm = best_rate(lambda: a @ b, 2.0 * 1024 ** 3)
        x, w = torch.randn(4, 64, 64, 64), torch.randn(64, 64, 3, 3)
        conv = best_rate(lambda: F.conv2d(x, w, padding=1),
                         2.0 * 4 * 64 * 64 * 64 * 64 * 9)
    return gemm, conv


def blas_name():
    text = torch.__config__.show()
    found = re.search(r"BLAS_INFO=(\w+)", text)
    if found:
        return found.group(1)
    return "mkl" if torch.backends.mkl.is_available() else "unknown"


def status_mib(key):
    """A size from /proc/self/status in MiB, or None."""
    try:
        with open("/proc/self/status") as f:
            for line in f:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) / 1024.0
    except OSError:
        pass
    return None


def reset_peak():
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass


def peak_mib():
    peak = status_mib("VmHWM")
    if peak is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    return peak


def keep_memory():
    """Let the C allocator keep freed memory, so that a step faults no new pages."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    return bool(libc.mallopt(m_mmap_max, 0)
                and libc.mallopt(m_trim_threshold, -1)
                and libc.mallopt(m_top_pad, 64 << 20))


def autocast(args):
    if not args.autocast:
        return contextlib.nullcontext()
    kind = torch.float16 if args.device != "cpu" else torch.bfloat16
    return torch.autocast(args.device.split(":")[0], dtype=kind)


def make_step(net, args):
    layout = torch.channels_last if args.channels_last \
        else torch.contiguous_format
    x = torch.randn(args.batch, 1 + net.lateral, args.patch, args.patch)
    target = torch.randn(args.batch, 2, args.patch, args.patch)
    x = x.to(args.device).contiguous(memory_format=layout)
    target = target.to(args.device).contiguous(memory_format=layout)
    net.to(args.device, memory_format=layout)
    forward = net
    if args.compile:
        forward = torch.compile(net, mode=args.compile_mode)

    if args.mode == "predict":
        net.eval()
        guard = torch.inference_mode if args.inference_mode else torch.no_grad

        def predict():
            with guard(), autocast(args):
                return forward(x, want_kl=False)["output"]
        return predict
    if args.mode == "split":
        return make_split(net, forward, args)

    net.train()
    optimiser = torch.optim.Adamax(net.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler(args.device.split(":")[0],
                                  enabled=args.autocast and args.device != "cpu")

    def train():
        optimiser.zero_grad(set_to_none=True)
        with autocast(args):
            loss = losses(forward(x), target)["loss"]
        scaler.scale(loss).backward()
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        scaler.step(optimiser)
        scaler.update()
        return loss
    return train


def make_split(net, forward, args):
    """Tiled prediction of one frame: context levels by area averages, patches
    gathered by index, the inner part of each kept. On the device but for the
    frame and the planes; a batch at a time, without a loop over its tiles."""
    net.eval()
    inner, side, half = args.patch - 2 * args.pad, args.frame, args.patch // 2
    tiles, margin = -(-side // inner), 2 * args.patch
    frame = torch.randn(1, 1, side, side)
    span = torch.arange(args.patch, device=args.device) - half + margin
    centres = torch.arange(tiles, device=args.device) * inner - args.pad + half
    cy, cx = centres.repeat_interleave(tiles), centres.repeat(tiles)

    def patches(padded, first):
        some, levels = slice(first, first + args.batch), []
        for k, plane in enumerate(padded):
            y = (cy[some] >> k)[:, None] + span
            x = (cx[some] >> k)[:, None] + span
            levels.append(plane[0, 0][y[:, :, None], x[:, None, :]])
        return torch.stack(levels, dim=1)

    def split():
        pyramid = [frame.to(args.device)]
        for _ in range(net.lateral):
            pyramid.append(F.avg_pool2d(pyramid[-1], 2))
        padded = [F.pad(p, (margin, margin, margin, margin)) for p in pyramid]
        inners = torch.empty(tiles * tiles, 2, inner, inner,
                             device=args.device)
        for first in range(0, tiles * tiles, args.batch):
            with torch.no_grad(), autocast(args):
                y = forward(patches(padded, first), want_kl=False)["output"]
            inners[first:first + args.batch] = \
                y[:, :2, args.pad:args.pad + inner, args.pad:args.pad + inner]
        planes = inners.view(tiles, tiles, 2, inner, inner)
        planes = planes.permute(2, 0, 3, 1, 4).reshape(2, tiles * inner, -1)
        return planes[:, :side, :side].cpu()
    return split


def device_floor(device):
    """GFLOP/s of a large half product and GB/s of a large copy there."""
    kind = torch.float16 if device != "cpu" else torch.float32
    n = 8192 if device != "cpu" else 512
    a = torch.randn(n, n, device=device).to(kind)
    b = torch.randn(n, n, device=device).to(kind)
    big = torch.empty((1 << 28) if device != "cpu" else (1 << 22),
                      device=device)
    other = torch.empty_like(big)

    def timed(work):
        best = math.inf
        for _ in range(5):
            wait(device)
            start = time.perf_counter()
            work()
            wait(device)
            best = min(best, time.perf_counter() - start)
        return best
    gflops = 2.0 * n ** 3 / timed(lambda: a @ b) * 1e-9
    copy = 8.0 * big.numel() / timed(lambda: other.copy_(big)) * 1e-9
    return gflops, copy


def wait(device):
    if device != "cpu":
        torch.cuda.synchronize()


def device_times(step, args):
    """Seconds of every repeat, by the device's own clock where it has one."""
    times, result = [], None
    for i in range(args.warmup + args.repeat):
        if args.device == "cpu":
            start = time.perf_counter()
            result = step()
            seconds = time.perf_counter() - start
        else:
            begin = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            begin.record()
            result = step()
            end.record()
            end.synchronize()
            seconds = begin.elapsed_time(end) * 1e-3
        if i >= args.warmup:
            times.append(seconds)
    return times, result


def device_lines(args):
    """make bench-gpu: a setting per line of standard input, each added to the
    command's own arguments; one line of JSON for each, {} where it failed.
    Loading PyTorch takes longer than many of the measurements."""
    for line in sys.stdin:
        try:
            one = parse_arguments(sys.argv[1:] + line.split())
            status = device_main(one)
        except Exception as error:
            print("peer_torch: %s: %s" % (line.strip(), error),
                  file=sys.stderr)
            status = 1
        if status != 0:
            print("{}")
        sys.stdout.flush()
        gc.collect()
        if args.device != "cpu":
            torch.cuda.empty_cache()
    return 0


def device_main(args):
    """make bench-gpu: one setting, seconds per step or per frame."""
    if args.floor:
        gflops, copy = device_floor(args.device)
        name = args.device if args.device == "cpu" else \
            torch.cuda.get_device_name()
        print(json.dumps({"gflops": round(gflops, 1),
                          "copy_gb_per_s": round(copy, 1), "name": name,
                          "torch": torch.__version__}))
        return 0
    net = build(args.variant, args.family, args.filters, args.z_dim,
                args.levels, args.lateral, args.patch, 0.1, False)
    if args.device != "cpu":
        torch.backends.cudnn.benchmark = True
        torch.cuda.reset_peak_memory_stats()
    times, result = device_times(make_step(net, args), args)
    if not torch.isfinite(result).all():
        print("peer_torch: result is not finite", file=sys.stderr)
        return 1
    peak = 0.0 if args.device == "cpu" else \
        torch.cuda.max_memory_reserved() / 1048576.0
    print(json.dumps({
        "work": args.mode, "variant": args.variant, "family": args.family,
        "seconds": statistics.median(times), "min": min(times),
        "max": max(times), "device_mib": round(peak, 1),
        "batch": args.batch, "device": args.device,
        "torch": torch.__version__, "autocast": args.autocast,
        "channels_last": args.channels_last,
        "compile": args.compile_mode if args.compile else ""}))
    return 0


def parse_arguments(words=None):
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--variant", choices=sorted(VARIANTS), default="regular")
    p.add_argument("--family", choices=("hvae", "hae"), default="hvae")
    p.add_argument("--mode", choices=("train", "predict", "split"),
                   default="train")
    p.add_argument("--device", default="",
                   help="cuda (or cpu, to try it): for make bench-gpu")
    p.add_argument("--autocast", action="store_true",
                   help="mixed precision: fp16 on CUDA, bf16 on the CPU")
    p.add_argument("--compile-mode", default="default")
    p.add_argument("--floor", action="store_true",
                   help="measure the device's matrix and copy rates alone")
    p.add_argument("--lines", action="store_true",
                   help="settings come line by line on standard input")
    p.add_argument("--frame", type=int, default=2720)
    p.add_argument("--pad", type=int, default=24)
    p.add_argument("--filters", type=int, default=64)
    p.add_argument("--z-dim", type=int, default=128)
    p.add_argument("--levels", type=int, help="default 4, deep 8")
    p.add_argument("--lateral", type=int,
                   help="lateral context inputs, default 4 (vanilla 0)")
    p.add_argument("--patch", type=int, default=64)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--warmup", type=int, default=1)
    p.add_argument("--repeat", type=int, default=5)
    p.add_argument("--channels-last", action="store_true")
    p.add_argument("--inference-mode", action="store_true",
                   help="predict under inference_mode instead of no_grad")
    p.add_argument("--keep-memory", action="store_true",
                   help="keep freed memory in the allocator: faster, larger")
    p.add_argument("--compile", action="store_true",
                   help="use torch.compile; needs a C++ compiler")
    p.add_argument("--published-work", action="store_true",
                   help="also compute what the published code computes unused")
    args = p.parse_args(words)
    levels = args.levels or VARIANTS[args.variant][0]
    if args.lateral is not None and args.variant == "vanilla":
        p.error("vanilla has no lateral context inputs")
    if args.lateral is not None and not 1 <= args.lateral <= levels:
        p.error("lateral context inputs must be 1 to the number of levels")
    return args


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    if args.device:
        return device_lines(args) if args.lines else device_main(args)
    args.device = "cpu"
    kept = args.keep_memory and keep_memory()

    gemm, conv = machine_rates()
    if gemm < 8.0 * args.threads or conv < 4.0 * args.threads:
        print("peer_torch: PyTorch %s is a slow build (BLAS %s, oneDNN %s): "
              "product %.1f, convolution %.1f GFLOP/s on %d threads; "
              "no fair comparison" %
              (torch.__version__, blas_name(),
               "yes" if torch.backends.mkldnn.is_available() else "no",
               gemm, conv, args.threads), file=sys.stderr)
        return 3

    net = build(args.variant, args.family, args.filters, args.z_dim,
                args.levels, args.lateral, args.patch, 0.1,
                args.published_work)
    step = make_step(net, args)
    reset_peak()
    base = status_mib("VmRSS") or peak_mib()
    times = []
    for i in range(args.warmup + args.repeat):
        start = time.perf_counter()
        result = step()
        seconds = time.perf_counter() - start
        if i >= args.warmup:
            times.append(seconds / args.batch)
    peak = peak_mib() - base
    if not torch.isfinite(result).all():
        print("peer_torch: result is not finite", file=sys.stderr)
        return 1

    print(json.dumps({
        "variant": args.variant, "family": args.family, "mode": args.mode,
        "filters": args.filters, "levels": net.levels, "lateral": net.lateral,
        "patch": args.patch, "batch": args.batch, "repeat": args.repeat,
        "seconds_per_patch": statistics.median(times),
        "min": min(times), "max": max(times), "peak_mib": round(peak, 1),
        "torch": torch.__version__, "blas": blas_name(),
        "mkldnn": torch.backends.mkldnn.is_available(),
        "cpu": getattr(torch.backends.cpu, "get_cpu_capability",
                       lambda: "unknown")(),
        "channels_last": args.channels_last,
        "inference_mode": args.mode == "predict" and args.inference_mode,
        "keep_memory": kept, "compile": args.compile,
        "published_work": args.published_work,
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in net.parameters()),
        "gemm_gflops": round(gemm, 1), "conv_gflops": round(conv, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
