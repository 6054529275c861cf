"""What docs/your-own-loop.md gives for Lightning and the Trainer of Hugging Face trains as a loop of one's own does."""

import copy

import pytest
import torch
from torch import nn

import selftaught
from tests.test_docs import BLOCK, ROOT

EPOCHS, WARMUP, RATE = 3, 1, 0.5
X = torch.randn(8, 1, 10, 10, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


class Network(nn.Module):
    """Takes and gives what the Trainer of Hugging Face expects; `**kwargs` says that it divides the loss itself."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, pixel_values, labels=None, **kwargs):
        logits = self.head(self.features(pixel_values).mean((2, 3)))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"logits": logits} if loss is None else {"loss": loss, "logits": logits}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network()


@pytest.fixture
def page():
    """The names that the page's blocks define."""
    names = {}
    for kind, text in BLOCK.findall((ROOT / "docs" / "your-own-loop.md").read_text()):
        if kind == "python" and ("import lightning" in text or "import transformers" in text):
            exec(text, {"torch": torch, "selftaught": selftaught} | names, names)
    return names


def trained(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a copy after a loop of one's own over the same samples, all in one batch."""
    network = copy.deepcopy(network)
    criterion = selftaught.IntrospectiveLoss(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    for epoch in range(EPOCHS):
        criterion.warmup = epoch < WARMUP
        optimizer.zero_grad()
        criterion(X, Y).backward()
        optimizer.step()
    return network.state_dict()


def assert_as_by_hand(found: nn.Module, network: nn.Module) -> None:
    expected = trained(network)
    torch.testing.assert_close(found.state_dict(), expected)
    assert any(not torch.equal(value, network.state_dict()[name]) for name, value in expected.items())


@pytest.mark.parametrize("accumulated", [1, 2])
def test_lightning(page, network, accumulated):
    lightning = pytest.importorskip("lightning")

    class Ours(page["Classifier"]):
        def configure_optimizers(self):
            return torch.optim.SGD(self.network.parameters(), lr=RATE)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=8 // accumulated)
    module = Ours(Logits(copy.deepcopy(network)), warmup=WARMUP)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        accumulate_grad_batches=accumulated,
        enable_model_summary=False,
        **quiet,
    )
    trainer.fit(module, loader, loader)
    assert_as_by_hand(module.network.network, network)
    assert 0 <= trainer.callback_metrics["accuracy"] <= 1


class Logits(nn.Module):
    """Of a network that gives more."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)["logits"]


@pytest.mark.parametrize("accumulated", [1, 2])
def test_hugging_face(page, network, accumulated, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    samples = [{"pixel_values": x, "labels": y} for x, y in zip(X, Y, strict=True)]
    model = copy.deepcopy(network)
    arguments = transformers.TrainingArguments(
        str(tmp_path),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=8 // accumulated,
        gradient_accumulation_steps=accumulated,
        lr_scheduler_type="constant",
        max_grad_norm=0,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    trainer = page["IntrospectiveTrainer"](
        model, arguments, train_dataset=samples, eval_dataset=samples, optimizers=(optimizer, None)
    )
    trainer.warmup = WARMUP
    trainer.train()
    assert_as_by_hand(model, network)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(X)["logits"], Y)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(loss), rel=1e-5)
