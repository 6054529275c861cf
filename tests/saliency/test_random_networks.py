"""No maps and no soft labels that differ from Grad-CAM's definition without a word, whatever the network."""

import pytest
import torch

from tests.oracles.naive_gradcam import difference, naive_grad_cam
from tests.saliency.examination import examine
from tests.saliency.odd_heads import HEADS
from tests.saliency.random_networks import TRUNKS, create

SEEDS = range(400)
#: Cheap ones of all trunks.
FEW = [
    7,
    9,
    13,
    20,
    22,
    27,
    42,
    51,
    54,
    59,
    60,
    64,
    75,
    84,
    88,
    90,
    97,
    102,
    112,
    114,
    117,
    127,
    134,
    138,
    146,
    149,
]


@pytest.mark.filterwarnings("ignore:Grad-CAM explains")
@pytest.mark.parametrize("seed", FEW)
def test_a_few_networks(seed):
    finding = examine(seed)
    assert not finding.faults, (finding.design, finding.forms, finding.faults)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Grad-CAM explains")
@pytest.mark.parametrize("seed", [seed for seed in SEEDS if seed not in FEW])
def test_all_networks(seed):
    finding = examine(seed)
    assert not finding.faults, (finding.design, finding.forms, finding.faults)


def test_the_seeds_have_every_head_on_every_trunk():
    assert {(seed % len(TRUNKS), seed % len(HEADS)) for seed in SEEDS} >= {
        (trunk, head) for trunk in range(len(TRUNKS)) for head in range(len(HEADS))
    }


def test_a_seed_is_the_same_network_for_ever():
    one, other = create(7), create(7)
    assert one.design == other.design
    for a, b in zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one.batches, other.batches, strict=True))


class TestTheDefinition:
    """The reference is one that can tell right from wrong."""

    def test_is_the_closed_form_of_mean_pooling(self):
        body, classifier = torch.nn.Conv2d(2, 4, 3), torch.nn.Linear(4, 3)
        model = torch.nn.Sequential(body, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), classifier)
        x = torch.randn(2, 2, 6, 6)
        expected = torch.einsum("kc,nchw->nkhw", classifier.weight, body(x)) / 16
        naive = naive_grad_cam(model, x, "0", 0, 1, seed=0)
        torch.testing.assert_close(naive.maps, expected.detach())
        assert difference(expected.detach(), naive) < 1e-6
        assert naive.reached.all()

    def test_sees_a_wrong_map_of_one_sample_of_one_class(self):
        model = torch.nn.Sequential(
            torch.nn.Conv2d(2, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3)
        )
        x = torch.randn(2, 2, 6, 6)
        x[1] *= 1e-4  # a small sample's maps are small, and its own scale is what counts
        model[0].bias.data.zero_()
        naive = naive_grad_cam(model, x, "0", 0, 1, seed=0)
        wrong = naive.maps.clone()
        wrong[1, 2] *= 1.01
        assert difference(wrong, naive) > 1e-4

    def test_holds_statistics_so_that_samples_are_not_coupled(self):
        norm = torch.nn.BatchNorm1d(4)
        model = torch.nn.Sequential(
            torch.nn.Conv1d(2, 4, 1),
            torch.nn.AdaptiveAvgPool1d(1),
            torch.nn.Flatten(),
            norm,
            torch.nn.Linear(4, 3),
        )
        x = torch.randn(5, 2, 6)
        naive = naive_grad_cam(model.train(), x, "0", 0, 1, seed=0)
        pooled = model[2](model[1](model[0](x)))
        scale = norm.weight / (pooled.var(0, correction=0) + norm.eps).sqrt()
        expected = torch.einsum("kc,nct->nkt", model[4].weight * scale, model[0](x)) / 6
        torch.testing.assert_close(naive.maps, expected.detach(), rtol=1e-4, atol=1e-6)
        assert torch.equal(naive.logits, model(x))

    def test_tells_the_runs_of_a_layer_apart(self):
        class Twice(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.out = torch.nn.Conv1d(2, 2, 1), torch.nn.Linear(2, 3)

            def forward(self, x):
                return self.out(self.conv(self.conv(x).tanh()).mean(2))

        model, x = Twice(), torch.randn(2, 2, 5)
        first, second = (naive_grad_cam(model, x, "conv", run, 1, seed=0) for run in (0, 1))
        again = model.conv(model.conv(x).tanh())
        torch.testing.assert_close(
            second.maps, torch.einsum("kc,nct->nkt", model.out.weight, again).detach() / 5
        )
        assert difference(first.maps, second) > 1e-2
