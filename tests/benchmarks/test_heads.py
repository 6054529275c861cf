from benchmarks import heads
from tests.benchmarks import pages


def test_every_head_has_the_form_that_it_is_said_to_have(tmp_path):
    page = pages.smoke(heads, "Grad-CAM behind the heads that people use", tmp_path)
    for table in page["tables"]:
        assert table["columns"] == heads.COLUMNS
        assert [row["form"] for row in table["rows"]] == ["linear", "mlp", "mlp"]
        for row in table["rows"]:
            assert 0 < row["low"] <= row["ratio"] <= row["high"]
            assert float(row["difference"]) < 1e-5
