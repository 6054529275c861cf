import itertools
from collections import Counter

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught import losses, targets
from selftaught.errors import InputError
from tests.oracles import losses as oracle

TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5}
batches = st.integers(1, 6)
class_counts = st.sampled_from([2, 3, 10, 1000])
dtypes = st.sampled_from(sorted(TOLERANCE, key=str))
seeds = st.integers(0, 2**31)
few_examples = settings(max_examples=20)


def random_pair(batch, classes, dtype=torch.float64):
    student, teacher = (3 * torch.randn(batch, classes, dtype=dtype) for _ in range(2))
    return student, teacher, torch.randint(classes, (batch,))


def confidence_of(teacher):
    return oracle.softmax(teacher.detach()).max(axis=1)


def features(*shape):
    return torch.randn(4, *shape, dtype=torch.float64)


@few_examples
@given(
    batch=batches,
    classes=class_counts,
    dtype=dtypes,
    temperature=st.sampled_from([1.0, 4.0, 20.0]),
    seed=seeds,
)
def test_losses_of_logits_equal_the_oracles(batch, classes, dtype, temperature, seed):
    torch.manual_seed(seed)
    student, teacher, labels = random_pair(batch, classes, dtype)
    soft = targets.smooth(labels, classes, 0.8, dtype=dtype)
    pairs = [
        (losses.soft_cross_entropy(student, soft), oracle.soft_cross_entropy(student, soft.numpy())),
        (losses.confidence_penalty(student, labels, 0.5), oracle.confidence_penalty(student, labels, 0.5)),
        (
            losses.distillation(student, teacher, temperature),
            oracle.distillation(student, teacher, temperature),
        ),
        (
            losses.confidence_weighted(student, teacher, labels),
            oracle.confidence_weighted(student, confidence_of(teacher), labels),
        ),
        (losses.mutual(student, teacher), oracle.distillation(student, teacher, 1.0)),
    ]
    for ours, theirs in pairs:
        assert ours.dtype == dtype
        assert ours.shape == ()
        # T² magnifies the rounding of a KL that is small, being softened.
        assert ours.item() == pytest.approx(theirs, rel=TOLERANCE[dtype], abs=TOLERANCE[dtype] * temperature)


def test_soft_cross_entropy_with_one_hot_targets_is_cross_entropy():
    logits, _, labels = random_pair(8, 5)
    one_hot = F.one_hot(labels, 5).double()
    torch.testing.assert_close(losses.soft_cross_entropy(logits, one_hot), F.cross_entropy(logits, labels))


def test_soft_cross_entropy_accepts_float32_targets_for_float64_logits():
    logits, _, labels = random_pair(8, 5)
    loss = losses.soft_cross_entropy(logits, targets.smooth(labels, 5))
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(
        oracle.soft_cross_entropy(logits, targets.smooth(labels, 5).numpy()), abs=1e-7
    )


def test_confidence_penalty_of_strength_zero_is_cross_entropy():
    logits, _, labels = random_pair(8, 5)
    torch.testing.assert_close(
        losses.confidence_penalty(logits, labels, 0.0), F.cross_entropy(logits, labels)
    )


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_batchmean_not_the_default_reduction(temperature):
    student, teacher, _ = random_pair(8, 10)
    arguments = (student / temperature).log_softmax(1), (teacher / temperature).softmax(1)
    batchmean = torch.nn.KLDivLoss(reduction="batchmean")(*arguments) * temperature**2
    ours = losses.distillation(student, teacher, temperature)
    torch.testing.assert_close(ours, batchmean)
    # Repeating the batch must not change a mean over the batch; the default is 10 times (classes) too small.
    torch.testing.assert_close(
        losses.distillation(student.repeat(3, 1), teacher.repeat(3, 1), temperature), ours
    )
    assert ours.item() == pytest.approx(
        10 * temperature**2 * F.kl_div(*arguments, reduction="none").mean().item(), rel=1e-9
    )


def test_distillation_gradient_in_closed_form():
    student, teacher, _ = random_pair(6, 5)
    losses.distillation(student.requires_grad_(), teacher, 4.0).backward()
    p, q = (oracle.softmax(logits.detach(), 4.0) for logits in (student, teacher))
    np.testing.assert_allclose(student.grad, 4.0 * (p - q) / 6, atol=1e-12)  # T² · (p - q) / T, mean over 6


def test_distillation_of_a_saturated_teacher_is_cross_entropy():
    student, _, labels = random_pair(6, 5, torch.float32)
    teacher = 1000.0 * F.one_hot(labels, 5)
    torch.testing.assert_close(losses.distillation(student, teacher, 1.0), F.cross_entropy(student, labels))


def test_confidence_weighted_gradient_is_equation_5():
    student, teacher, labels = random_pair(7, 5)
    losses.confidence_weighted(student.requires_grad_(), teacher, labels).backward()
    expected = oracle.confidence_weighted_gradient(student.detach(), confidence_of(teacher), labels)
    np.testing.assert_allclose(student.grad, expected, atol=1e-13)


def test_confidence_weighted_with_equal_confidences_is_cross_entropy():
    student, _, labels = random_pair(7, 5)
    teacher = torch.zeros_like(student)
    torch.testing.assert_close(
        losses.confidence_weighted(student, teacher, labels), F.cross_entropy(student, labels)
    )


def test_cwtm_permut_uses_every_permutation_of_the_confidences_equally():
    student, teacher, labels = random_pair(3, 5)
    confidence = confidence_of(teacher)
    values = [
        oracle.confidence_weighted(student, list(order), labels)
        for order in itertools.permutations(confidence)
    ]
    generator = torch.Generator().manual_seed(0)
    draws = [
        losses.confidence_weighted(student, teacher, labels, permute=True, generator=generator).item()
        for _ in range(1200)
    ]
    nearest = [int(np.argmin(np.abs(np.subtract(values, draw)))) for draw in draws]
    np.testing.assert_allclose(draws, np.take(values, nearest), atol=1e-12)
    counts = Counter(nearest)
    assert len(counts) == 6
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_cwtm_random_draws_uniform_confidences():
    # With the losses of all samples but the first at (nearly) zero, the loss is w_1 · CE_1.
    student, labels = torch.zeros(2, 2, dtype=torch.float64), torch.tensor([0, 0])
    student[1, 0] = 800
    generator = torch.Generator().manual_seed(0)
    weights = [
        losses.confidence_weighted(student, student, labels, random=(0.5, 1.0), generator=generator).item()
        / np.log(2)
        for _ in range(3000)
    ]
    u, v = np.random.default_rng(0).uniform(0.5, 1.0, (2, 100_000))
    assert scipy.stats.ks_2samp(weights, u / (u + v)).pvalue > 1e-3
    assert 1 / 3 < min(weights) < 0.36
    assert 0.64 < max(weights) < 2 / 3


@pytest.mark.parametrize("options", [{"permute": True}, {"random": (0.5, 1.0)}], ids=str)
def test_randomness_comes_from_the_generator(options):
    student, teacher, labels = random_pair(16, 5)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return losses.confidence_weighted(student, teacher, labels, generator=generator, **options).item()

    state = torch.get_rng_state()
    assert draw(1) == draw(1) != draw(2)
    assert torch.equal(torch.get_rng_state(), state)
    assert losses.confidence_weighted(student, teacher, labels, **options).item() not in (draw(1), draw(2))


def test_permuted_dark_knowledge_is_distillation_from_permuted_probabilities():
    student, teacher, _ = random_pair(1, 4)
    q, p = oracle.softmax(teacher, 4.0)[0], oracle.softmax(student, 4.0)
    top = int(q.argmax())
    values = []
    for order in itertools.permutations(np.delete(q, top)):
        values.append(16 * oracle.kl(p, np.insert(order, top, q[top])[None]))
    generator = torch.Generator().manual_seed(0)
    draws = [losses.permuted_dark_knowledge(student, teacher, 4.0, generator).item() for _ in range(1200)]
    nearest = [int(np.argmin(np.abs(np.subtract(values, draw)))) for draw in draws]
    np.testing.assert_allclose(draws, np.take(values, nearest), atol=1e-12)
    counts = Counter(nearest)
    assert len(counts) == 6
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_permuted_dark_knowledge_of_two_classes_is_distillation():
    student, teacher, _ = random_pair(8, 2)
    torch.testing.assert_close(
        losses.permuted_dark_knowledge(student, teacher), losses.distillation(student, teacher, 1.0)
    )


def test_mutual_is_zero_for_equal_networks_and_not_symmetric():
    own, peer, _ = random_pair(8, 5)
    assert losses.mutual(own, own).item() == pytest.approx(0, abs=1e-15)
    assert losses.mutual(own, peer).item() != pytest.approx(losses.mutual(peer, own).item(), rel=1e-3)


def test_hint():
    student, teacher = features(3, 5, 5), features(3, 5, 5)
    expected = np.mean((student.numpy() - teacher.numpy()) ** 2)
    assert losses.hint(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("channels", [(3, 3), (4, 16)])
def test_attention(channels):
    student, teacher = features(channels[0], 5, 6), features(channels[1], 5, 6)
    expected = oracle.attention(student.numpy(), teacher.numpy())
    assert losses.attention(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(losses.attention(7 * student, teacher), losses.attention(student, teacher))


def test_attention_of_dead_features_is_finite():
    student, teacher = torch.zeros(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4)
    loss = losses.attention(student, teacher)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


SIZES = [((8, 8), (8, 8)), ((8, 8), (4, 4)), ((4, 4), (8, 8)), ((8, 2), (4, 6))]


@pytest.mark.parametrize("student_sizes", SIZES)
@pytest.mark.parametrize("teacher_sizes", SIZES)
def test_flow(student_sizes, teacher_sizes):
    stages = [
        features(channels, *size)
        for sizes in (student_sizes, teacher_sizes)
        for channels, size in zip((3, 5), sizes, strict=True)
    ]
    expected = oracle.flow(*(stage.numpy() for stage in stages))
    assert losses.flow(*stages).item() == pytest.approx(expected, rel=1e-12)


def test_flow_pools_sizes_that_do_not_divide():
    first, second = features(3, 7, 7), features(5, 4, 4)
    pooled = F.adaptive_max_pool2d(first, 4)
    zeros = torch.zeros_like(pooled), torch.zeros_like(second)
    torch.testing.assert_close(losses.flow(first, second, *zeros), losses.flow(pooled, second, *zeros))


OF_LOGITS = {
    "distillation": lambda s, t, y: losses.distillation(s, t, 4.0),
    "permuted_dark_knowledge": lambda s, t, y: losses.permuted_dark_knowledge(s, t, 4.0),
    "confidence_weighted": losses.confidence_weighted,
    "cwtm_permut": lambda s, t, y: losses.confidence_weighted(s, t, y, permute=True),
    "cwtm_random": lambda s, t, y: losses.confidence_weighted(s, t, y, random=(0.5, 1.0)),
    "mutual": lambda s, t, y: losses.mutual(s, t),
    "soft_cross_entropy": lambda s, t, y: losses.soft_cross_entropy(s, t.softmax(1)),
}
OF_FEATURES = {
    "hint": losses.hint,
    "attention": losses.attention,
    "flow": lambda s, t: losses.flow(s, s[..., ::2, ::2], t, t[..., ::2, ::2]),
}


@pytest.mark.parametrize("loss", OF_LOGITS.values(), ids=OF_LOGITS)
def test_gradients_of_logits_reach_the_student_only(loss):
    student, teacher, labels = random_pair(6, 5)
    loss(student.requires_grad_(), teacher.requires_grad_(), labels).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("loss", OF_FEATURES.values(), ids=OF_FEATURES)
def test_gradients_of_features_reach_the_student_only(loss):
    student, teacher = features(3, 4, 4).requires_grad_(), features(3, 4, 4).requires_grad_()
    loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_gradients_are_those_of_finite_differences():
    student, teacher, labels = random_pair(3, 4)
    student.requires_grad_()
    soft = teacher.softmax(1)
    assert torch.autograd.gradcheck(lambda s: losses.soft_cross_entropy(s, soft), student)
    assert torch.autograd.gradcheck(lambda s: losses.confidence_penalty(s, labels, 0.5), student)
    assert torch.autograd.gradcheck(lambda s: losses.distillation(s, teacher, 4.0), student)
    small, large = features(2, 2, 2).requires_grad_(), features(2, 4, 4).requires_grad_()
    others = features(2, 2, 2), features(2, 4, 4)
    assert torch.autograd.gradcheck(lambda s: losses.attention(s, others[0]), small)
    assert torch.autograd.gradcheck(lambda a, b: losses.flow(a, b, *others), (small, large))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["soft_cross_entropy", "distillation", "confidence_weighted", "mutual"])
def test_half_precision_logits_are_computed_in_float32(dtype, name):
    student, teacher, labels = random_pair(6, 5, dtype)
    result = OF_LOGITS[name](student, teacher.float(), labels)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, OF_LOGITS[name](student.float(), teacher.float(), labels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("loss", OF_FEATURES.values(), ids=OF_FEATURES)
def test_half_precision_features_are_computed_in_float32(dtype, loss):
    student, teacher = (300 * features(3, 4, 4)).to(dtype), (300 * features(3, 4, 4)).to(dtype)
    result = loss(student, teacher)  # the squares overflow in float16
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, loss(student.float(), teacher.float()))


@pytest.mark.parametrize("loss", OF_FEATURES.values(), ids=OF_FEATURES)
def test_autocast_does_not_round_the_features(loss):
    student, teacher = features(3, 4, 4).float(), features(3, 4, 4).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = loss(student, teacher)
    torch.testing.assert_close(result, loss(student, teacher))


@pytest.mark.parametrize("name", ["distillation", "mutual", "soft_cross_entropy", "confidence_weighted"])
def test_huge_logits_stay_finite(name):
    student, teacher = torch.tensor([[1e4, -1e4], [0.0, 1e4]]), torch.tensor([[-1e4, 1e4], [1e4, 0.0]])
    labels = torch.tensor([0, 1])
    assert OF_LOGITS[name](student, teacher, labels).isfinite()
    assert losses.confidence_penalty(student, labels, 0.5).isfinite()


@pytest.mark.parametrize("name", sorted(set(OF_LOGITS) - {"soft_cross_entropy"}))
def test_logits_of_different_shapes_are_refused(name):
    with pytest.raises(InputError, match=r"must have the same shape, got \(4, 5\) and \(1, 5\)"):
        OF_LOGITS[name](torch.randn(4, 5), torch.randn(1, 5), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(InputError, match="must be floating point of shape"):
        OF_LOGITS[name](torch.randn(5), torch.randn(5), torch.tensor(0))


def test_targets_of_another_shape_are_refused():
    with pytest.raises(InputError, match="logits and targets must have the same shape"):
        losses.soft_cross_entropy(torch.randn(4, 5), torch.randn(5))


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 5]), torch.tensor([0, -100]), torch.tensor([0.0, 1.0])], ids=str
)
def test_bad_labels_are_refused(labels):
    with pytest.raises(InputError, match="labels must"):
        losses.confidence_penalty(torch.randn(2, 5), labels, 0.5)
    with pytest.raises(InputError, match="labels must"):
        losses.confidence_weighted(torch.randn(2, 5), torch.randn(2, 5), labels)


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_bad_strengths_are_refused(strength):
    with pytest.raises(InputError, match="strength must be a finite number of at least 0"):
        losses.confidence_penalty(torch.randn(2, 5), torch.tensor([0, 4]), strength)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_bad_temperatures_are_refused(temperature):
    for loss in (losses.distillation, losses.permuted_dark_knowledge):
        with pytest.raises(InputError, match="temperature must be a finite number greater than 0"):
            loss(torch.randn(2, 5), torch.randn(2, 5), temperature)


@pytest.mark.parametrize("bounds", [(1.0, 0.5), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.5)])
def test_bad_bounds_of_random_confidences_are_refused(bounds):
    student, teacher, labels = random_pair(2, 5)
    with pytest.raises(InputError, match="0 <= low < high <= 1"):
        losses.confidence_weighted(student, teacher, labels, random=bounds)


def test_permute_together_with_random_is_refused():
    student, teacher, labels = random_pair(2, 5)
    with pytest.raises(InputError, match="permute and random exclude each other"):
        losses.confidence_weighted(student, teacher, labels, permute=True, random=(0.5, 1.0))


def test_features_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"student and teacher must have the same shape"):
        losses.hint(features(3, 4, 4), features(3, 4, 1))
    with pytest.raises(
        InputError, match=r"the student's attention map and the teacher's must have the same shape"
    ):
        losses.attention(features(3, 4, 4), features(3, 2, 2))
    with pytest.raises(
        InputError, match=r"the student's Gram matrices and the teacher's must have the same shape"
    ):
        losses.flow(features(3, 4, 4), features(3, 4, 4), features(3, 4, 4), features(5, 4, 4))
    with pytest.raises(InputError, match=r"teacher must be features of shape .* got \(4, 16\)"):
        losses.attention(features(3, 4, 4), features(16))
