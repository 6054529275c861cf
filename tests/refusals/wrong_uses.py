"""Wrong uses: what is typed, and what the one line must say."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.data.conftest import encode, random_pictures, write_parquet
from tests.refusals.conftest import Place, compare, photographs, train


class Exploit:
    """Unpickled, it would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def table(**rows: list[str]) -> bytes:
    names = list(rows)
    lines = [names, *zip(*rows.values(), strict=True)]
    return "".join(",".join(line) + "\n" for line in lines).encode()


def only_class(folder: Path) -> None:
    for label in (1, 2):
        shutil.rmtree(folder / f"class{label}")


def loose(folder: Path) -> None:
    for path in folder.glob("*/*.jpg"):
        path.rename(folder / f"{path.parent.name}-{path.name}")
    for empty in folder.glob("class*"):
        if empty.is_dir():
            empty.rmdir()


def only_notes(folder: Path) -> None:
    for path in folder.glob("*/*.jpg"):
        path.rename(path.with_suffix(".txt"))


def lonely(folder: Path) -> None:
    for path in sorted((folder / "class1").iterdir())[1:]:
        path.unlink()


def labelled(place: Place, **rows: list[str]) -> str:
    """A CSV beside a folder of pictures."""
    photographs(place.folder / "pictures", classes=2, count=2)
    return place.file("pictures.csv", table(**rows))


def parquet(place: Place, labels: list[int]) -> str:
    blobs = [encode(picture) for picture in random_pictures(len(labels))]
    for part in ("train", "test"):
        write_parquet(place.folder / "shards" / f"{part}-0.parquet", blobs, labels)
    return str(place.folder / "shards")


def pickled_weights(place: Place) -> str:
    place.file("vit/config.json", '{"model_type": "vit", "architectures": ["ViTForImageClassification"]}')
    place.file("vit/pytorch_model.bin", pickle.dumps({"weight": 1}))
    return f"hf:{place.folder / 'vit'}"


def python_model(place: Place, code: str, function: str = "build") -> str:
    return f"{place.file('net.py', code)}:{function}"


# What is typed, given the place; and what the one line must say: culprit first, remedy last.
CASES: dict[str, tuple[Callable[[Place], list[str]], list[str]]] = {
    "unknown command": (lambda p: ["trian", "digits"], ["trian", "train"]),
    "unknown flag": (lambda p: train(p.good, "--epoch", "3"), ["--epoch", "--epochs"]),
    "flag without value": (lambda p: ["train", "digits", "--epochs"], ["--epochs", "argument"]),
    "not a number": (lambda p: train(p.good, "--epochs", "three"), ["--epochs", "integer"]),
    "unknown method": (lambda p: train(p.good, "--method", "lee"), ["'lee'", "did you mean 'le'"]),
    "method twice": (lambda p: ["compare", str(p.good), "--methods", "ce,ce"], ["'ce'", "once"]),
    "no method": (lambda p: ["compare", str(p.good), "--methods", ","], ["no method", "ce"]),
    "unknown model": (lambda p: train(p.good, "--model", "resnet9"), ["resnet9", "resnet8"]),
    "misspelt model": (lambda p: train(p.good, "--model", "resnt8"), ["'resnt8'", "did you mean 'resnet8'"]),
    "unknown saliency": (
        lambda p: train(p.good, "--saliency", "gradcam"),
        ["'gradcam'", "did you mean 'grad-cam'"],
    ),
    "unknown similarity": (
        lambda p: train(p.good, "--similarity", "cosin"),
        ["'cosin'", "did you mean 'cosine'"],
    ),
    "unknown dataset": (lambda p: train("cifar11"), ["'cifar11'", "did you mean 'cifar10'"]),
    "unknown list": (lambda p: ["ls", "method"], ["'method'", "did you mean 'methods'"]),
    "unknown optimizer": (lambda p: train(p.good, "--optimizer", "adam"), ["optimizer", "'adam'", "'adamw'"]),
    "unknown schedule": (lambda p: train(p.good, "--schedule", "cos"), ["schedule", "'cos'", "'cosine'"]),
    "unknown augmentation": (
        lambda p: train(p.good, "--augment", "phot"),
        ["'phot'", "did you mean 'photo'"],
    ),
    "unknown precision": (lambda p: train(p.good, "--precision", "fp16"), ["precision", "'fp16'"]),
    "half precision on a cpu": (
        lambda p: train(p.good, "--precision", "16-mixed", "--device", "cpu"),
        ["16-mixed", "bf16-mixed"],
    ),
    "grad-cam on an mlp": (
        lambda p: train(p.good, "--model", "mlp", "--saliency", "grad-cam"),
        ["mlp", "--saliency grad"],
    ),
    "unknown layer": (lambda p: train(p.good, "--layer", "features.stage9"), ["'features.stage9'", "stage"]),
    "a setting nobody has": (
        lambda p: ["compare", str(p.good), "--methods", "ce", "--alpha", "0.8"],
        ["--alpha", "belongs to"],
    ),
    "momentum of adamw": (
        lambda p: train(p.good, "--optimizer", "adamw", "--momentum", "0.9"),
        ["momentum", "sgd", "leave"],
    ),
    "milestones of cosine": (
        lambda p: train(p.good, "--epochs", "4", "--schedule", "cosine", "--milestones", "2"),
        ["milestones", "steps", "leave"],
    ),
    "alpha out of range": (lambda p: train(p.good, "--alpha", "1.5"), ["alpha", "1.5", "(0, 1]"]),
    "weight below zero": (lambda p: train(p.good, "--weight", "-1"), ["weight", "-1", "at least 0"]),
    "a share of no batch": (lambda p: train(p.good, "--refresh", "0"), ["refresh", "0", "[0.01, 1]"]),
    "a share that takes for ever": (
        lambda p: train(p.good, "--refresh", "0.001"),
        ["refresh", "0.001", "[0.01, 1]"],
    ),
    "a share above all": (lambda p: train(p.good, "--refresh", "1.5"), ["refresh", "1.5", "[0.01, 1]"]),
    "a share that is no number": (
        lambda p: train(p.good, "--refresh", "nan"),
        ["refresh", "nan", "[0.01, 1]"],
    ),
    "refresh without explanations": (
        lambda p: train(p.good, "--method", "ls", "--refresh", "0.5"),
        ["--refresh", "ls", "belongs to le, le-permut"],
    ),
    "no epoch": (lambda p: train(p.good, "--epochs", "0"), ["epochs", "0", "greater than or equal to 1"]),
    "batch of one": (lambda p: train(p.good, "--batch-size", "1"), ["batch_size", "1", "2"]),
    "learning rate below zero": (lambda p: train(p.good, "--lr", "-0.1"), ["lr", "-0.1", "greater than 0"]),
    "learning rate nan": (lambda p: train(p.good, "--lr", "nan"), ["lr", "nan", "finite"]),
    "learning rate beyond numbers": (lambda p: train(p.good, "--lr", "1e39"), ["lr", "1e+39", "less than"]),
    "momentum one": (lambda p: train(p.good, "--momentum", "1"), ["momentum", "less than 1"]),
    "warm-up too long": (lambda p: train(p.good, "--warmup", "5"), ["warmup 5", "lower it"]),
    "milestones in words": (lambda p: train(p.good, "--milestones", "half"), ["'half'", "80,120"]),
    "milestone too late": (lambda p: train(p.good, "--milestones", "9"), ["milestones 9", "before the last"]),
    "seed below zero": (lambda p: train(p.good, "--seed", "-1"), ["seed", "-1"]),
    "no thread": (lambda p: train(p.good, "--threads", "0"), ["threads", "0"]),
    "no trial": (lambda p: compare(p.good, "--trials", "0"), ["trials", "0", "at least 1"]),
    "no job": (lambda p: compare(p.good, "--jobs", "0"), ["jobs", "0", "at least 1"]),
    "image size zero": (lambda p: train(p.good, "--image-size", "0"), ["image_size", "0"]),
    "images too small": (
        lambda p: train(p.good, "--model", "cnn10", "--image-size", "8"),
        ["cnn10", "8x8", "16x16"],
    ),
    "held out everything": (lambda p: train(p.good, "--val-fraction", "1"), ["val_fraction", "less than 1"]),
    "no test part": (lambda p: train(p.good, "--test-fraction", "0"), ["test_fraction", "greater than 0"]),
    "too few to train on": (lambda p: train(p.good, "--train-size", "2"), ["train_size", "2"]),
    "cuda without a gpu": (lambda p: train(p.good, "--device", "cuda"), ["cuda", "--device cpu"]),
    "missing folder": (lambda p: train(p.folder / "nowhere"), ["nowhere", "not"]),
    "a file as data": (lambda p: train(p.file("notes.txt")), ["notes.txt", "folder"]),
    "empty folder": (
        lambda p: train(p.spoiled(lambda f: (shutil.rmtree(f), f.mkdir()))),
        ["spoiled", "sub-folder"],
    ),
    "one class": (lambda p: train(p.spoiled(only_class)), ["spoiled", "class0", "two"]),
    "empty class": (lambda p: train(p.spoiled(lambda f: (f / "empty").mkdir())), ["empty", "remove"]),
    "class of one image": (lambda p: train(p.spoiled(lonely)), ["class1", "one"]),
    "no classes": (lambda p: train(p.spoiled(loose)), ["spoiled", "sub-folder"]),
    "corrupt image": (
        lambda p: train(p.spoiled(lambda f: (f / "class0" / "3.jpg").write_bytes(b"\xff\xd8\xff no jpeg"))),
        ["class0/3.jpg", "remove"],
    ),
    "truncated image": (
        lambda p: train(
            p.spoiled(lambda f: (f / "class0" / "3.jpg").write_bytes((f / "class0/4.jpg").read_bytes()[:200]))
        ),
        ["class0/3.jpg", "remove"],
    ),
    "zero bytes": (
        lambda p: train(p.spoiled(lambda f: (f / "class2" / "new.png").touch())),
        ["class2/new.png", "empty", "remove"],
    ),
    "no image at all": (
        lambda p: train(p.spoiled(only_notes)),
        ["spoiled", "no images", "one sub-folder of images per class"],
    ),
    "a link that leaves the folder": (
        lambda p: train(p.spoiled(lambda f: (f / "class2" / "x.jpg").symlink_to(p.good / "class0/0.jpg"))),
        ["class2/x.jpg", "folder"],
    ),
    "csv: no such file": (
        lambda p: train(labelled(p, file=["class0/0.jpg", "class0/9.jpg"], label=["a", "b"])),
        ["class0/9.jpg", "3"],
    ),
    "csv: no label": (
        lambda p: train(labelled(p, file=["class0/0.jpg", "class1/0.jpg"], label=["a", ""])),
        ["pictures.csv", "3", "label"],
    ),
    "csv: no column": (
        lambda p: train(labelled(p, photo=["class0/0.jpg"], kind=["a"])),
        ["pictures.csv", "column"],
    ),
    "csv: a name that escapes": (
        lambda p: train(labelled(p, file=["class0/0.jpg", "../good/class0/0.jpg"], label=["a", "b"])),
        ["../good/class0/0.jpg", "folder"],
    ),
    "parquet: label out of range": (
        lambda p: train(parquet(p, [0, 1, 7])),
        ["train-0.parquet", "row 2", "label 7", "0..1"],
    ),
    "parquet: no parquet": (
        lambda p: train(
            (p.file("shards/train-0.parquet"), p.file("shards/test-0.parquet"), p.folder / "shards")[2]
        ),
        ["train-0.parquet", "Parquet"],
    ),
    "out is a file": (lambda p: train(p.good, "--out", p.file("file")), ["file", "--out"]),
    "out below a file": (lambda p: train(p.good, "--out", p.file("file") + "/run"), ["file", "--out"]),
    "out cannot be written": (lambda p: train(p.good, "--out", "/proc/run"), ["/proc/run", "--out"]),
    "out holds something else": (
        lambda p: train(p.good, "--out", str(Path(p.file("thesis/chapter.tex")).parent)),
        ["thesis", "chapter.tex", "--out"],
    ),
    "out holds another run": (
        lambda p: train(p.good, "--out", str(p.run), "--lr", "0.05"),
        ["lr: 0.1 -> 0.05", "--out"],
    ),
    "comparison in a run": (lambda p: compare(p.good, "--out", str(p.run)), ["run", "--out"]),
    "explain: no run": (lambda p: ["explain", str(p.good)], ["good", "run"]),
    "explain: no picture format": (lambda p: ["explain", str(p.run), "-o", "x.txt"], ["x.txt", ".png"]),
    "explain: no image": (
        lambda p: ["explain", str(p.run), p.file("x.jpg", "text"), "-o", "x.png"],
        ["x.jpg", "image"],
    ),
    "predict: no run": (lambda p: ["predict", str(p.folder / "nowhere"), str(p.good)], ["nowhere", "run"]),
    "predict: missing image": (lambda p: ["predict", str(p.run), "no.jpg"], ["no.jpg"]),
    "predict: no image": (lambda p: ["predict", str(p.run), p.file("x.jpg", "text")], ["x.jpg"]),
    "export: unknown format": (
        lambda p: ["export", str(p.run), "-o", "model.tflite"],
        ["model.tflite", ".onnx"],
    ),
    "report: no run": (lambda p: ["report", str(p.good)], ["good", "run"]),
    "report: onto a directory": (
        lambda p: ["report", str(p.run), "-o", str(p.good)],
        ["good", "director", ".html"],
    ),
    "hf: missing folder": (lambda p: train(p.good, "--model", "hf:./nowhere"), ["nowhere"]),
    "hf: pickled weights": (lambda p: train(p.good, "--model", pickled_weights(p)), ["vit", "safetensors"]),
    "file: missing": (lambda p: train(p.good, "--model", "nowhere.py:build"), ["nowhere.py"]),
    "file: no function": (
        lambda p: train(p.good, "--model", python_model(p, "def biuld(): pass")),
        ["net.py", "'build'", "'biuld'"],
    ),
    "file: syntax error": (
        lambda p: train(p.good, "--model", python_model(p, "x = 1\ndef build(:\n")),
        ["net.py", "line 2"],
    ),
    "file: no model": (
        lambda p: train(p.good, "--model", python_model(p, "def build(num_classes): return 3")),
        ["net.py", "int", "Module"],
    ),
    "file: no weights": (
        lambda p: train(p.good, "--model", python_model(p, 'FILES = ("weights.safetensors",)')),
        ["net.py", "'weights.safetensors'", "put it there"],
    ),
    "damaged checkpoint": (
        lambda p: (
            (p.run / "result.json").unlink(),
            (p.run / "checkpoint.pt").write_bytes((p.run / "checkpoint.pt").read_bytes()[:-900]),
            train(p.good, "--out", str(p.run)),
        )[2],
        ["checkpoint.pt", "remove it"],
    ),
    "pickled checkpoint": (
        lambda p: (
            (p.run / "result.json").unlink(),
            (p.run / "checkpoint.pt").write_bytes(pickle.dumps(Exploit(p.folder / "owned"))),
            train(p.good, "--out", str(p.run)),
        )[2],
        ["checkpoint.pt", "remove it"],
    ),
    "damaged weights": (
        lambda p: (
            p.file("run/model.safetensors", (p.run / "model.safetensors").read_bytes()[:-4] + b"oops"),
            ["predict", str(p.run), str(p.good / "class0")],
        )[1],
        ["model.safetensors", "damaged", "remove"],
    ),
}
