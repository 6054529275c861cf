import pytest

from selftaught.errors import InputError
from selftaught.study.demands import split_methods
from selftaught.study.flags import plan, try_steps
from tests.training import quick


def make(methods, **options):
    return plan("digits", methods, **{"trials": 2, **quick.OPTIONS, **options})


@pytest.mark.parametrize("text", ["ce,ls,le", "ce ls le", " ce, ls ,le,", "ce,,ls le"])
def test_methods_are_separated_by_commas_or_spaces(text):
    assert split_methods(text) == ["ce", "ls", "le"]


def test_a_plan_is_methods_times_seeds():
    configs = make(["ce", "ls"], seed=5, alpha=0.8)
    assert [(c.method, c.seed) for c in configs] == [("ce", 5), ("ce", 6), ("ls", 5), ("ls", 6)]
    assert [c.settings for c in configs[1:3]] == [{}, {"alpha": 0.8}]
    assert len({c.trial_id for c in configs}) == 4


@pytest.mark.parametrize(
    ("methods", "options", "message"),
    [
        ([], {}, "no method given"),
        (["ce", "lee"], {}, "unknown method 'lee': did you mean 'le'"),
        (["ce", "ls", "ce"], {}, "'ce' is given twice"),
        (["ce"], {"trials": 0}, "trials is 0"),
        (["ce", "cp"], {"alpha": 0.5}, "--alpha is not a setting of ce, cp: it belongs to ls, le"),
        (["ce"], {"drop_rate": 0.5}, "--drop-rate .* belongs to dropout"),
        (["le"], {"layer": "nowhere"}, "nowhere"),
        (["le"], {"saliency": "gradcam"}, "did you mean 'grad-cam'"),
        (["le"], {"similarity": "cosin"}, "did you mean 'cosine'"),
        (["le"], {"saliency": "grad", "relu": True}, "relu"),
        (["ce"], {"model": "cnn10", "image_size": 8}, "cnn10"),
    ],
)
def test_wrong_plans_are_refused_before_anything_runs(methods, options, message):
    with pytest.raises(InputError, match=message):
        try_steps(make(methods, **options))
