#!/usr/bin/env python3
"""Writes the small seeds of fuzz/seeds/ anew; standard library only."""

import io
import json
import lzma
import struct
import tarfile
import zlib
from pathlib import Path

SEEDS = Path(__file__).resolve().parent / "seeds"


def write(target, name, content):
    path = SEEDS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def png(kind, depth, width, height, rows, extra=b"", interlaced=0):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    data = b"".join(b"\0" + row for row in rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data))
            + chunk(b"IEND", b""))


def palette():
    body = bytes(range(12))
    return struct.pack(">I", len(body)) + b"PLTE" + body + struct.pack(">I", zlib.crc32(b"PLTE" + body))


def bmp(width, height, bits, palette, rows):
    offset = 54 + len(palette)
    data = b"".join(rows)
    return (b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset)
            + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(data), 0, 0, len(palette) // 4, 0)
            + palette + data)


GREY_BMP = bmp(2, 2, 24, b"", [bytes([9, 9, 9, 5, 5, 5, 0, 0])] * 2)


def jpeg():
    """One grey block of 8x8, baseline: one Huffman code a table, of one bit (ITU-T T.81)."""

    def segment(marker, body):
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    one_code = bytes([1]) + bytes(15) + b"\0"
    return (b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC0, bytes([8, 0, 8, 0, 8, 1, 1, 0x11, 0]))
            + segment(0xC4, b"\0" + one_code) + segment(0xC4, b"\x10" + one_code)
            + segment(0xDA, bytes([1, 1, 0, 0, 63, 0])) + b"\x3f\xff\xd9")


def webp():
    """Two pixels of one colour, lossless: no transform, five prefix codes of one symbol (RFC 9649)."""
    bits = 1 | 0 << 14 | 0 << 28
    at = 32 + 3
    for symbol in [1, 0, 1, 1, 0]:
        bits |= (1 | symbol << 3) << at
        at += 4
    body = b"\x2f" + bits.to_bytes((at + 7) // 8, "little")
    chunk = b"VP8L" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def images():
    write("image", "block.jpg", jpeg())
    write("image", "lossless.webp", webp())
    write("image", "grey.bmp", GREY_BMP)
    write("image", "palette.bmp", bmp(4, 2, 8, bytes(range(16)), [bytes([0, 1, 2, 3])] * 2))
    write("image", "rgb.png", png(2, 8, 2, 2, [bytes(range(6))] * 2))
    write("image", "grey16.png", png(0, 16, 2, 2, [bytes(range(4))] * 2))
    write("image", "palette.png", png(3, 2, 4, 1, [bytes([0b00011011])], palette()))
    write("image", "alpha.png", png(6, 8, 1, 2, [bytes(range(4))] * 2))
    write("image", "interlaced.png", png(2, 8, 1, 1, [bytes(3)], interlaced=1))
    write("image", "liar.png", png(2, 8, 65535, 65535, [b""]))


def archives():
    def packed(form):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
            for name in ["train/a/1.bmp", "train/b/1.bmp", "test/a/2.bmp", "test/b/" + "long" * 30 + ".bmp"]:
                entry = tarfile.TarInfo(name)
                entry.size = len(GREY_BMP)
                archive.addfile(entry, io.BytesIO(GREY_BMP))
        return buffer.getvalue().rstrip(b"\0") + bytes(1024 + 512)

    def aligned(content):
        return content + bytes(-len(content) % 512)

    plain = aligned(packed(tarfile.GNU_FORMAT))
    raw = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}]
    write("archive", "plain", b"\0" + plain)
    write("archive", "repaired", b"\1" + plain)
    write("archive", "pax", b"\1" + aligned(packed(tarfile.PAX_FORMAT)))
    write("archive", "lzma2", b"\2\x08" + lzma.compress(plain, lzma.FORMAT_RAW, filters=raw))
    write("archive", "xz", b"\0" + lzma.compress(plain, lzma.FORMAT_XZ))
    write("archive", "stored", b"\3" + plain)


def checkpoints():
    def file(tensors, metadata):
        header, at = {"__metadata__": {"ablate": json.dumps(metadata)}}, 0
        body = b""
        for name, kind, shape, content in tensors:
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(content)]}
            at += len(content)
            body += content
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + body

    cost = {"epoch": 0, "steps": 2, "images_per_s": 1.5, "views_s": 0.0, "gradient_s": 0.25, "update_s": 1e-3,
            "other_s": 0.0}
    metadata = {"format": 1, "step": 3, "slots": ["momentum"], "epochs": [cost]}
    weights = struct.pack("<4f", 1.0, -2.0, 0.0, 1e-40)
    tensors = [("w", "F32", [2, 2], weights), ("optimizer.momentum.w", "F32", [2, 2], weights),
               ("ablate.history", "U8", [3], b"abc")]
    write("checkpoint", "whole", file(tensors, metadata))
    write("checkpoint", "nan", file([("w", "F32", [1], b"\0\0\xc0\x7f")], {**metadata, "slots": []}))
    write("checkpoint", "huge", file([("w", "F32", [2**40, 0], b"")], metadata))


def records():
    provenance = {"ablate_version": "0.1.0", "code": "0123", "backend": "cpu", "device": "a processor", "details": {},
                  "threads": 2, "host": "here", "started_unix_s": 1, "seconds": 2.5, "command": "ablate sweep"}
    key = "ab" * 32
    cost = {"epoch": 0, "steps": 2, "images_per_s": 1.5, "views_s": 0.0, "gradient_s": 0.25, "update_s": 1e-3,
            "other_s": 0.0}
    pretrain = {"n_parameters": 5, "steps": 2, "loss_first_epoch": 1.5, "loss_last_epoch": None, "loss_ratio": None,
                "epochs": [cost], "peak_memory_bytes": None}
    evaluation = {"pretrain": key, "checkpoint": key, "kind": "knn",
                  "metrics": [{"name": "top1", "value": 0.5, "unit": "fraction"}], "per_class_top1": [0.5, 0.5],
                  "class_names": ["a", "b"], "n_test": 4, "seconds": 0.1}
    failure = {"kind": "NotFinite", "message": "the loss", "step": 3}
    bodies = {}
    for name, stage in [("Pretrain", pretrain), ("Evaluation", evaluation), ("Failure", failure)]:
        record = {"format": 1, "key": key, "stage": {name: stage}, "provenance": provenance}
        bodies[name] = json.dumps(record)
        write("record", name.lower(), bodies[name])
    for index, (body, blobs) in enumerate([(bodies["Pretrain"], "blob BLOB 4 checkpoint\n"), ("x", "")]):
        text = f"kind result\nkey KEY\n{blobs}preimage 3\nbody {len(body)}\n\na=1\n{body}\n"
        write("store", f"record{index}", b"\0" + text.encode())
    write("store", "claim", b"\1host here\npid 4294967295\nstart 1\nnumber 0\nsince 1700000000\n")
    write("store", "claim_alive", b"\1host elsewhere\npid 1\nstart 1\nnumber 7\nsince 18446744073709551615\n")
    write("store", "progress", b"\2\0some bytes")
    write("store", "progress_unsealed", b"\2\1ablate-progress 1 00")
    write("store", "unsealed", b"\3ablate-record 1 00\nkind result\n")


def others():
    write("cifar", "cifar10", bytes([0x00, 2]) + bytes([3]) + bytes(3072))
    write("cifar", "cifar100", bytes([0x11, 1]) + bytes([3, 99]) + bytes(3072))
    write("cifar", "label", bytes([0x52, 3, 10]))
    write("cifar", "names", bytes([0x06, 1]) + b"\n".join(b"n%d" % n for n in range(10)))
    entry = {"dataset": "cifar10", "place": "/data", "state": "00" * 32, "digest": "11" * 32,
             "train_per_class": [5, 6], "test_per_class": [1, 2]}
    write("digests", "one", json.dumps({"format": 1, "entries": [entry]}))
    write("digests", "none", json.dumps({"format": 1, "entries": []}))
    for index, lines in enumerate(["train.batch=16", "evaluate[0].k=3\nseeds=[0]", "train.learning_rate.base=0.1",
                                   "sweep=[]\ntable=()", "dataset=Cifar100(root: \"x\")\nsplit=HeldOut(fraction: 0.1)",
                                   "views=[HorizontalFlip]\nmodel.side=32"]):
        write("overrides", f"lines{index}", lines)
    head = 'Experiment(question: "q", dataset: Cifar10(root: "d"), '
    for index, rest in enumerate([
        'sweep: [Axis("train.batch", [64, 128]), Zip([Axis("train.temperature", [0.1, 0.5]), '
        'Variants("views", {"a": [HorizontalFlip], "b": [RandomResizedCrop()]})])], table: (rows: "train.batch"))',
        'train: (length: Epochs(3), batch: 256, learning_rate: (base: 0.3)), evaluate: [Knn(k: 5), LinearProbe()])',
        'seeds: [0, 18446744073709551615], split: HeldOut(fraction: 0.1, seed: 2))\1train.batch=32\1sweep=[]',
    ]):
        write("experiment", f"small{index}.ron", head + rest)


if __name__ == "__main__":
    images()
    archives()
    checkpoints()
    records()
    others()
