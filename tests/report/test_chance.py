import numpy as np

from selftaught.report import chance


def test_what_a_class_is_called_does_nothing_to_a_terminal():
    said = chance.caution(0.9, ["a\x1b[31m", "b"], np.array([90, 10]))
    assert said is not None
    assert said.startswith(
        "No method is clearly better than always naming 'a\ufffd[31m', which would score 90.00 %"
    )
