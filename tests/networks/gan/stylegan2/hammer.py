"""Hammer's names of StyleGAN2's weights, from a network of ours: what its checkpoints hold, module for module."""


def generator(network):
    """Return the state dict that Hammer's StyleGAN2Generator would have."""
    found = {}
    for name, value in network.state_dict().items():
        parts = name.split(".")
        if parts[-1] == "resample_filter":
            if parts[-2] == "conv0":
                found[f"{layer_of(parts[1], 'conv0')}.filter"] = value
        elif name == "mapping.w_avg":
            found["w_avg"] = value
        elif parts[0] == "mapping":
            found[f"mapping.dense{parts[1][2:]}.{parts[2]}"] = value
        elif parts[2] == "const":
            found["synthesis.early_layer.const"] = value[None]
        else:
            rest = ".".join(parts[3:]).replace("affine", "style").replace("noise_const", "noise")
            value = value[None, None] if rest == "noise" else value
            found[f"{layer_of(parts[1], parts[2])}.{rest}"] = value
    return found | {"synthesis.filter": network.synthesis.b4.resample_filter}


def layer_of(block, kind):
    index = {4: 0, 8: 1, 16: 2, 32: 3}[int(block[1:])]
    if kind == "torgb":
        return f"synthesis.output{index}"
    return f"synthesis.layer{2 * index - (kind == 'conv0')}"


def discriminator(network, side):
    """Return the state dict that Hammer's StyleGAN2Discriminator would have."""
    sides = [side >> k for k in range(10) if side >> k >= 4]
    found = {}
    for name, value in network.state_dict().items():
        block, kind, *rest = name.split(".")
        index, end = sides.index(int(block[1:])), ".".join(rest)
        layers = {"conv0": f"layer{2 * index}", "conv1": f"layer{2 * index + 1}", "skip": f"residual{index}"}
        layers |= {"conv": f"layer{2 * index}", "fc": f"layer{2 * index + 1}", "out": "output", "fromrgb": "input0"}
        if end != "resample_filter":
            found[f"{layers[kind]}.{end}"] = value
        elif kind in {"conv1", "skip"}:
            found[f"{layers[kind]}.filter"] = value
    return found


def checkpoint(generator_network, average, discriminator_network, side):
    """Return what Hammer's runner saves, with what is in it besides the models."""
    return {
        "models": {
            "discriminator": discriminator(discriminator_network, side),
            "generator": generator(generator_network),
            "generator_smooth": generator(average),
        },
        "model_kwargs_init": {"generator_smooth": {"resolution": side}},
        "optimizers": {"generator": {"state": {0: {"step": 1}}, "param_groups": [{"lr": 0.002}]}},
        "running_metadata": {"iter": 1, "seen_img": 32},
    }
