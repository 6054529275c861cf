import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught import similarity
from selftaught.errors import InputError
from tests.oracles import similarity as oracle

ORACLES = {
    "cosine": oracle.cosine,
    "multiscale-mse": oracle.multiscale_mse,
    "wasserstein": oracle.wasserstein,
}
NAMES = sorted(ORACLES)
SHAPES = [(1,), (7,), (784,), (1, 1), (1, 9), (3, 2), (5, 5), (8, 8), (3, 4, 4), (1, 28, 28), (2, 3, 4, 5)]


def random_maps(batch, classes, shape, dtype=torch.float64):
    return torch.randn(batch, classes, *shape, dtype=dtype), torch.randint(classes, (batch,))


def expected(name, maps, labels):
    return oracle.pairwise(ORACLES[name], maps.detach().numpy(), labels.numpy())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)], ids=str)
def test_equals_the_oracle(name, shape, dtype, tolerance):
    maps, labels = random_maps(3, 4, shape, dtype)
    result = similarity.get(name)(maps, labels)
    assert result.shape == (3, 4)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, expected(name, maps, labels), atol=tolerance)


@settings(max_examples=25)
@given(
    name=st.sampled_from(NAMES),
    batch=st.integers(1, 4),
    classes=st.integers(1, 12),
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    zeros=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_equals_the_oracle_for_any_shape_and_zero_maps(name, batch, classes, shape, zeros, seed):
    torch.manual_seed(seed)
    maps, labels = random_maps(batch, classes, shape)
    maps[torch.rand(batch, classes) < zeros] = 0
    result = similarity.get(name)(maps, labels)
    np.testing.assert_allclose(result, expected(name, maps, labels), atol=1e-12)
    assert result.abs().max() <= 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [2, 1000])
def test_few_and_many_classes(name, classes):
    maps, labels = random_maps(2, classes, (2, 3))
    np.testing.assert_allclose(similarity.get(name)(maps, labels), expected(name, maps, labels), atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_true_class_is_like_itself(name):
    maps, labels = random_maps(16, 10, (8, 8), torch.float32)
    own = similarity.get(name)(maps, labels).gather(1, labels[:, None])
    torch.testing.assert_close(own, torch.ones(16, 1), atol=1e-6, rtol=0)


def test_zero_maps():
    maps, labels = torch.zeros(1, 3, 4, 4), torch.tensor([0])
    maps[0, 2, 0, 0] = 1
    torch.testing.assert_close(similarity.cosine(maps, labels), torch.zeros(1, 3))
    torch.testing.assert_close(similarity.multiscale_mse(maps, labels), torch.tensor([[1.0, 1.0, 0.5]]))
    # Uniform mass against all mass at one end: the mean position, ½, is the distance.
    torch.testing.assert_close(similarity.wasserstein(maps, labels), torch.tensor([[1.0, 1.0, 0.0]]))


def test_opposite_maps():
    one = torch.zeros(1, 1, 4, 4)
    one[..., 0, 0] = 1
    maps, labels = torch.cat([one, -one, one.flip(2, 3)], dim=1), torch.tensor([0])
    assert similarity.cosine(maps, labels).tolist() == [[1, -1, 0]]
    assert similarity.multiscale_mse(maps, labels).tolist()[0][1] == -1
    assert similarity.wasserstein(maps, labels).tolist() == [
        [1, 1, -1]
    ]  # magnitudes only: the sign is not seen


def test_one_element_maps():
    maps, labels = torch.tensor([2.0, -0.3, 0.0]).view(1, 3, 1, 1), torch.tensor([0])
    assert similarity.cosine(maps, labels).tolist() == [[1, -1, 0]]
    assert similarity.multiscale_mse(maps, labels).tolist() == [[1, -1, 0.5]]
    assert similarity.wasserstein(maps, labels).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(("size", "scales"), [((3, 3), 2), ((4, 4), 3), ((1, 8), 1), ((7, 2), 2)])
def test_scales_that_fit_are_used(size, scales):
    maps = torch.rand(1, 2, *size, dtype=torch.float64)
    pooled = [[oracle.average_pool(m, scale) for m in maps[0].numpy()] for scale in (1, 2, 4)[:scales]]
    terms = [1 - 0.5 * ((oracle.unit(a) - oracle.unit(b)) ** 2).sum() for a, b in pooled]
    result = similarity.multiscale_mse(maps, torch.tensor([0]))[0, 1].item()
    assert result == pytest.approx(np.mean(terms), abs=1e-12)


def test_a_map_that_pooling_cancels_up_to_rounding_is_zero_at_that_scale():
    block = torch.tensor([[0.6, 0.5], [-0.6, -0.5]])  # summed in another order it is not quite 0 in float32
    maps = torch.stack([block, torch.ones(2, 2)])[None]
    # scale 1: orthogonal, 0; scale 2: a zero map against a unit map, ½.
    torch.testing.assert_close(similarity.multiscale_mse(maps, torch.tensor([1]))[0, 0], torch.tensor(0.25))


def test_input_channels_are_not_pooled_over():
    maps = torch.zeros(1, 2, 2, 4, 4)
    maps[0, 0, 0], maps[0, 1, 1] = 1, 1  # the same map, but in another channel
    labels = torch.tensor([0])
    assert similarity.multiscale_mse(maps, labels).tolist() == [[1, 0]]
    assert similarity.wasserstein(maps, labels).tolist() == [[1, 1]]  # channels are summed into the marginals


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge_maps(name, scale):
    maps, labels = random_maps(4, 5, (6, 6), torch.float32)
    measure = similarity.get(name)
    torch.testing.assert_close(measure(maps * scale, labels), measure(maps, labels), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_scale_of_each_map_does_not_matter(name):
    maps, labels = random_maps(4, 5, (6, 6))
    factors = torch.rand(4, 5, 1, 1, dtype=torch.float64) + 0.1
    measure = similarity.get(name)
    torch.testing.assert_close(measure(maps * factors, labels), measure(maps, labels), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(name, dtype):
    maps, labels = random_maps(4, 5, (6, 6), dtype)
    result = similarity.get(name)(maps, labels)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result, expected(name, maps.double(), labels), atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_does_not_round_the_maps(name):
    maps, labels = random_maps(4, 5, (6, 6), torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = similarity.get(name)(maps, labels)
    torch.testing.assert_close(result, similarity.get(name)(maps, labels), atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_memory_layout_does_not_matter(name):
    maps, labels = random_maps(4, 5, (3, 6, 7))
    for strided in (
        maps.transpose(3, 4).contiguous().transpose(3, 4),
        maps.movedim(2, -1).contiguous().movedim(-1, 2),
    ):
        torch.testing.assert_close(
            similarity.get(name)(strided, labels), similarity.get(name)(maps, labels), atol=1e-12, rtol=0
        )


@pytest.mark.parametrize("name", NAMES)
def test_maps_that_require_grad(name):
    maps, labels = random_maps(4, 5, (6, 6))
    maps[0, 0] = 0
    tracked = maps.clone().requires_grad_()
    result = similarity.get(name)(tracked, labels)
    torch.testing.assert_close(result.detach(), similarity.get(name)(maps, labels))
    result.sum().backward()
    assert tracked.grad.isfinite().all()
    np.testing.assert_array_equal(tracked.detach(), maps)


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_passed_on_never_hidden(name):
    maps, labels = random_maps(2, 3, (4, 4))
    maps[0, 1, 2, 2] = torch.nan
    nan = similarity.get(name)(maps, labels).isnan()
    assert nan[0].any()
    assert not nan[1].any()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch(name):
    maps = torch.zeros(0, 3, 4, 4)
    assert similarity.get(name)(maps, torch.zeros(0, dtype=torch.int64)).shape == (0, 3)


def test_cosine_compiles_into_one_graph():
    maps, labels = random_maps(4, 5, (6, 6), torch.float32)
    compiled = torch.compile(similarity.cosine, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(maps, labels), similarity.cosine(maps, labels))


def test_registry():
    assert sorted(similarity.SIMILARITIES) == NAMES
    with pytest.raises(InputError, match=r"unknown similarity 'cosin': did you mean 'cosine'\?"):
        similarity.get("cosin")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3]), r"labels must lie in 0\.\.2 for 3 classes, got 0\.\.3"),
        (torch.tensor([-1, 2]), r"labels must lie in 0\.\.2 for 3 classes, got -1\.\.2"),
        (
            torch.tensor([0, 1], dtype=torch.int32),
            r"labels must be int64 .* of shape \(2,\), got torch\.int32",
        ),
        (torch.tensor([0.0, 1.0]), r"labels must be int64 .* got torch\.float32"),
        (
            torch.tensor([[0], [1]]),
            r"labels must be int64 .* of shape \(2,\), got torch\.int64 of shape \(2, 1\)",
        ),
        (torch.tensor([0, 1, 2]), r"of shape \(2,\), got torch\.int64 of shape \(3,\)"),
    ],
)
def test_bad_labels(name, labels, message):
    with pytest.raises(InputError, match=message) as error:
        similarity.get(name)(torch.randn(2, 3, 4, 4), labels)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "maps",
    [torch.randn(2, 3), torch.ones(2, 3, 4, dtype=torch.int64), torch.randn(2, 3, 0)],
    ids=["2-D", "int", "empty"],
)
def test_bad_maps(name, maps):
    with pytest.raises(InputError, match="maps must be floating point of shape"):
        similarity.get(name)(maps, torch.tensor([0, 1]))


SPATIAL = st.lists(st.integers(1, 9), min_size=1, max_size=3)
DTYPES = st.sampled_from([(torch.float64, 1e-12), (torch.float32, 2e-6)])


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 9), SPATIAL, st.floats(0, 1), DTYPES, st.integers(0, 2**31))
def test_between_classes_equals_the_oracle_and_its_rows_are_cosine(batch, classes, shape, zeros, kind, seed):
    torch.manual_seed(seed)
    dtype, tolerance = kind
    maps, labels = random_maps(batch, classes, shape, dtype)
    maps[torch.rand(batch, classes) < zeros] = 0
    result = similarity.between_classes(maps)
    assert (result.dtype, result.shape) == (dtype, (batch, classes, classes))
    np.testing.assert_allclose(result, oracle.between_classes(maps.numpy()), atol=tolerance)
    rows = result[torch.arange(batch), labels]
    torch.testing.assert_close(rows, similarity.cosine(maps, labels), atol=tolerance, rtol=0)
    assert result.abs().max() <= 1


@settings(max_examples=40)
@given(
    st.integers(1, 4),
    st.integers(1, 6),
    SPATIAL,
    st.integers(1, 40),
    st.floats(0, 1),
    DTYPES,
    st.integers(0, 2**31),
)
def test_rank_correlation_equals_scipy_with_ties_and_constant_maps(
    batch, classes, shape, levels, constant, kind, seed
):
    torch.manual_seed(seed)
    dtype, tolerance = kind
    maps, labels = random_maps(batch, classes, shape, dtype)
    maps = (maps * levels / 10).round() - 0.5  # few levels: many ties
    maps[torch.rand(batch, classes) < constant] = 3
    result = similarity.rank_correlation(maps, labels)
    assert (result.dtype, result.shape) == (dtype, (batch, classes))
    expected = oracle.pairwise(oracle.rank_correlation, maps.numpy(), labels.numpy())
    np.testing.assert_allclose(result, expected, atol=tolerance)


def test_ranks_keep_differences_that_scaling_would_lose():
    # Divided by the peak, the first three values would all be 0 in float32.
    maps = torch.tensor([[[1e-42, 2e-42, 3e-42, 1e30], [3.0, 2.0, 1.0, 4.0]]])
    expected = oracle.rank_correlation(maps[0, 0].double().numpy(), maps[0, 1].numpy())
    assert similarity.rank_correlation(maps, torch.tensor([0]))[0, 1].item() == pytest.approx(
        expected, abs=1e-6
    )


def test_rank_correlation_is_signed_and_blind_to_monotone_changes():
    maps, labels = torch.randn(1, 1, 5, 5), torch.tensor([0])
    changed = torch.cat([maps, maps.exp(), maps**3, -maps, maps.abs()], dim=1)
    result = similarity.rank_correlation(changed, labels)[0]
    assert result[:4].tolist() == pytest.approx([1, 1, 1, -1], abs=1e-6)
    assert abs(result[4]) < 0.9


def test_ranks_of_large_colour_maps_are_exact_enough_in_float32():
    maps, labels = random_maps(1, 3, (3, 64, 64), torch.float32)
    expected = oracle.pairwise(oracle.rank_correlation, maps.numpy(), labels.numpy())
    np.testing.assert_allclose(similarity.rank_correlation(maps, labels), expected, atol=2e-6)


def measured(maps, labels):
    return {"between": similarity.between_classes(maps), "ranks": similarity.rank_correlation(maps, labels)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_descriptions_of_half_precision_are_float32(dtype):
    maps, labels = random_maps(4, 5, (6, 6), dtype)
    exact = measured(maps.double(), labels)
    for name, value in measured(maps, labels).items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), exact[name], atol=2e-6, rtol=0)


def test_descriptions_under_autocast_layouts_and_scales():
    maps, labels = random_maps(4, 5, (3, 6, 7), torch.float32)
    plain = measured(maps, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = measured(maps, labels)
    strided = measured(maps.movedim(2, -1).contiguous().movedim(-1, 2), labels)
    for others in (cast, strided, measured(maps * 1e-30, labels), measured(maps * 1e30, labels)):
        for name, value in others.items():
            torch.testing.assert_close(value, plain[name], atol=2e-6, rtol=0)


def test_descriptions_pass_nan_on_and_take_empty_batches_and_gradients():
    maps, labels = random_maps(2, 3, (4, 4))
    shapes = {name: value.shape for name, value in measured(maps[:0], labels[:0]).items()}
    assert shapes == {"between": (0, 3, 3), "ranks": (0, 3)}
    tracked = maps.clone().requires_grad_()
    similarity.between_classes(tracked).sum().backward()
    assert tracked.grad.isfinite().all()
    assert not similarity.rank_correlation(tracked, labels).requires_grad
    maps[0, 1, 2, 2] = torch.nan
    for value in measured(maps, labels).values():
        assert value[0].isnan().any()
        assert not value[1].isnan().any()


def test_descriptions_refuse_what_the_similarities_refuse():
    labels = torch.tensor([0, 1])
    for maps in (torch.randn(2, 3), torch.ones(2, 3, 4, dtype=torch.int64), torch.randn(2, 3, 0)):
        with pytest.raises(InputError, match="maps must be floating point of shape"):
            similarity.between_classes(maps)
        with pytest.raises(InputError, match="maps must be floating point of shape"):
            similarity.rank_correlation(maps, labels)
    with pytest.raises(InputError, match=r"labels must lie in 0\.\.2 for 3 classes, got 0\.\.3"):
        similarity.rank_correlation(torch.randn(2, 3, 4), torch.tensor([0, 3]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-15), (torch.float32, 6e-7)], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_maps_read_where_they_lie_and_scaled_maps_have_one_cosine(dtype, tolerance, layout, monkeypatch):
    maps, labels = random_maps(6, 40, (5, 7), dtype)
    maps[0, 3:] = 0  # zero maps do not make it scale
    maps[1, labels[1]] = 0
    if layout == "channels last":
        maps = maps.movedim(1, -1).contiguous().movedim(-1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(similarity, "_scaled", None)  # cannot be called
        fast = similarity.cosine(maps, labels)
    monkeypatch.setattr(similarity, "_squares_fit", lambda *_: False)
    torch.testing.assert_close(fast, similarity.cosine(maps, labels), atol=tolerance, rtol=0)


@pytest.mark.parametrize("factor", [1e-42, 1e-30, 1e-20, 1e20, 1e37])
def test_one_map_whose_squares_do_not_fit_is_enough(factor):
    maps, labels = random_maps(3, 4, (6, 6), torch.float32)
    maps[1, 2] = maps[1, 2].sign() * factor
    expected = oracle.pairwise(oracle.cosine, maps.double().numpy(), labels.numpy())
    np.testing.assert_allclose(similarity.cosine(maps, labels), expected, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (9, 5), (4, 6)], ids=str)
def test_upsampled_maps_equal_the_oracle(size, dtype):
    maps = torch.randn(2, 3, 4, 3).to(dtype)
    result = similarity.upsampled(maps, size)
    expected = [[oracle.upsampled(one.double().numpy(), size) for one in sample] for sample in maps]
    assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_allclose(result, expected, atol=1e-12 if dtype == torch.float64 else 2e-6)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 4, 4)], ids=str)
def test_maps_that_are_no_planes_are_not_upsampled(shape):
    with pytest.raises(InputError, match="two spatial axes"):
        similarity.upsampled(torch.ones(shape), (8, 8))
