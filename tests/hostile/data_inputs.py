"""Pictures, tables and Parquet files, and what is called so."""

import io
import json
import os
import random
import shutil
import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.hostile.family import QUICK, executed, picture
from tests.hostile.harness import Case
from tests.hostile.values import DEEP, NAMES, ODD, SCRIPT, exploit, spoiled, strange_file


def _pictures(folder: Path, chance: random.Random, classes: tuple[bytes, ...] = (b"a", b"b")) -> None:
    for name in classes:
        inside = os.fsencode(folder) + b"/" + name
        os.makedirs(inside)
        for number in range(6):
            with open(inside + b"/%d.png" % number, "wb") as file:
                file.write(picture(chance))


def _use(chance: random.Random, data: str = "data") -> list[list[str]]:
    every = [
        ["compare", data, "--methods", "ce", "--trials", "1", "--dry-run", *QUICK],
        ["train", data, "--method", "ce", "--out", "out", *QUICK],
    ]
    return [chance.choice(every)]


def strange_folders(k: int, template: Path) -> Case:
    """Names that are no text, pipes, devices and links among the pictures."""
    chance = random.Random(f"folders {k}")

    def prepare(folder: Path) -> None:
        data = folder / "data"
        name = NAMES[k % len(NAMES)]
        _pictures(data, chance, (b"a", name) if k % 3 == 0 else (b"a", b"b"))
        inside = os.fsencode(data) + chance.choice((b"/", b"/a/", b"/b/" if k % 3 else b"/a/"))
        if k % 3 == 1:
            with open(inside + name + chance.choice((b".png", b".jpg", b"", b".txt", b".csv")), "wb") as file:
                file.write(picture(chance) if chance.random() < 0.5 else chance.randbytes(50))
        elif k % 3 == 2:
            ends = (
                b"x.png",
                b"x.jpg",
                b"x.csv",
                b"x.parquet",
                b"labels.csv",
                b"x",
                b"train",
                b"test",
                b"metadata.csv",
                b".hidden",
            )
            strange_file(chance, inside + chance.choice(ends))

    return Case(f"strange folders {k}", prepare, _use(chance), executed)


def strange_paths(k: int, template: Path) -> Case:
    """DATA itself is something else."""
    chance = random.Random(f"paths {k}")
    ends = ("x.csv", "x.parquet", "x", "x.png", "x.tsv", "x.zip", "x.json", "x.yaml")
    name = ends[k % len(ends)]

    def prepare(folder: Path) -> None:
        if k % 5 == 0:
            (folder / name).write_bytes(
                chance.choice([*DEEP, exploit(), picture(chance), chance.randbytes(1000)])
            )
        else:
            strange_file(chance, os.fsencode(folder / name))
        shutil.copytree(template / "run", folder / "run")

    used = [
        *_use(chance, name),
        ["predict", "run", name],
        ["report", name, "-o", "page.html"],
        ["reproduce", name, "--dry-run"],
    ]
    return Case(f"strange paths {k}: {name}", prepare, chance.sample(used, 2), executed)


def strange_pictures(k: int, template: Path) -> Case:
    """Pictures that are damaged, or small files that unpack to gigabytes."""
    chance = random.Random(f"pictures {k}")
    kinds = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO")
    kind = kinds[k % len(kinds)]

    def prepare(folder: Path) -> None:
        data = folder / "data"
        _pictures(data, chance)
        buffer = io.BytesIO()
        size = chance.choice((1, 7, 40))
        mode = chance.choice(("RGB", "L")) if kind != "JPEG" else "RGB"
        Image.frombytes(mode, (size, size), chance.randbytes(size * size * len(mode))).save(buffer, kind)
        content = spoiled(chance, buffer.getvalue())
        if k % 6 == 0:
            content = _bomb(chance)
        (data / "a" / f"odd.{kind.lower().replace('jpeg', 'jpg').replace('tiff', 'tif')}").write_bytes(
            content
        )
        shutil.copytree(template / "run", folder / "run")

    used = [*_use(chance), ["predict", "run", "data"], ["explain", "run", "data/a", "-o", "seen.png"]]
    return Case(f"strange pictures {k}: {kind}", prepare, [chance.choice(used)], executed)


def _bomb(chance: random.Random) -> bytes:
    """A PNG of a few kilobytes with many pixels, or with texts that unpack to a lot."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    side = chance.choice((1000, 20_000, 60_000, 2**31 - 1))
    depth, colour = chance.choice(((1, 0), (8, 2), (16, 6)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0))
    texts = b"".join(
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 26), 9))
        for _ in range(chance.choice((0, 1, 8)))
    )
    packed = zlib.compressobj(9)
    rows = packed.compress(bytes(1 << 24)) + packed.flush()
    return b"\x89PNG\r\n\x1a\n" + header + texts + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def strange_tables(k: int, template: Path) -> Case:
    """CSV with odd cells, names that lead elsewhere, quotes that never end."""
    chance = random.Random(f"tables {k}")
    cells = [
        "a/0.png",
        "../secret.png",
        "/etc/passwd",
        "",
        "\0",
        '"',
        "a\nb",
        "\x1b[31m",
        "=1+1",
        SCRIPT,
        "nan",
        "1e400",
        "x" * 200_000,
    ]

    def prepare(folder: Path) -> None:
        data = folder / "data"
        _pictures(data, chance)
        (folder / "secret.png").write_bytes(picture(chance))
        header = chance.choice(
            (
                ["file", "label"],
                ["image", "label", "split"],
                ["id", "target"],
                [],
                ["file", "file"],
                ["label"],
            )
        )
        rows = [
            ["a/0.png", "x"],
            ["a/1.png", "x"],
            ["b/0.png", "y"],
            ["b/1.png", "y"],
            ["a/2.png", "x"],
            ["b/2.png", "y"],
        ] * 3
        rows = [[cell if chance.random() < 0.9 else chance.choice(cells) for cell in row] for row in rows]
        text = "\n".join(
            chance.choice((",", ",", ";", "\t")).join(row) if k % 3 == 0 else ",".join(row)
            for row in [header, *rows]
        )
        content = text.encode(chance.choice(("utf-8", "utf-8", "utf-16", "utf-8-sig")))
        place = data / "labels.csv" if k % 2 else folder / "data.csv"
        place.write_bytes(spoiled(chance, content) if k % 4 == 0 else content)

    return Case(f"strange tables {k}", prepare, _use(chance, "data" if k % 2 else "data.csv"), executed)


def strange_parquet(k: int, template: Path) -> Case:
    """Parquet with other columns, damaged footers, and small files that unpack to gigabytes."""
    chance = random.Random(f"parquet {k}")

    def prepare(folder: Path) -> None:
        (folder / "data").mkdir()
        for part in ("train", "test"):
            path = folder / "data" / f"{part}-00000-of-00001.parquet"
            pq.write_table(_columns(chance, k), path, store_schema=False)
            if k % 2:
                content = path.read_bytes()
                # The footer is at the end.
                cut = chance.randrange(len(content))
                path.write_bytes(content[:cut] + spoiled(chance, content[cut:]))

    return Case(f"strange parquet {k}", prepare, _use(chance), executed)


def _columns(chance: random.Random, k: int) -> pa.Table:
    if k % 20 == 0:  # a bomb: equal cells are written once, 8 GB in a few kilobytes
        image = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), [bytes(1 << 24)])
        return pa.table({"image": image, "label": pa.array([0, 1] * 250)})
    blobs = [picture(chance) for _ in range(8)]
    struct_ = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = [
        pa.array([{"bytes": blob, "path": "../../x"} for blob in blobs], struct_),
        pa.array(blobs, pa.binary()),
        pa.array([None] * 8, struct_),
        pa.array([chance.choice(ODD[3:7]) for _ in blobs], pa.float64()),
        pa.array(["/etc/passwd"] * 8),
        pa.array([[1, 2, 3]] * 8),
    ]
    labels = [
        pa.array([0, 1] * 4),
        pa.array([0.0, float("nan")] * 4),
        pa.array([-1, 2**62] * 4),
        pa.array([SCRIPT, "\x1b[31m"] * 4),
        pa.array([None, 1] * 4),
        pa.array([True, False] * 4),
        pa.array([[0], [1]] * 4),
    ]
    table = pa.table({"image": chance.choice(images), "label": chance.choice(labels)})
    if chance.random() < 0.3:
        names = chance.choice(
            ([SCRIPT, "b"], ["a"], ["a", "a"], [1, 2], "ab", {"x": 1}, None, ["\x1b[31m", "\n"])
        )
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return table
