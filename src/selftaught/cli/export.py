"""`selftaught export`: a trained network as a file for other programs."""

from pathlib import Path

from selftaught.cli import DONE
from selftaught.cli.inputs import check_output, load_run
from selftaught.training.export import export as write


def export(run: Path, out: Path, model: str | None) -> int:
    """Write the file and say how closely it was found to agree with the model."""
    trained = load_run(run, model)
    check_output(out)
    difference = write(trained, out)
    print(
        f"wrote {out}, not run: pip install onnxruntime to compare its logits with the model's"
        if difference is None
        else f"wrote {out}: its logits differ from the model's by at most {difference:.1e}, relative to the largest"
    )
    return DONE
