"""Tests of fine-tuning: weights of another training, early stopping, automatic class weights."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from upmap.errors import InputError, InputWarning
from upmap.segmentation import train as program
from upmap.segmentation.augmentation import AugmentationOptions
from upmap.segmentation.checkpoint import load_checkpoint
from upmap.segmentation.datasets import open_dataset
from upmap.segmentation.fine_tuning import adopt_model, load_initial_weights, read_initial
from upmap.segmentation.history import has_stalled
from upmap.segmentation.inference import load_model
from upmap.segmentation.losses import LossOptions
from upmap.segmentation.models import ARCHITECTURES, ModelOptions, build_model
from upmap.segmentation.optimization import OptimizationOptions
from upmap.segmentation.train import main, train_model
from upmap.segmentation.training_options import TrainOptions
from upmap.segmentation.training_state import create_state
from upmap.segmentation.upsampling import UPSAMPLERS

EDGES = TrainOptions(
    dataset="edges",
    epochs=1,
    batch_size=50,
    model=ModelOptions(width=2, depth=3),
    augmentation=AugmentationOptions(crop=(48, 48)),
)


def train_other(out: Path, **changes: object) -> Path:
    """The checkpoint of a training on other classes: those of `edges`."""
    train_model(replace(EDGES, out=str(out), **changes))  # type: ignore[arg-type]
    return out / "best.pt"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_other(tmp_path_factory.mktemp("other"))


def test_a_training_starts_from_the_model_of_the_same_classes(other: Path, tmp_path: Path) -> None:
    still = OptimizationOptions(learning_rate=0.0, warmup=0.0)
    options = replace(EDGES, init=str(other), out=str(tmp_path), optimization=still)
    train_model(replace(options, model=ModelOptions()))
    weights = load_checkpoint(tmp_path / "best.pt")["model"]
    for name, tensor in load_checkpoint(other)["model"].items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(weights[name], tensor), name


def test_options_of_the_model_are_those_of_the_file(other: Path, tmp_path: Path) -> None:
    train_model(replace(EDGES, init=str(other), out=str(tmp_path), model=ModelOptions()))
    model = load_checkpoint(tmp_path / "last.pt")["options"]["model"]
    assert (model["width"], model["depth"], model["classes"]) == (2, 3, 2)


def test_a_classifier_of_other_classes_starts_at_random_and_is_said_in_a_line(
    other: Path, tmp_path: Path
) -> None:
    options = TrainOptions(
        epochs=1, batch_size=100, factor=0.25, init=str(other), out=str(tmp_path)
    )
    with pytest.warns(
        InputWarning, match=r"its classes are .*, not background, .*: head\.weight, he"
    ):
        train_model(options)
    assert load_model(tmp_path / "best.pt").classes == open_dataset("shapes", None, "val").classes


@pytest.mark.parametrize("upsampling", UPSAMPLERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore:a transposed convolution's kernel")
def test_only_what_depends_on_the_number_of_classes_starts_at_random(
    architecture: str, upsampling: str, other: Path
) -> None:
    options = ModelOptions(
        classes=2, width=4, depth=5, architecture=architecture, upsampling=upsampling
    )
    if upsampling == "max_unpooling" and architecture != "unet":
        pytest.skip("max-unpooling cannot upsample the scores of an FCN")
    trained = replace(read_initial(other).trained, model=build_model(options), options=options)
    initial = replace(read_initial(other), trained=trained)
    model = build_model(replace(options, classes=8))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.warns(InputWarning, match="start at random"):
        load_initial_weights(model, initial, list("abcdefgh"))
    source = trained.model.state_dict()
    for name, tensor in model.state_dict().items():
        is_shared = source[name].shape == tensor.shape and "encoder" in name
        if is_shared or name.startswith(("bottleneck", "stages")):
            assert torch.equal(tensor, source[name]), name
        elif source[name].shape != tensor.shape:
            assert torch.equal(tensor, before[name]), name


def test_the_same_number_of_other_classes_starts_a_new_classifier(other: Path) -> None:
    initial = read_initial(other)
    model = build_model(initial.trained.options)
    before = model.state_dict()["head.weight"].clone()
    with pytest.warns(InputWarning, match="start at random"):
        load_initial_weights(model, initial, ["cat", "dog"])
    assert torch.equal(model.state_dict()["head.weight"], before)


def test_an_average_of_weights_starts_from_them_too(other: Path) -> None:
    initial = read_initial(other)
    options = replace(EDGES, ema=0.9, init=str(other), model=initial.trained.options)
    classes = initial.trained.classes
    state = create_state(options, torch.device("cpu"), initial=initial, classes=classes)
    assert state.averaged is not None
    expected = initial.trained.model.state_dict()
    for name, tensor in state.averaged.module.state_dict().items():
        assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelOptions(width=8), "--model.width: 8, but the model has 2; leave it out"),
        (ModelOptions(upsampling="nearest"), "--model.upsampling: 'nearest', but the model has 'b"),
        (
            ModelOptions(encoder="resnet18"),
            "--model.encoder: 'resnet18', but the model has 'plain'",
        ),
        (ModelOptions(weights="r.pth"), "--model.weights has no effect: --init has all weights"),
    ],
    ids=str,
)
def test_options_that_contradict_the_file_are_refused(
    model: ModelOptions, message: str, other: Path
) -> None:
    with pytest.raises(InputError, match=message):
        adopt_model(model, read_initial(other))
    assert adopt_model(ModelOptions(width=2), read_initial(other)).depth == 3


def test_the_digest_of_the_file_is_in_the_checkpoint_and_resuming_compares_it(
    other: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "start.pt"
    copy.write_bytes(other.read_bytes())
    options = replace(EDGES, epochs=3, init=str(copy), out=str(tmp_path / "out"))
    train_model(replace(options, patience=0, epochs=3, out=str(tmp_path / "whole")))

    def stop(row: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(options, after_epoch=stop)
    digest = sha256(other.read_bytes()).hexdigest()
    assert load_checkpoint(tmp_path / "out" / "last.pt")["files"] == {"init": digest}
    moved = copy.rename(tmp_path / "moved.pt")
    train_model(replace(options, init=str(moved), resume=True))
    whole, resumed = (
        load_checkpoint(tmp_path / out / "last.pt")["model"] for out in ("whole", "out")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(InputError, match=r"was trained with files.init = '\w+'\.\.\., not None"):
        train_model(replace(options, init=None, resume=True))
    last = (tmp_path / "whole" / "last.pt").read_bytes()
    moved.write_bytes(last)
    with pytest.raises(InputError, match=r"was trained with files.init = '\w+'\.\.\., not '\w+'"):
        train_model(replace(options, init=str(moved), resume=True))


def test_a_training_ends_after_epochs_without_a_higher_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = OptimizationOptions(learning_rate=0.0)
    options = replace(EDGES, epochs=9, patience=2, optimization=still, out=str(tmp_path))
    history = train_model(options).history
    scores = [row["val_mIoU"] for row in history]
    assert len(history) < 9
    assert has_stalled(history, 2)
    assert not has_stalled(history[:-1], 2), scores
    # Resumed with the same patience it has ended; with more of it it goes on.
    assert len(train_model(replace(options, resume=True)).history) == len(history)
    assert len(train_model(replace(options, resume=True, patience=0)).history) == 9


def test_scores_that_are_not_numbers_are_no_progress() -> None:
    rows = [{"val_mIoU": score} for score in (float("nan"), float("nan"), 0.1, float("nan"))]
    assert [has_stalled(rows[:count], 1) for count in (1, 2, 3, 4)] == [False, True, False, True]


def test_automatic_class_weights_are_those_of_the_pixels_for_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: set[object] = set()
    untouched = program.take_step

    def note(state: object, forward: object, parts: object, options: TrainOptions) -> float:
        used.add(options.loss.class_weights)
        return untouched(state, forward, parts, options)  # type: ignore[arg-type]

    monkeypatch.setattr(program, "take_step", note)
    loss = LossOptions(class_weights="auto")
    train_model(replace(EDGES, loss=loss, out=str(tmp_path)), show_progress=True)
    checkpoint = load_checkpoint(tmp_path / "last.pt")
    assert checkpoint["options"]["loss"]["class_weights"] == "auto"
    pixels = checkpoint["data"]["train"]["pixels"]
    (weights,) = used
    shares = torch.tensor(pixels).double() / sum(pixels)
    torch.testing.assert_close(torch.tensor(weights).double(), 1 / (1.02 + shares).log())
    assert "class weights: " in capsys.readouterr().err
    train_model(replace(EDGES, loss=loss, out=str(tmp_path), resume=True))


@pytest.mark.parametrize("loss", ["focal", "lovasz", "cross_entropy+lovasz"])
def test_every_loss_learns(loss: str, tmp_path: Path) -> None:
    options = replace(EDGES, epochs=4, batch_size=10, loss=LossOptions(loss=loss))
    history = train_model(replace(options, out=str(tmp_path))).history
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_command_line_takes_them_all(other: Path, tmp_path: Path) -> None:
    words = ["--dataset", "edges", "--epochs", "2", "--batch-size", "50", "--init", str(other)]
    words += ["--patience", "1", "--loss.class-weights", "auto", "--loss.loss", "focal"]
    words += ["--augmentation.crop", "48,48", "--out", str(tmp_path / "out")]
    assert main(words) == 0
