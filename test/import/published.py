"""Names and shapes of the published networks' parameters, written down from their description (networks 10) and not
from this library, and checkpoints of them as PyTorch Lightning saves them."""
from collections import OrderedDict

import torch


def norm(p, c):
    return [(p + ".weight", (c,)), (p + ".bias", (c,)), (p + ".running_mean", (c,)), (p + ".running_var", (c,)),
            (p + ".num_batches_tracked", ())]


def conv(p, out, into, k):
    return [(p + ".weight", (out, into, k, k)), (p + ".bias", (out,))]


def residual(p, c, gate):
    return (norm(p + ".0", c) + conv(p + ".2", c, c, 3) + norm(p + ".4", c) + conv(p + ".6", c, c, 3) +
            (conv(p + ".8.conv", 2 * c, c, 1) if gate else []))


def merge(p, c):
    return conv(p + ".layer.0", c, 2 * c, 1) + residual(p + ".layer.1.block", c, True)


def branch(p, c, k):
    return conv(p + ".0", c, 1, k) + residual(p + ".2.res.block", c, False)


def lvae(levels, lc, c, z, patch, retain, channels=2, logvar=True):
    side = patch >> (levels - lc if retain and lc else levels)
    out = branch("first_bottom_up", c, 3)
    for k in range(lc):
        out += branch("lowres_first_bottom_ups.%d" % k, c, 5)
    for i in range(levels):
        p, top = "top_down_layers.%d." % i, i == levels - 1
        if top:
            out += [(p + "top_prior_params", (1, 2 * z, side, side))]
        out += conv(p + "deterministic_block.0.pre_conv", c, c, 3)
        out += residual(p + "deterministic_block.0.res.block", c, True)
        if not top:
            out += conv(p + "stochastic.conv_in_p", 2 * z, c, 3)
        out += conv(p + "stochastic.conv_in_q", 2 * z, c, 3) + conv(p + "stochastic.conv_out", c, z, 3)
        if not top:
            out += merge(p + "merge", c) + merge(p + "skip_connection_merger", c)
    for i in range(levels):
        p = "bottom_up_layers.%d." % i
        out += conv(p + "net_downsized.0.pre_conv", c, c, 3) + residual(p + "net_downsized.0.res.block", c, True)
        if lc:
            out += merge(p + "lowres_merge", c)
    return (out + residual("final_top_down.0.res.block", c, True) +
            conv("likelihood.parameter_net", (2 if logvar else 1) * channels, c, 3))


def double_conv(p, a, m, b):
    return ([(p + ".double_conv.0.weight", (m, a, 3, 3))] + norm(p + ".double_conv.1", m) +
            [(p + ".double_conv.3.weight", (b, m, 3, 3))] + norm(p + ".double_conv.4", b))


def unet(levels, c0, lc=0, aware=0, channels=2):
    c = [c0 << min(j, levels - 1) for j in range(levels + 1)]
    out = []
    for j in range(levels if aware else 0):
        out += [("ct_modules.%d.ct_weights" % j, (4, aware >> j, aware >> j))]
        out += conv("ct_modules.%d.final_layer.0" % j, c[j], 4 * c[j], 1)
    out += double_conv("inc", 1, c0, c0)
    for j in range(1, levels + 1):
        out += double_conv("down%d.maxpool_conv.1" % j, c[j - 1], c[j], c[j])
    for j in range(1, levels + 1):
        skip = c[levels - j]
        out += double_conv("up%d.conv" % j, 2 * skip, skip, skip // 2 if j < levels else c0)
    out += conv("outc.conv", channels, c0, 1)
    for j in range(lc):
        out += double_conv("lowres_net.%d" % j, c[j], c[j + 1], c[j + 1])
    for j in range(lc):
        out += branch("lowres_first_bottom_ups.%d" % j, c[j], 5)
    for j in range(lc):
        out += merge("lowres_merge.%d" % j, c[j + 1])
    return out


def bravenet(c0, channels=2):
    c = [c0 << j for j in range(4)]

    def pair(p, a, b):
        return [e for u in range(2) for e in conv("%s.%d.0" % (p, u), b, b if u else a, 3) + norm("%s.%d.2" % (p, u), b)]

    out = norm("model.input_bn", 1) + norm("model.lowres_input_bn", 1)
    for side in ("bottom_up_layers", "lowres_bottom_up_layers"):
        for j in range(4):
            out += pair("model.%s.%d" % (side, j), c[j - 1] if j else 1, c[j])
    out += conv("model.merge_block.0.0", c[3], 2 * c[3], 1) + conv("model.merge_block.1.0", c[3], c[3], 1)
    out += conv("model.lowres_output_branches.0.0", channels, c[2], 1)
    out += conv("model.lowres_output_branches.1.0", channels, c[1], 1) + conv("model.output_branch.0", channels, c[0], 1)
    for j in range(3):
        out += pair("model.top_down_layers.%d" % j, 4 * c[2 - j], c[2 - j])
    return out


def state(entries, seed=0, dtype=torch.float32):
    """Random numbers; variances positive, counters whole."""
    torch.manual_seed(seed)
    sd = OrderedDict()
    for name, shape in entries:
        if name.endswith("num_batches_tracked"):
            sd[name] = torch.tensor(int(torch.randint(1, 10000, ())))
        elif name.endswith("running_var"):
            sd[name] = (torch.rand(shape) + 0.5).to(dtype)
        else:
            sd[name] = (torch.randn(shape) * 0.1).to(dtype)
    sd._metadata = OrderedDict({"": {"version": 1}})     # as modules leave it
    return sd


def lightning(sd, **more):
    """What a Trainer saves: the optimiser's state has arrays of its own, callbacks name classes."""
    moments = {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(3), "exp_inf": torch.zeros(3)}}
    return {"epoch": 41, "global_step": 1234, "pytorch-lightning_version": "1.5.5", "state_dict": sd,
            "optimizer_states": [{"state": moments, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]}],
            "lr_schedulers": [{"best": torch.tensor(30.0), "mode": "max"}], "callbacks": {}, "loops": None, **more}
