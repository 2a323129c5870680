"""Writes presets.json: what the parts that only peers' recipes need come to in PyTorch and Pillow.

    python tests/golden/presets.py

`crops`: `RandomResizedCrop`'s resize with Pillow's bicubic filter on 8-bit images, at fixed windows.
`steps`: loss, projections and gradients of one batch in f64 through torchvision's `resnet18` with the stem and the head of
solo-learn, Kobak's cifar10-simclr and google-research/simclr. All inputs are splitmix64 at seed * 2^32 + index, its upper
24 bits as a number in [-1, 1).
"""

import json
from pathlib import Path

import numpy
import PIL
import torch
import torchvision
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resized_crop

N = 4
SIDE = 32
TEMPERATURE = 0.5


def uniform(seed, n):
    with numpy.errstate(over="ignore"):
        z = (numpy.uint64(seed << 32) + numpy.arange(1, n + 1, dtype=numpy.uint64)) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z ^= z >> numpy.uint64(31)
    return (z >> numpy.uint64(40)).astype(numpy.float64) / 2.0**23 - 1.0


IMAGES = {
    "made0": {"width": 32, "height": 32, "seed": 500},
    "made2": {"width": 48, "height": 40, "seed": 502},
    "made3": {"width": 96, "height": 64, "seed": 503},
}


def made(width, height, seed):
    y, x = numpy.mgrid[0:height, 0:width]
    ramps = [x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 255 // (width + height - 2)]
    noise = uniform(seed, 3 * width * height).reshape(height, width, 3)
    pixels = numpy.clip(numpy.stack(ramps, axis=2) + 60 * noise, 0, 255).astype(numpy.uint8)
    return Image.fromarray(pixels)


def crops():
    windows = {
        "made0": [(0, 0, 32, 32, 32), (5, 3, 17, 22, 32), (10, 1, 9, 9, 32), (0, 4, 32, 13, 32), (2, 2, 28, 30, 16)],
        "made2": [(0, 0, 40, 48, 32), (3, 7, 30, 11, 32)],
        "made3": [(0, 0, 64, 96, 32), (20, 30, 40, 50, 32), (1, 2, 12, 10, 64)],
    }
    cases = []
    for name, of_image in windows.items():
        image = made(**IMAGES[name])
        for top, left, height, width, size in of_image:
            out = numpy.array(resized_crop(image, top, left, height, width, [size, size], InterpolationMode.BICUBIC))
            flat = out.reshape(-1)
            index = [int(i) for i in numpy.linspace(0, flat.size - 1, 64)]
            cases.append({
                "image": name,
                "op": "resized_crop_bicubic",
                "args": {"top": top, "left": left, "height": height, "width": width, "size": size},
                "shape": list(out.shape),
                "mean": [round(float(channel), 6) for channel in out.reshape(-1, 3).mean(axis=0)],
                "index": index,
                "value": [int(flat[i]) for i in index],
            })
    return cases


class Encoder(torch.nn.Module):
    def __init__(self, padding, layers):
        super().__init__()
        self.backbone = torchvision.models.resnet18()
        self.backbone.conv1 = torch.nn.Conv2d(3, 64, 3, 1, padding, bias=False)
        self.backbone.maxpool = torch.nn.Identity()
        self.backbone.fc = torch.nn.Identity()
        self.projection_head = torch.nn.Module()
        self.projection_head.layers = torch.nn.Sequential(*layers)

    def forward(self, images):
        return self.projection_head.layers(self.backbone(images))


def plain(hidden, output):
    return [torch.nn.Linear(512, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, output)]


def google(output):
    middle = [
        [torch.nn.Linear(512, 512, bias=False), torch.nn.BatchNorm1d(512), torch.nn.ReLU()] for _ in range(2)
    ]
    return sum(middle, []) + [torch.nn.Linear(512, output, bias=False), torch.nn.BatchNorm1d(output)]


def fill(model, held):
    for index, (name, parameter) in enumerate(model.named_parameters()):
        u = uniform(1000 + index, parameter.numel()).reshape(parameter.shape)
        if parameter.dim() > 1:
            value = u * numpy.sqrt(6 / numpy.prod(parameter.shape[1:]))
        elif "bn" in name or "downsample.1" in name or is_norm(model, name):
            value = 1 + u / 4 if name.endswith("weight") else u / 4
        else:
            value = u / 8
        # The parameters are f32 on the other side.
        parameter.data = torch.from_numpy(0 * u if name == held else value.astype(numpy.float32).astype(numpy.float64))


def is_norm(model, name):
    return isinstance(model.get_submodule(name.rsplit(".", 1)[0]), torch.nn.BatchNorm1d)


def view(number):
    return torch.from_numpy(2 * uniform(50 + number, N * 3 * SIDE * SIDE).reshape(N, 3, SIDE, SIDE))


def nt_xent(z0, z1):
    z = torch.nn.functional.normalize(torch.cat([z0, z1]), eps=1e-12)
    logits = (z @ z.T / TEMPERATURE).fill_diagonal_(float("-inf"))
    targets = torch.arange(2 * N).roll(N)
    return torch.nn.functional.cross_entropy(logits, targets)


def probe(values):
    flat = values.detach().reshape(-1)
    index = sorted({int(i) for i in numpy.linspace(0, flat.numel() - 1, 4)})
    return {
        "norm": float(flat.norm()),
        "index": index,
        "value": [float(f"{float(flat[i]):.9g}") for i in index],
    }


def step(recipe, padding, layers, joint, held=None):
    torch.manual_seed(0)
    model = Encoder(padding, layers).double()
    fill(model, held)
    first, second = view(0), view(1)
    if joint:
        z0, z1 = model(torch.cat([first, second])).split(N)
    else:
        z0, z1 = model(first), model(second)
    loss = nt_xent(z0, z1)
    loss.backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    if held:
        grads[held] = torch.zeros_like(grads[held])
    return {
        "recipe": recipe,
        "n": N,
        "side": SIDE,
        "temperature": TEMPERATURE,
        "loss": loss.item(),
        "z0": probe(z0),
        "z1": probe(z1),
        "grads": {name: probe(grad) for name, grad in grads.items()},
    }


def main():
    torch.set_num_threads(1)
    steps = [
        step("SoloLearn", 2, plain(2048, 256), joint=False),
        step("Dkobak", 1, plain(1024, 128), joint=False),
        step("Google", 1, google(128), joint=True, held="projection_head.layers.7.bias"),
    ]
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "pillow": PIL.__version__}
    golden = {"versions": versions, "images": IMAGES, "crops": crops(), "steps": steps}
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


main()
