"""Pretrained networks: the head first, statistics that stay, averages, weights of classes, and the probe as a run."""

import copy
from contextlib import closing

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

import selftaught
from selftaught.errors import InputError
from selftaught.files import record
from selftaught.study.flags import plan, try_steps, with_probe
from selftaught.training import head, presets, probe
from selftaught.training.class_weights import balanced
from selftaught.training.presets import data_of, resolve
from selftaught.training.run import train
from selftaught.training.session import start
from tests.training import quick

NETWORK = """
from torch import nn
from safetensors.torch import load_file
from pathlib import Path

PRETRAINED = True
FILES = ("body.safetensors",)

def build(num_classes):
    body = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.1)
    )
    body.load_state_dict(load_file(Path(__file__).parent / "body.safetensors"))
    return nn.Sequential(body, nn.Linear(32, num_classes))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A small network with a body that somebody has trained."""
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "net.py").write_text(NETWORK)
    torch.manual_seed(1)
    body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8))
    body[1].running_mean.normal_()
    body[1].running_var.uniform_(0.5, 2)
    save_file(body.state_dict(), folder / "body.safetensors")
    return f"{folder / 'net.py'}:build"


def tuned(model: str, method: str = "ce", **options):
    """The recipe on eighty 8x8 digits."""
    given = {"train_size": 80, "image_size": 8, "batch_size": 8, "least_steps": 30, "val_fraction": 0.1}
    return resolve("digits", method, model=model, **{**given, **options})


def fitted(config):
    """A session whose head is fitted."""
    session = start(config, data_of(config))
    return session, head.fit(session)


def test_training_begins_with_the_solution_of_the_probe(model):
    session, found = fitted(tuned(model))
    images, network = session.images, copy.deepcopy(session.network).eval()
    x = torch.cat(
        [x for x, _ in session.evaluation_batches(images.train_images, images.train_labels).epoch(0)]
    )
    with torch.no_grad():
        expected = probe.fit(network[0](x), images.train_labels, 10)
        torch.testing.assert_close(network(x), expected(network[0](x)), rtol=1e-3, atol=1e-3)
    assert (found.strength, session.network.training) == (expected.strength, True)
    again, same = fitted(tuned(model))  # from the cache
    assert torch.equal(again.network[1].weight, session.network[1].weight)
    assert same == found


def test_other_weights_have_features_of_their_own(model):
    """What is kept is kept of a network, not of its name."""
    session, _ = fitted(tuned(model))
    other = start(tuned(model), data_of(tuned(model)))
    with torch.no_grad():
        other.network[0][0].weight.mul_(-1)
    head.fit(other)
    assert not torch.equal(other.network[1].weight, session.network[1].weight)


def test_statistics_stay_and_weights_learn(model):
    session, _ = fitted(tuned(model))
    before = copy.deepcopy(session.network.state_dict())
    session.train_mode()
    assert session.network[0][5].training  # dropout
    with closing(session.batches.epoch(0)) as batches:
        for x, y in batches:
            session.step(x, y, torch.arange(len(y)))
            session.schedule.step()
    after = session.network.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias", "1.weight", "1.bias"}


def test_in_train_mode_they_change(model):
    session, _ = fitted(tuned(model, batch_norm="train"))
    session.train_mode()
    assert session.network[0][1].training


@pytest.mark.parametrize("method", ["ce", "le", "le-uniform", "dml"])
def test_an_image_counts_as_its_class_does(model, method):
    """The gradient of a batch is that of the weighted mean of the images' own losses."""
    options = {"warmup": 0} if method.startswith("le") else {}
    session, _ = fitted(tuned(model, method, class_weights="balanced", **options))
    session.method.start_epoch(0)
    session.method.eval()  # without dropout, so that images can be taken one by one
    batches = session.evaluation_batches(session.images.train_images[:6], session.images.train_labels[:6])
    x, y = next(iter(batches.epoch(0)))
    weights = balanced(session.images.train_labels, 10)[y]
    session.with_gradients(x, y)
    ours = [parameter.grad.clone() for parameter in session.method.parameters()]
    expected = [torch.zeros_like(gradient) for gradient in ours]
    for image in range(6):
        session.optimizer.zero_grad()
        step = session.method(x[image : image + 1], y[image : image + 1])
        step.loss.backward()
        for total, parameter in zip(expected, session.method.parameters(), strict=True):
            total += weights[image] * parameter.grad / 6
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


def test_the_weights_of_classes_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    labels = torch.tensor([0, 0, 0, 1, 3, 3])
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels.numpy())
    assert balanced(labels, 4)[[0, 1, 3]].tolist() == pytest.approx(expected.tolist())
    assert balanced(labels, 4)[2] == 0


def test_the_result_is_the_average(model, tmp_path):
    """With statistics that fit it: those of the training images under the averaged weights."""
    config = tuned(model, epochs=2, ema=0.9, batch_norm="train", head="new")
    train(config, tmp_path / "run")
    weights = load_file(tmp_path / "run" / "model.safetensors")
    session = start(config, data_of(config))
    for epoch in range(2):
        session.train_mode()
        with closing(session.batches.epoch(epoch)) as batches:
            for x, y in batches:
                session.step(x, y, torch.arange(len(y)))
                session.schedule.step()
    session.average.adopt()
    network = session.network
    assert torch.equal(network[0][0].weight, weights["0.0.weight"])
    outputs = []
    with closing(session.batches.epoch(2)) as batches, torch.no_grad():
        for x, _ in batches:
            outputs.append(network[0][0](x))
    means = torch.stack([output.mean((0, 2, 3)) for output in outputs])
    torch.testing.assert_close(weights["0.1.running_mean"], means.mean(0), rtol=1e-4, atol=1e-5)
    record.read(tmp_path / "run")  # what is told of the held-out images is of these weights as well


def test_the_result_lies_between_the_probe_and_the_last_step(model, tmp_path):
    ends = {}
    for name, method, options in (
        ("start", "probe", {}),
        ("end", "ce", {"blend": 1.0}),
        ("between", "ce", {"blend": 0.3}),
    ):
        train(tuned(model, method, **options), tmp_path / name)
        ends[name] = load_file(tmp_path / name / "model.safetensors")
    for name in ("0.0.weight", "1.weight", "0.1.bias"):
        expected = ends["start"][name].lerp(ends["end"][name], 0.3)
        torch.testing.assert_close(ends["between"][name], expected)


def test_a_random_head_is_nothing_to_keep(model):
    assert tuned(model, head="new").blend == 1.0
    with pytest.raises(InputError, match=r"--blend 0\.5 keeps a part"):
        tuned(model, head="new", blend=0.5)


def test_the_probe_is_a_run_without_epochs(model, tmp_path):
    config = tuned(model, "probe")
    result = train(config, tmp_path / "probe")
    session, found = fitted(config)
    network = session.network.eval()
    images = session.images
    batches = session.evaluation_batches(images.test_images, images.test_labels)
    with torch.no_grad():
        logits = torch.cat([network(x) for x, _ in batches.epoch(0)])
    assert result.accuracy == (logits.argmax(1) == images.test_labels).double().mean().item()
    assert (result.epochs, result.strength) == (0, found.strength)
    assert [point.images for point in result.learning] == [18, 36, 72]
    assert result.learning[-1].accuracy == result.accuracy
    assert all(point.accuracy <= 1 for point in result.learning)
    assert record.read(tmp_path / "probe").result == result
    loaded = selftaught.load(tmp_path / "probe", model=model)
    torch.testing.assert_close(loaded(images.test_images[:4]), logits[:4], rtol=1e-4, atol=1e-4)


def test_a_run_that_hardly_learns_ends_where_the_probe_does(model, tmp_path):
    """And a rate that lets it learn takes it further down."""
    nlls = [
        train(tuned(model, key, lr=lr), tmp_path / f"{key} {lr}").nll
        for key, lr in (("probe", 1e-9), ("ce", 1e-9), ("ce", 2e-3))
    ]
    assert nlls[1] == pytest.approx(nlls[0], abs=1e-4)
    assert nlls[2] < nlls[0] - 0.01


def test_there_are_enough_steps_however_few_images_there_are(model):
    assert (
        tuned(model).epochs == 5
    )  # 72 images are nine batches; thirty steps take four epochs, the least is five
    assert tuned(model, least_steps=100).epochs == 12
    assert tuned(model, least_steps=100, epochs=3).epochs == 3


def test_a_head_that_is_fitted_is_the_warm_up(model):
    assert tuned(model, "le").warmup == 0
    assert tuned(model, "le", head="new", epochs=10).warmup == 2
    assert tuned(model, "le", warmup=2).warmup == 2


@pytest.mark.parametrize("method", ["probe", "ce"])
def test_random_networks_have_no_probe(method):
    with pytest.raises(InputError, match="pretrained"):
        quick.config(method, head="probe")


def test_the_probe_needs_the_head_that_it_is(model):
    with pytest.raises(InputError, match="without --head new"):
        tuned(model, "probe", head="new")


def test_comparisons_of_pretrained_networks_have_the_probe_last(model):
    assert with_probe("digits", ["ce", "le"], model=model) == ["ce", "le", "probe"]
    assert with_probe("digits", ["probe", "ce"], model=model) == ["probe", "ce"]
    assert with_probe("digits", ["ce"], model=model, head="new") == ["ce"]
    assert with_probe("digits", ["ce"], model="resnet8") == with_probe("digits", ["ce"]) == ["ce"]


def test_a_network_without_a_linear_classifier_is_refused_before_anything_is_trained(tmp_path):
    text = NETWORK.replace('FILES = ("body.safetensors",)', "").replace(
        '    body.load_state_dict(load_file(Path(__file__).parent / "body.safetensors"))\n', ""
    )
    (tmp_path / "net.py").write_text(
        text.replace("nn.Linear(32, num_classes))", "nn.Linear(32, num_classes), nn.Tanh())")
    )
    model = f"{tmp_path / 'net.py'}:build"
    with pytest.raises(InputError, match="--head new"):
        try_steps(plan("digits", ["ce"], 1, model=model, image_size=8, train_size=80))


def test_a_network_without_one_is_trained_with_a_random_head(tmp_path):
    """The head has no rate of its own then, and all layers that of the body."""
    text = NETWORK.replace('FILES = ("body.safetensors",)', "").replace(
        '    body.load_state_dict(load_file(Path(__file__).parent / "body.safetensors"))\n',
        "    body.requires_grad_(True)\n",
    )
    text = text.replace("nn.Linear(32, num_classes))", "nn.Linear(32, num_classes, bias=False))")
    (tmp_path / "net.py").write_text(text)
    config = tuned(f"{tmp_path / 'net.py'}:build", head="new", epochs=1)
    assert (config.backbone_factor, config.blend) == (1.0, 1.0)
    assert config.lr == presets.FINE_TUNE["lr"] * presets.FINE_TUNE["backbone_factor"]
    assert train(config, tmp_path / "run").epochs == 1


def test_averages_do_not_touch_the_probe(model, tmp_path):
    plain, averaged = (
        train(tuned(model, "probe", **options), tmp_path / name)
        for name, options in (("plain", {}), ("averaged", {"ema": 0.9, "batch_norm": "train"}))
    )
    assert averaged.nll == plain.nll


def test_peers_begin_with_heads_of_their_own(model):
    session, _ = fitted(tuned(model, "dml"))
    own, peer = session.networks
    assert torch.equal(own[0][0].weight, peer[0][0].weight)
    assert not torch.equal(own[1].weight, peer[1].weight)
    labels = session.images.train_labels
    x = torch.cat([x for x, _ in session.evaluation_batches(session.images.train_images, labels).epoch(0)])
    own.eval(), peer.eval()
    with torch.no_grad():
        assert F.cross_entropy(peer(x), labels) < F.cross_entropy(torch.zeros(len(x), 10), labels)


def test_each_part_of_the_recipe_is_a_flag():
    from selftaught.cli.options import RunOptions

    assert set(presets.FINE_TUNE) <= {flag.name for flag in RunOptions.parameters()}
