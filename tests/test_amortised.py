"""`refresh=`: which batches are explained, and what the others are given, against slow oracles."""

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import selftaught
from selftaught import IntrospectiveLoss, similarity, targets
from selftaught.amortised import Amortised, SimilarityTable
from selftaught.errors import InputError
from selftaught.methods import registry

CLASSES = 4


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def samples(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(count, 6), torch.randint(CLASSES, (count,))


def is_planned(call: int, share: float) -> bool:
    return math.floor((call + 1) * share) > math.floor(call * share)


def count_explanations(criterion: IntrospectiveLoss) -> list[int]:
    """A list that grows by the size of the batch at each explanation."""
    seen, compare = [], criterion.explainer.compare

    def spy(model, x, *others):
        seen.append(len(x))
        return compare(model, x, *others)

    criterion.explainer.compare = spy
    return seen


ORDERS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True), min_size=1, max_size=25)


@settings(max_examples=40)
@given(orders=ORDERS, share=st.floats(0.05, 1.0), key=st.sampled_from(["grad", "guided-backprop"]))
def test_what_a_batch_is_given_is_what_its_samples_were_given_last(orders, share, key):
    """A model that learns, any order of any batches: the table by sample in plain Python."""
    torch.manual_seed(0)  # with some weights every ReLU dies on the way
    x, y = samples(10)
    model = perceptron()
    criterion = IntrospectiveLoss(model, key, refresh=share)
    explained = count_explanations(criterion)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    kept: dict[int, torch.Tensor] = {}
    for call, order in enumerate(orders):
        index = torch.tensor(order)
        expected_to_explain = share == 1 or is_planned(call, share) or not kept.keys() >= set(order)
        if expected_to_explain:
            maps = selftaught.explain(model, x[index], key).maps
            kept |= dict(zip(order, similarity.cosine(maps, y[index]), strict=True))
        before = len(explained)
        loss = criterion(x[index], y[index], index)
        assert len(explained) - before == expected_to_explain
        rows = torch.stack([kept[sample] for sample in order])
        assert torch.allclose(criterion.targets, targets.introspective(rows, y[index]), atol=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if share < 1:
        table = criterion.amortised.table
        assert torch.allclose(
            table.rows(torch.tensor(list(kept))), torch.stack(list(kept.values())), atol=1e-5
        )


@given(share=st.floats(0.001, 0.999), calls=st.integers(1, 400))
def test_a_share_of_the_calls_is_explained_evenly_spread(share, calls):
    amortised, index = Amortised(share), torch.tensor([0])
    amortised.table.write(index, torch.zeros(1, 2))
    due = [amortised.recall(index) is None for _ in range(calls)]
    assert sum(due) == math.floor(calls * share)
    gaps = [b - a for a, b in itertools.pairwise(call for call, now in enumerate(due) if now)]
    assert all(gap <= math.ceil(1 / share) for gap in gaps)


@given(
    writes=st.lists(
        st.lists(st.tuples(st.integers(0, 50), st.floats(-1, 1, width=32)), min_size=1, max_size=5),
        max_size=8,
    )
)
def test_the_table_is_a_dictionary(writes):
    table, expected = SimilarityTable(), {}
    for rows in writes:
        rows = list(dict(rows).items())
        expected |= dict(rows)
        table.write(torch.tensor([i for i, _ in rows]), torch.tensor([[value, -value] for _, value in rows]))
    again = SimilarityTable()
    again.restore(table.state())
    for kept in (table, again):
        for sample in range(60):
            row = kept.rows(torch.tensor([sample]))
            assert (row is None) == (sample not in expected)
            if row is not None:
                assert row.tolist() == [[expected[sample], -expected[sample]]]
    assert len(table.state()["known"]) == max(expected, default=-1) + 1


def test_rows_are_copies_without_a_graph():
    table, index = SimilarityTable(), torch.tensor([1, 0])
    given_ = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    table.write(index, given_)
    rows = table.rows(index)
    assert rows.dtype == torch.float32
    assert not rows.requires_grad
    rows.zero_()
    assert table.rows(index).eq(1).all()


@pytest.mark.parametrize("name", ["grad", "grad-cam"])
def test_one_is_what_was_before(name):
    """Same bytes, with and without ids, and nothing to save."""
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(4, CLASSES))
    twin = copy.deepcopy(model)
    plain, exact = IntrospectiveLoss(model, name), IntrospectiveLoss(twin, name, refresh=1.0)
    for _ in range(3):
        x, y = torch.randn(5, 1, 8, 8), torch.randint(CLASSES, (5,))
        losses = [plain(x, y), exact(x, y, torch.arange(5))]
        assert torch.equal(*losses)
        for loss, network in zip(losses, (model, twin), strict=True):
            network.zero_grad()
            loss.backward()
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(ours.grad, theirs.grad)
    assert exact.state_dict() == plain.state_dict() == {}
    assert repr(exact) == repr(plain)


@pytest.mark.parametrize("saliency", ["grad-cam", "grad", "grad-input", "guided-backprop"])
@pytest.mark.parametrize("key", ["le", "le-permut"])
def test_of_a_model_that_stands_still_the_loss_is_the_exact_one(key, saliency):
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)]
    model = nn.Sequential(*layers).eval()
    x, y = torch.randn(10, 1, 8, 8), torch.randint(CLASSES, (10,))
    exact, amortised = (registry.create(key, model, saliency=saliency, refresh=r) for r in (1.0, 0.2))
    explained = count_explanations(amortised.criterion)
    for epoch in range(3):
        for index in torch.randperm(10).split(4):
            found = []
            for method in (exact, amortised):
                method.start_epoch(epoch)
                torch.manual_seed(0)  # of the permutation
                found.append(method(x[index], y[index], index))
            assert torch.equal(found[0].loss, found[1].loss)
            assert torch.equal(exact.criterion.targets, amortised.criterion.targets)
            assert found[0].terms.keys() == found[1].terms.keys()
    # The first epoch, and calls 4 and 9 are no others but these.
    assert len(explained) == 3 + 1


def test_permuted_targets_are_permuted_anew():
    x, y = samples(3)
    method = registry.create("le-permut", perceptron(), saliency="grad", refresh=0.01)
    seen = []
    for _ in range(8):
        method(x, y, torch.arange(3))
        seen.append(tuple(method.criterion.targets.flatten().tolist()))
    assert len(set(seen)) > 1
    assert len({tuple(sorted(values)) for values in seen}) == 1


def test_calls_of_the_warm_up_do_not_count_and_need_no_ids():
    x, y = samples(3)
    criterion = IntrospectiveLoss(perceptron(), "grad", refresh=0.5)
    criterion.warmup = True
    criterion(x, y)
    criterion(x, y, torch.arange(3))
    assert criterion.amortised.calls == 0
    assert len(criterion.state_dict()["amortised._extra_state"]["known"]) == 0


def test_what_is_saved_goes_on_as_if_nothing_had_happened(tmp_path):
    x, y = samples(12)
    model = perceptron()
    criterion = IntrospectiveLoss(model, "grad", refresh=0.3)
    orders = [torch.randperm(12)[:5] for _ in range(20)]
    for index in orders[:8]:
        criterion(x[index], y[index], index)
    torch.save(criterion.state_dict(), tmp_path / "criterion.pt")
    restored = IntrospectiveLoss(model, "grad", refresh=0.3)
    restored.load_state_dict(torch.load(tmp_path / "criterion.pt", weights_only=True))
    nn.init.normal_(model[0].weight)
    for index in orders[8:]:
        losses = [loss(x[index], y[index], index) for loss in (criterion, restored)]
        assert torch.equal(*losses)
    assert restored.amortised.calls == 20


def test_a_loss_that_is_cast_keeps_its_table_as_it_is():
    x, y = samples(4)
    model = perceptron().double()
    criterion = IntrospectiveLoss(model, "grad", refresh=0.01)
    losses = [criterion(x.double(), y, torch.arange(4)) for _ in range(2)]
    assert torch.allclose(*losses, atol=1e-6)
    assert criterion.targets.dtype == torch.float64
    criterion.half()
    assert criterion.state_dict()["amortised._extra_state"]["values"].dtype == torch.float32
    assert not list(criterion.parameters())
    assert not list(criterion.buffers())


def test_batches_that_are_not_explained_cost_one_forward_pass(monkeypatch):
    x, y = samples(4)
    model = perceptron()
    criterion = IntrospectiveLoss(model, "grad", refresh=0.01)
    criterion(x, y, torch.arange(4))
    passes = []
    model.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    monkeypatch.setattr(criterion, "explainer", None)
    loss = criterion(x, y, torch.arange(4))
    loss.backward()
    assert passes == [True]
    with torch.no_grad():
        assert not criterion(x, y, torch.arange(4)).requires_grad


@pytest.mark.parametrize("refresh", [0.0, -0.5, 0.009, 1.5, float("nan")])
def test_shares_out_of_range_are_refused(refresh):
    with pytest.raises(InputError, match=r"refresh must be in \[0.01, 1\], not"):
        IntrospectiveLoss(perceptron(), "grad", refresh=refresh)
    with pytest.raises(InputError, match=r"refresh must be in \[0.01, 1\], not"):
        registry.check("le", {"refresh": refresh})


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, r"call criterion\(x, y, index\) with their ids"),
        (torch.arange(3), "an id for each of 4 samples, not 3"),
        (torch.tensor([0, 1, -2, 3]), "must not be negative, but holds -2"),
        (torch.arange(4, dtype=torch.int32), "int64 tensor of shape .batch,., not torch.int32"),
        (torch.arange(4)[:, None], r"int64 tensor of shape .batch,., not torch.int64 of shape \(4, 1\)"),
        ([0, 1, 2, 3], "int64 tensor of shape .batch,., not list"),
        (3, "int64 tensor of shape .batch,., not int"),
        (torch.tensor(3), "int64 tensor of shape .batch,., not torch.int64 of shape"),
        (torch.tensor([0, 1, 2, 2**60]), "no memory for a table of .*: number the samples 0, 1, 2"),
    ],
)
def test_ids_that_are_none_are_refused(index, message):
    x, y = samples(4)
    criterion = IntrospectiveLoss(perceptron(), "grad", refresh=0.5)
    with pytest.raises(InputError, match=message):
        criterion(x, y, index)


def test_a_table_of_another_model_is_refused():
    criterion, (x, y) = IntrospectiveLoss(perceptron(), "grad", refresh=0.5), samples(4)
    criterion(x, y, torch.arange(4))
    criterion.__dict__["model"] = nn.Linear(6, CLASSES + 2)
    criterion.amortised.calls = 0  # the next one is not planned to be explained
    with pytest.raises(InputError, match=f"similarities to {CLASSES} classes, but the model has"):
        criterion(x, y, torch.arange(4))


def test_a_refused_call_does_not_count():
    amortised = Amortised(0.5)
    with pytest.raises(InputError):
        amortised.recall(torch.tensor([-1]))
    assert amortised.calls == 0


def test_a_table_has_as_many_classes_as_it_was_begun_with():
    table = SimilarityTable()
    table.write(torch.tensor([0]), torch.ones(1, 3))
    with pytest.raises(InputError, match="similarities to 3 classes, not 4"):
        table.write(torch.tensor([1]), torch.ones(1, 4))
    with pytest.raises(InputError, match=r"of shape \(2, classes\)"):
        table.write(torch.tensor([0, 1]), torch.ones(1, 3))
