from pathlib import Path

import numpy as np
import pytest

from segmentation.compare import main, paired_difference


def test_the_paired_difference_is_that_of_the_paired_t_test() -> None:
    from scipy import stats

    generator = np.random.default_rng(0)
    one, other = generator.random((2, 5))
    found = paired_difference(one.tolist(), other.tolist())
    wanted = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert [found["low"], found["high"]] == pytest.approx([wanted.low, wanted.high])


@pytest.mark.parametrize(
    ("operators", "named"), [("bilinear,magic", "magic"), ("nearest", "bilinear")]
)
def test_wrong_operators_are_one_line_and_exit_2(
    operators: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--operators", operators, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
