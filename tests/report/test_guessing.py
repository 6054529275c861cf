import numpy as np

from selftaught.report import facts, sentences


def told(best: float, classes, *sizes: int) -> str:
    return sentences.say("guessing", facts.guessing(best, classes, np.array(sizes) if sizes else None))


def test_a_network_that_guesses_is_told():
    ten = [str(k) for k in range(10)]
    assert "clearly better than guessing" in told(1.05 / 10, ten)
    assert told(0.9, ten) == ""


def test_a_network_that_always_names_the_most_frequent_class_is_told():
    classes = ("c0", "c1", "c2")
    expected = (
        "No method is clearly better than always naming 'c0', which would score 90.00 %: see in the report"
    )
    assert told(0.9, classes, 450, 25, 25).startswith(expected)
    assert told(0.4, classes, 450, 25, 25).startswith(expected)  # better than guessing does not help it
    assert told(0.913, classes, 450, 25, 25).startswith(expected)  # 1.34 points are the standard error
    assert told(0.914, classes, 450, 25, 25) == ""
    assert "always naming 'c2', which would score 60.00 %" in told(0.6, classes, 100, 100, 300)
    assert "always" not in told(1, classes, 9, 1, 0)  # nothing can be better than right
    assert "always naming 'c1', which would score 100.00 %" in told(1, classes, 0, 5, 0)
    for even in ((), (167, 167, 166), (180, 160, 160), (1, 1, 2)):
        assert told(0.39, classes, *even).startswith(
            "No method is clearly better than guessing, 33 % with 3 classes"
        )
        assert told(0.41, classes, *even) == ""


def test_what_a_class_is_called_does_nothing_to_a_terminal():
    said = told(0.9, ["a\x1b[31m", "b"], 90, 10)
    assert said.startswith(
        "No method is clearly better than always naming 'a\ufffd[31m', which would score 90.00 %"
    )
