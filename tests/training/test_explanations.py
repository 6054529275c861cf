"""Maps, similarities and the choice of images, against the library called by hand and brute force."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import SwinConfig, SwinForImageClassification, ViTConfig, ViTForImageClassification

import selftaught
from selftaught import models
from selftaught.errors import ExplanationError
from selftaught.report.figures import explanation_grid
from selftaught.training.explanations import (
    default_saliency,
    examples,
    explain_images,
    most_relevant,
    one_per_class,
)
from tests.training.stored import trained


class Tokens(nn.Module):
    """Patches of 2x2 pixels as tokens after `extra` others; the head reads the first or the mean of all."""

    def __init__(self, extra: int, classes: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 2, stride=2)
        self.extra = nn.Parameter(torch.randn(1, extra, 6))
        self.norm = nn.LayerNorm(6)
        self.mix = nn.MultiheadAttention(6, 1, batch_first=True)
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.norm(torch.cat([self.extra.expand(len(x), -1, -1), patches], dim=1))
        return self.head(self.mix(tokens, tokens, tokens)[0].mean(1))


class Logits(nn.Module):
    """A network of transformers as a run holds it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).logits


def hf_vit():
    size = (64, 96)
    config = ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=size,
        num_labels=5,
    )
    return Logits(ViTForImageClassification(config)), size


def hf_swin():
    config = SwinConfig(
        image_size=64,
        patch_size=4,
        embed_dim=12,
        depths=[1, 1],
        num_heads=[2, 2],
        window_size=4,
        num_labels=5,
    )
    return Logits(SwinForImageClassification(config)), (64, 64)


def pictures(count=3, shape=(3, 8, 8)):
    return torch.randint(256, (count, *shape), dtype=torch.uint8)


def conv(classes, channels=3):
    return nn.Sequential(
        nn.Conv2d(channels, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, classes)
    )


def test_maps_and_scores_are_those_of_the_library():
    model = trained(models.create("mlp", 10, 1, 8), shape=(1, 8, 8), model="mlp")
    images, labels = pictures(6, (1, 8, 8)), torch.tensor([3, 8, 0, 1, 2, 9])
    assert default_saliency(model) == "grad"
    explained = explain_images(model, images, list("abcdef"), labels)
    assert [item.name for item in explained] == list("abcdef")
    for item, image, label in zip(explained, images, labels, strict=True):
        expected = selftaught.explain(model, image[None].float() / 255, "grad")
        assert item.classes.tolist() == list(range(10))
        assert item.maps == pytest.approx(expected.maps[0, :, 0].numpy(), abs=1e-6)
        scores = selftaught.similarity.cosine(expected.maps, label[None])[0]
        assert item.similarity == pytest.approx(scores.numpy(), abs=1e-5)
        assert item.probabilities == pytest.approx(expected.logits.softmax(1)[0].numpy(), abs=1e-6)
        assert (item.reference, item.truth) == (label, label)
        assert item.image.tolist() == image[0].tolist()


def test_of_many_classes_the_relevant_ones_are_explained():
    model, images = trained(conv(30), classes=30), pictures(5)
    labels = torch.tensor([7, 0, 29, 3, 3])
    everything = selftaught.explain(model, images.float() / 255)
    scores = selftaught.similarity.cosine(everything.maps, labels)
    for i, item in enumerate(explain_images(model, images, list("abcde"), labels, most=4)):
        ranking = everything.logits[i].argsort(descending=True).tolist()
        kept = [int(labels[i]), *(k for k in ranking if k != labels[i])][:4]
        assert item.classes.tolist() == kept
        assert item.prediction == ranking[0]
        assert item.maps == pytest.approx(everything.maps[i, kept].numpy(), abs=1e-6)
        assert item.similarity == pytest.approx(scores[i, kept].numpy(), abs=1e-5)
        assert item.probabilities.shape == (30,)


def test_without_labels_the_prediction_is_the_reference():
    model, images = trained(conv(4), classes=4), pictures(2)
    for item in explain_images(model, images, ["a", "b"]):
        assert item.truth is None
        assert item.reference == item.prediction
        assert item.similarity[item.reference] == pytest.approx(1, abs=1e-5)


def test_settings_of_the_run_decide_unless_a_saliency_is_named():
    settings = {"saliency": "grad-cam", "relu": True, "similarity": "wasserstein", "layer": "0"}
    model, images = trained(conv(4), classes=4, method="le", **settings), pictures(2)
    x, labels = images.float() / 255, torch.tensor([1, 2])
    expected = selftaught.explain(model, x, layer=model.model[0], relu=True).maps
    found = explain_images(model, images, ["a", "b"], labels)
    assert found[1].maps == pytest.approx(expected[1].numpy(), abs=1e-6)
    scores = selftaught.similarity.wasserstein(expected, labels)
    assert found[1].similarity == pytest.approx(scores[1].numpy(), abs=1e-5)
    named = explain_images(model, images, ["a", "b"], labels, saliency="grad")
    assert named[0].maps.shape == (4, 8, 8)
    assert named[0].maps.min() < 0


def test_a_run_with_upsampled_maps_is_shown_what_it_compared():
    model, images = trained(conv(4), classes=4, method="le", upsample=True, layer="0"), pictures(2)
    x, labels = images.float() / 255, torch.tensor([1, 2])
    maps = selftaught.explain(model, x, layer=model.model[0]).maps
    compared = selftaught.similarity.upsampled(maps, tuple(x.shape[2:]))
    found = explain_images(model, images, ["a", "b"], labels)
    scores = selftaught.similarity.cosine(compared, labels)
    assert found[1].maps.shape == maps.shape[1:]
    assert found[1].similarity == pytest.approx(scores[1].numpy(), abs=1e-5)


@pytest.mark.parametrize("extra", [0, 1, 4])
@pytest.mark.parametrize("size", [(8, 8), (4, 8)])
def test_tokens_become_the_grid_of_their_patches(extra, size):
    """In a map, in what a run stores and in the picture over the photograph."""
    model, images = trained(Tokens(extra), classes=4, shape=(3, *size)), pictures(2, (3, *size))
    maps = selftaught.explain(model, images.float() / 255, layer="model.norm").maps
    assert maps.shape == (2, 4, size[0] // 2, size[1] // 2)
    explained = explain_images(model, images, ["a", "b"], layer="norm")
    assert explained[0].maps == pytest.approx(maps[0].numpy(), abs=1e-6)
    drawn = [axis for axis in explanation_grid(explained, "abcd", overlay=True).axes if axis.images]
    assert [axis.images[0].get_array().shape for axis in drawn][:5] == [(*size, 3)] * 5
    model, others = (
        trained(Tokens(extra), classes=4, shape=(3, *size), layer="norm"),
        judged(torch.rand(6, 4)),
    )
    shown = torch.randint(256, (6, 3, *size), dtype=torch.uint8)
    assert examples(model, shown, *others[1:])["maps"].shape[2:] == maps.shape[2:]


def test_tokens_of_an_unknown_order_are_no_picture():
    class Shuffled(Tokens):
        def forward(self, x):
            patches = self.patches(x).flatten(2).transpose(1, 2)[:, torch.arange(15, -1, -1)]
            tokens = self.norm(patches)
            return self.head(self.mix(tokens, tokens, tokens)[0].mean(1))

    model = trained(Shuffled(0), classes=4)
    with pytest.raises(ExplanationError, match=r"shape \(16,\) is no picture: choose another layer= or"):
        explain_images(model, pictures(1), ["a"], layer="norm")
    assert examples(trained(Shuffled(0), classes=4, layer="norm"), *judged(torch.rand(6, 4))) == {}


@pytest.mark.parametrize("build", [hf_vit, hf_swin])
def test_transformers_are_shown_as_pictures_in_their_proportions(build):
    network, size = build()
    model, images = trained(network, classes=5, shape=(3, *size)), pictures(2, (3, *size))
    labels = torch.tensor([1, 4])
    explained = explain_images(model, images, ["a", "b"], labels)
    expected = selftaught.explain(model, images.float() / 255).maps
    assert expected.shape[:2] == (2, 5)
    assert expected.shape[2] / expected.shape[3] == size[0] / size[1]
    scores = selftaught.similarity.cosine(expected, labels)
    for item, maps, alike in zip(explained, expected, scores, strict=True):
        assert item.maps == pytest.approx(maps.numpy(), abs=1e-6)
        assert item.similarity == pytest.approx(alike.numpy(), abs=1e-5)


def judged(logits, right=3):
    """Images and labels of which the first `right` agree with the logits."""
    labels = logits.argmax(1)
    labels[right:] = (labels[right:] + 1) % logits.shape[1]
    return pictures(len(logits)), labels, logits


def test_examples_are_what_a_report_needs():
    model = trained(conv(12), classes=12)
    images, labels, logits = judged(torch.randn(40, 12), right=20)
    found = examples(model, images, labels, logits)
    shapes = {name: (value.dtype.name, value.shape) for name, value in found.items()}
    assert shapes == {
        "images": ("uint8", (8, 3, 8, 8)),
        "index": ("int64", (8,)),
        "labels": ("int64", (8,)),
        "probabilities": ("float32", (8, 12)),
        "classes": ("int64", (8, 10)),
        "maps": ("float32", (8, 10, 6, 6)),
        "similarity": ("float32", (8, 10)),
    }
    index = torch.from_numpy(found["index"])
    assert (found["images"] == images[index].numpy()).all()
    assert (found["labels"] == labels[index].numpy()).all()
    assert found["probabilities"] == pytest.approx(logits[index].softmax(1).numpy(), abs=1e-6)
    assert (found["classes"][:, 0] == found["labels"]).all()
    assert (found["classes"][4:, 1] == logits[index[4:]].argmax(1).numpy()).all()
    everything = selftaught.explain(model, images[index].float() / 255).maps
    expected = everything[torch.arange(8)[:, None], torch.from_numpy(found["classes"])]
    assert found["maps"] == pytest.approx(expected.numpy(), abs=1e-6)
    assert found["similarity"][:, 0] == pytest.approx(1, abs=1e-5)


def test_examples_are_the_surest_of_each_class_in_turn():
    logits = torch.randn(200, 5) * 3
    images, labels, logits = judged(logits, right=150)
    found = examples(trained(conv(5), classes=5), images, labels, logits, count=13)
    confidence, prediction = logits.double().softmax(1).max(1)

    def expected(those, count):
        by_class = {k: sorted(i for i in those if labels[i] == k) for k in range(5)}
        queues = [sorted(members, key=lambda i: -confidence[i]) for members in by_class.values()]
        rounds = [[queue[turn] for queue in queues if turn < len(queue)] for turn in range(count)]
        return [i for members in rounds for i in sorted(members, key=lambda i: -confidence[i])][:count]

    right = [i for i in range(200) if prediction[i] == labels[i]]
    wrong = [i for i in range(200) if prediction[i] != labels[i]]
    assert found["index"].tolist() == expected(right, 7) + expected(wrong, 6)
    again = examples(trained(conv(5), classes=5), images, labels, logits, count=13)
    assert again["index"].tolist() == found["index"].tolist()


def test_examples_are_fewer_where_there_are_not_enough():
    model = trained(conv(4), classes=4)
    assert len(examples(model, *judged(torch.randn(9, 4), right=8))["index"]) == 5
    assert len(examples(model, *judged(torch.randn(3, 4), right=3))["index"]) == 3
    assert examples(model, *judged(torch.randn(3, 4)), count=0) == {}


def test_images_are_read_by_position_only():
    class OnDemand:
        asked = ()

        def __getitem__(self, positions):
            assert positions.dtype == torch.int64
            self.asked = positions.tolist()
            return images[positions]

    model, (images, labels, logits) = trained(conv(4), classes=4), judged(torch.randn(30, 4), right=15)
    source = OnDemand()
    found = examples(model, source, labels, logits)
    assert found["index"].tolist() == source.asked
    assert all(
        (found[name] == value).all() for name, value in examples(model, images, labels, logits).items()
    )


class Unexplainable(nn.Module):
    def __init__(self, error=None):
        super().__init__()
        self.head = nn.Linear(12, 4)
        self.error = error

    def forward(self, x):
        if self.error and torch.is_grad_enabled():
            raise self.error
        return self.head(x.detach().mean((2, 3)).repeat(1, 4))


@pytest.mark.parametrize(
    "network", [Unexplainable(), Unexplainable(RuntimeError("no gradients here")), conv(4)]
)
def test_a_model_that_cannot_be_explained_has_no_examples(network):
    for parameter in network.parameters():
        parameter.data.zero_()
    assert examples(trained(network, classes=4), *judged(torch.randn(12, 4))) == {}


def test_images_whose_maps_are_zero_are_left_out():
    network = conv(4)
    network[0].bias.data.fill_(-1e-3)
    network[0].weight.data.abs_()
    model = trained(network, classes=4)
    images, labels, logits = judged(torch.randn(8, 4), right=4)
    images[:2] = 0  # dark: no unit fires
    found = examples(model, images, labels, logits)
    assert sorted(found["index"].tolist()) == [2, 3, 4, 5, 6, 7]
    assert np.abs(found["maps"]).max(axis=(1, 2, 3)).min() > 0


def test_stored_maps_are_small():
    model = trained(conv(3), classes=3, shape=(3, 130, 130), method="le", saliency="grad")
    images = pictures(4, (3, 130, 130))
    logits = torch.randn(4, 3)
    found = examples(model, images, logits.argmax(1), logits, count=2)
    assert found["maps"].shape == (1, 3, 44, 44)
    maps = selftaught.explain(model, images[found["index"]].float() / 255, "grad").maps.sum(2)
    first = maps[0, found["classes"][0], :3, :3].mean((1, 2))
    assert found["maps"][0, :, 0, 0] == pytest.approx(first.numpy(), abs=1e-7)


def test_most_relevant_has_no_class_twice():
    probabilities = torch.rand(50, 20).softmax(1)
    reference = torch.randint(20, (50,))
    chosen = most_relevant(probabilities, reference, 6)
    assert (chosen[:, 0] == reference).all()
    assert all(len(set(row)) == 6 for row in chosen.tolist())
    assert all(
        best in row[:2] for best, row in zip(probabilities.argmax(1).tolist(), chosen.tolist(), strict=True)
    )
    assert most_relevant(probabilities, reference, 99).sort().values.tolist() == [list(range(20))] * 50


def test_one_per_class_goes_round():
    labels = torch.tensor([2, 2, 2, 0, 1, 0])
    assert one_per_class(labels, 5) == [3, 4, 0, 5, 1]
    assert one_per_class(labels, 99) == [3, 4, 0, 5, 1, 2]
