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


class Logits(nn.Module):
    """Of a network that gives more."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)["logits"]


def lightning_trainer(page, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return page["lightning"].Trainer(accelerator="cpu", enable_checkpointing=False, **quiet, **options)


def loader(batch_size: int) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=batch_size)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_lightning(page, network, accumulated):
    class Ours(page["Classifier"]):
        def configure_optimizers(self):
            return torch.optim.SGD(self.network.parameters(), lr=RATE)

    data = loader(8 // accumulated)
    module = Ours(Logits(copy.deepcopy(network)), warmup=WARMUP)
    trainer = lightning_trainer(page, max_epochs=EPOCHS, accumulate_grad_batches=accumulated)
    trainer.fit(module, data, data)
    assert_as_by_hand(module.network.network, network)
    with torch.no_grad():
        right = (module.network(X).argmax(1) == Y).float().mean()
    assert trainer.callback_metrics["accuracy"] == pytest.approx(float(right))


def test_lightning_is_warming_up_after_a_resume_too(page, network, tmp_path):
    seen = []

    class Ours(page["Classifier"]):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            seen.append((self.current_epoch, self.criterion.warmup))
            return loss

    for options, begun in (({"max_steps": 3}, None), ({"max_epochs": 3}, tmp_path / "middle.ckpt")):
        trainer = lightning_trainer(page, **options)
        trainer.fit(
            Ours(Logits(network), warmup=2), loader(2), loader(8), ckpt_path=begun
        )  # 4 steps an epoch
        trainer.save_checkpoint(tmp_path / "middle.ckpt")
        network = copy.deepcopy(network)
    assert len(seen) > 9
    assert all(warming == (epoch < 2) for epoch, warming in seen)


def hugging_face_trainer(page, folder, accumulated=1, **options):
    samples = [{"pixel_values": x, "labels": y} for x, y in zip(X, Y, strict=True)]
    arguments = page["transformers"].TrainingArguments(
        str(folder),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=8 // accumulated,
        gradient_accumulation_steps=accumulated,
        lr_scheduler_type="constant",
        max_grad_norm=0,
        optim="sgd",
        learning_rate=RATE,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = page["IntrospectiveTrainer"](
        args=arguments, train_dataset=samples, eval_dataset=samples, **options
    )
    trainer.warmup = WARMUP / EPOCHS
    return trainer


@pytest.mark.parametrize("accumulated", [1, 2])
def test_hugging_face(page, network, accumulated, tmp_path):
    model = copy.deepcopy(network)
    trainer = hugging_face_trainer(page, tmp_path, accumulated, model=model)
    trainer.train()
    assert_as_by_hand(model, network)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(X)["logits"], Y)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(loss), rel=1e-5)


def test_hugging_face_with_a_model_for_each_training(page, network, tmp_path):
    trainer = hugging_face_trainer(page, tmp_path, model_init=lambda: copy.deepcopy(network))
    for _ in range(2):
        trainer.train()
        assert_as_by_hand(trainer.model, network)
