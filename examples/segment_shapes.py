"""Trains a small U-Net on drawn shapes and labels an image with it; needs the extra `segmentation`.

`python segment_shapes.py [EPOCHS]` writes the folder `shapes-model`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import upmap
from upmap.segmentation.inference import load_model
from upmap.segmentation.models import ModelOptions
from upmap.segmentation.predictor import predict_labels
from upmap.segmentation.train import train_model
from upmap.segmentation.training_options import TrainOptions

OUT = Path("shapes-model")
PHOTO = Path(upmap.__file__).parent / "data/sample/voc/JPEGImages/shape_000001.jpg"


def main() -> None:
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    options = TrainOptions(
        dataset="shapes",
        epochs=epochs,
        batch_size=4,
        factor=0.5,
        device="cpu",
        out=str(OUT),
        model=ModelOptions(width=8, depth=2, upsampling="pixelshuffle"),
    )
    result = train_model(options, after_epoch=lambda row: print(f"loss {row['loss']:.3f}"))
    print(f"mIoU {result.scores.mIoU:.3f}, epoch {result.epoch}")

    # In another program, only the checkpoint is needed.
    trained = load_model(OUT / "best.pt")
    pixels = torch.from_numpy(np.array(Image.open(PHOTO).convert("RGB"))).permute(2, 0, 1)
    labels = predict_labels(trained.model, pixels, factor=trained.factor).numpy()
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        print(f"{trained.classes[label]:<12} {count / labels.size:.1%} of the pixels")


if __name__ == "__main__":
    main()
