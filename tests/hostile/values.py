"""Values that nobody expects, and changes that put them into JSON, text and bytes."""

import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

MARKER = "SELFTAUGHT_MARKER"
"""The environment's variable with the folder that comes into being where a file was executed."""


class Exploit:
    """Unpickled, it leaves a mark."""

    def __reduce__(self) -> tuple:
        return os.makedirs, (os.environ[MARKER], 0o777, True)


def exploit() -> bytes:
    return pickle.dumps(Exploit())


SCRIPT = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, -(10**30), 0.5, -0.0, 1e308, 5e-324),
    *(
        float("nan"),
        float("inf"),
        -float("inf"),
        "",
        " ",
        "0",
        "nan",
        "1e999",
        "\0",
        "\x1b[31m\x07",
        "\ud800",
    ),
    *("a\nb", "x" * 100_000, "../../etc/passwd", "/etc/passwd", "~root", "%s%n{0}", SCRIPT, "ｌｅ", "\u202e"),
    *([], {}, [[]], [None], {"": {}}, [0] * 10_000, {"__class__": "os"}, ["a", 1, None], [[1], [2]]),
    *("grad-cam", "cuda", "hf:/dev/zero", "evil.py:build", "resnet20000000", "cnn6", "mlp", "timm:x", "-1"),
]


def places(value: Any, here: tuple = ()) -> list[tuple]:
    """Where there is a value in nested dictionaries and lists."""
    found = [here] if here else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*here, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:40]):
            found += places(item, (*here, index))
    return found


def mutated(chance: random.Random, value: Any, odd: list[Any] = ODD) -> Any:
    """A copy in which one to three values are others, gone, deeper, or have neighbours."""
    value = json.loads(json.dumps(value))
    for _ in range(chance.choice((1, 1, 2, 3))):
        where = places(value)
        if not where:
            return value
        *way, last = chance.choice(where)
        inside = value
        for step in way:
            inside = inside[step]
        kind = chance.randrange(8)
        if kind == 0:
            del inside[last]
        elif kind == 1:
            inside[last] = [inside[last]]
        elif kind == 2 and isinstance(inside, dict):
            inside[chance.choice(["extra", "__proto__", "", "x" * 1000, SCRIPT])] = chance.choice(odd)
        else:
            inside[last] = chance.choice(odd)
    return value


def written(value: Any) -> bytes:
    """JSON, with NaN and what is no text as Python writes it."""
    return json.dumps(value).encode()


def spoiled(chance: random.Random, content: bytes) -> bytes:
    """Bytes with something else in them: flips, cuts, repetitions, blocks from elsewhere."""
    data = bytearray(content)
    for _ in range(chance.randrange(1, 9)):
        start = chance.randrange(len(data)) if data else 0
        kind = chance.randrange(7)
        if kind == 0 and data:
            data[start] ^= 1 << chance.randrange(8)
        elif kind == 1 and len(data) > 4:
            size = chance.choice((1, 2, 4, 8))
            data[start : start + size] = chance.choice((b"\xff", b"\0", b"\x7f", b"\x80")) * size
        elif kind == 2:
            data[start : start + chance.randrange(64)] = b""
        elif kind == 3:
            data[start:start] = chance.randbytes(chance.randrange(64))
        elif kind == 4:
            data[start:start] = data[start : start + chance.randrange(256)]
        elif kind == 5 and chance.random() < 0.3:
            del data[start:]
        elif data:
            data[start] = chance.randrange(256)
    return bytes(data)


DEEP = [
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b"9" * 200_000,
    b'"' + b"\\u0000" * 50_000 + b'"',
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    b"null",
    b"{}",
    b"",
    b"\xff\xfe\x00",
    b'{"a": 1, "a": 2}',
]
"""JSON that some parsers fall over."""

NAMES = [
    *(b"a\nb", b"a\rb", b"\x1b[31mred\x07", b"\xff\xfe", b"caf\xe9", b"-rf", b"--help", b" ", b"a b", b"'\""),
    *(
        b"$(touch owned)",
        b"`id`",
        b"%s%n",
        b"~",
        b"..a",
        b"a" * 200,
        SCRIPT[:20].encode().replace(b"/", b""),
        b"\xe2\x80\xae",
    ),
    *(
        b"con",
        b"nul.",
        b"\xf0\x9f\x90\xb1",
        b"a;b",
        b"a,b",
        b"*",
        b"?",
        b"[x]",
        b"{x}",
        b"\\",
        b"\x7f",
        b"\xc2\x85",
        b"__pycache__",
    ),
]
"""Names that files and folders may have."""


def strange_file(chance: random.Random, path: bytes) -> None:
    """Something at `path` that is no ordinary file."""
    kind = chance.randrange(8)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        os.symlink("/dev/zero", path)
    elif kind == 2:
        os.symlink("/dev/full", path)
    elif kind == 3:
        os.symlink("/etc/passwd", path)
    elif kind == 4:
        os.symlink(path, path)
    elif kind == 5:
        os.symlink("nowhere", path)
    elif kind == 6:
        os.mkdir(path)
    else:
        os.symlink("/", path)


def replace(path: Path, chance: random.Random) -> None:
    """Something strange in place of a file."""
    path.unlink(missing_ok=True)
    strange_file(chance, os.fsencode(path))
