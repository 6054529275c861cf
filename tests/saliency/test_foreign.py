"""Models whose layers cannot be seen, or whose weights are not all in this process."""

import re

import pytest
import torch
import torch.distributed as dist
from torch import nn

import selftaught
from selftaught.cli import _run
from selftaught.errors import ExplanationError


def network(layers: slice = slice(None)) -> nn.Sequential:
    every = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    return nn.Sequential(*every[layers])


X, Y = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])


def refused(model: nn.Module, saliency: str, words: str) -> None:
    with pytest.raises(ExplanationError, match=words):
        selftaught.explain(model, X, saliency)
    with pytest.raises(ExplanationError, match=words):
        selftaught.IntrospectiveLoss(model, saliency)(X, Y)


@pytest.mark.parametrize("saliency", ["grad-cam", "grad"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.jit.script(network()),
        lambda: torch.jit.trace(network().eval(), X),
        lambda: torch.jit.freeze(torch.jit.script(network().eval())),
        lambda: nn.DataParallel(torch.jit.script(network())),
    ],
    ids=["script", "trace", "freeze", "wrapped"],
)
def test_torchscript(make, saliency):
    refused(make(), saliency, "TorchScript")


def test_a_part_in_torchscript_is_named():
    model = nn.Sequential(torch.jit.script(network(slice(0, 2))), *network(slice(2, None)))
    refused(model, "grad-cam", "part '0' of the model is TorchScript")
    assert selftaught.explain(model, X, "grad").maps.shape == (4, 3, 1, 8, 8)


@pytest.mark.parametrize("saliency", ["grad-cam", "grad"])
def test_exported_programs(saliency):
    program = torch.export.export(network().eval(), (X,))
    refused(program.module(), saliency, re.escape("torch.export"))


def test_a_traced_graph_that_still_calls_layers_is_explained():
    model = network()
    found = selftaught.explain(torch.fx.symbolic_trace(model), X)
    assert torch.equal(found.maps, selftaught.explain(model, X).maps)


@pytest.fixture
def one_process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("saliency", ["grad-cam", "grad"])
def test_weights_in_pieces(one_process, saliency):
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    whole, part = network(), network()
    fully_shard(whole, mesh=one_process)
    fully_shard(part[0], mesh=one_process)
    older = FullyShardedDataParallel(network(), device_id=torch.device("cpu"))
    for model in (whole, part, older):
        refused(model, saliency, "FSDP")


@pytest.mark.parametrize(
    ("last", "word"),
    [
        ("torch.jit.script(net)", "TorchScript"),
        (
            "torch.export.export(net.eval(), (torch.zeros(2, in_channels, *image_size),)).module()",
            "torch.export",
        ),
    ],
)
def test_a_model_file_that_returns_one(tmp_path, monkeypatch, capsys, last, word):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def build(num_classes, in_channels, image_size):\n"
        "    net = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                        nn.Linear(4, num_classes))\n"
        f"    return {last}\n"
    )
    assert _run(["train", "digits", "--model", "net.py:build", "--method", "ce", "--epochs", "1", "-q"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert word in said[0]
    assert "net.py" in said[0] or "build()" in said[0]
    assert not (tmp_path / "runs").exists()
