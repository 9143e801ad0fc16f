"""FCN and U-Net with an exchangeable upsampling operator; small by default.

Sources: Shelhamer et al., "Fully Convolutional Networks for Semantic Segmentation", PAMI 2017;
Ronneberger et al., "U-Net", MICCAI 2015.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from upmap.options import Choices, Flag, Range, describe_value, validate_fields
from upmap.segmentation.checkpoint import load_weights, read_weights
from upmap.segmentation.timm_encoder import PREFIX, TimmEncoder
from upmap.segmentation.upsampling import UPSAMPLERS, Size, Upsampler, build_upsampler

__all__ = [
    "ACTIVATIONS",
    "ARCHITECTURES",
    "MAX_CLASSES",
    "MAX_DECODER_WIDTH",
    "MAX_PARAMETERS",
    "RESNETS",
    "Fcn",
    "ModelOptions",
    "PlainEncoder",
    "ResNetEncoder",
    "SelfAttention",
    "Unet",
    "build_meta_model",
    "build_model",
]

Features = tuple[list[Tensor], list[Tensor]]  # feature maps and pooling indices of each stage

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "gelu": nn.GELU,
    "silu": lambda: nn.SiLU(inplace=True),
}
RESNETS = {"resnet18": 1, "resnet34": 1, "resnet50": 4}  # name to expansion of the channels
HEAD_CHANNELS = 32  # minimum number of channels of an attention head
WRAPPERS = ("state_dict", "model")  # the keys of weights in checkpoints of others
NAME_PREFIXES = ("module.", "backbone.", "body.")  # of names; the last in torchvision's detectors
COUNTER = "num_batches_tracked"  # a buffer that files of older versions of torchvision lack
MAX_CLASSES = 256  # the labels have 8 bits
MAX_DECODER_WIDTH = 64.0
MAX_PARAMETERS = 10**9  # 4 GB in float32, and training takes at least three times as much


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Options of a model.

    Attributes:
        classes: Number of classes, K; 0 takes that of the data set.
        architecture: The architecture.
        encoder: The encoder: plain, resnet18, resnet34, resnet50, or timm:NAME for one of the
            package timm, such as timm:convnext_tiny (extra upmap[timm]).
        weights: A file with the state_dict of torchvision's ResNet, also within a checkpoint or
            another model, or of timm's model; None initializes the encoder at random.
        width: Channels of the plain encoder's first stage; they double with every stage.
        depth: Number of times that the plain encoder halves the image.
        decoder_width: Factor on the channels of a U-Net's decoder.
        activation: The activation function.
        attention: Add self-attention after the encoder.
        upsampling: The upsampling operator, see docs/upsampling.md.
        upsampling_options: Further arguments of the operator, such as align_corners=true.
        placement: Reduce the channels of a U-Net's stage before or after upsampling.
    """

    classes: Annotated[int, Range(0, MAX_CLASSES)] = 0
    architecture: Annotated[str, Choices(lambda: ARCHITECTURES)] = "unet"
    encoder: Annotated[str, Flag(metavar="NAME")] = "plain"
    weights: Annotated[str | None, Flag(metavar="FILE")] = None
    width: Annotated[int, Range(1, 4096)] = 16
    depth: Annotated[int, Range(1, 10)] = 4
    decoder_width: Annotated[float, Range(0, MAX_DECODER_WIDTH, above=True)] = 1.0
    activation: Annotated[str, Choices(lambda: ACTIVATIONS)] = "relu"
    attention: bool = False
    upsampling: Annotated[str, Choices(UPSAMPLERS)] = "bilinear"
    upsampling_options: Mapping[str, Any] = field(default_factory=dict)
    placement: Literal["before", "after"] = "before"

    def __post_init__(self) -> None:
        validate_fields(self)
        if self.encoder not in ("plain", *RESNETS) and not self.encoder.startswith(PREFIX):
            names = ", ".join(("plain", *RESNETS, f"{PREFIX}NAME"))
            raise ValueError(f"encoder must be one of {names}, not {describe_value(self.encoder)}")


def build_model(options: ModelOptions) -> "Unet | Fcn":
    """Builds the model that `options` describe.

    Its input is float [B, 3, H, W] of any size from one pixel, its output float [B, K, H, W].

    Raises:
        ValueError: If options contradict each other, or the model has more than MAX_PARAMETERS.
        InputError: If the file of weights cannot be read or does not fit.

    >>> build_model(ModelOptions(classes=6))(torch.zeros(1, 3, 45, 60)).shape
    torch.Size([1, 6, 45, 60])
    """
    if options.classes < 1:
        raise ValueError(f"classes must be at least 1, not {options.classes}")
    count = sum(parameter.numel() for parameter in build_meta_model(options).parameters())
    if count > MAX_PARAMETERS:
        raise ValueError(f"{count:,} parameters; there may be {MAX_PARAMETERS:,} at most")
    return ARCHITECTURES[options.architecture](options)


def build_meta_model(options: ModelOptions) -> "Unet | Fcn":
    """Builds the model on the device "meta": shapes without values, in no memory.

    Raises:
        ValueError: If options contradict each other.
    """
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # build_model warns
        try:
            return ARCHITECTURES[options.architecture](replace(options, weights=None))
        except RuntimeError as error:  # sizes beyond 64 bits
            raise ValueError(f"no such sizes: {str(error).splitlines()[0]}") from None


class Unet(nn.Module):
    """U-Net: each stage upsamples, appends the encoder's features, and convolves twice."""

    def __init__(self, options: ModelOptions) -> None:
        """Builds the encoder, a stage for each of its features but the last, and the head."""
        super().__init__()
        self.encoder = _encoder(options)
        widths = self.encoder.widths
        self.bottleneck = SelfAttention(widths[-1]) if options.attention else nn.Identity()
        stages, channels = [], widths[-1]
        for skip in reversed(widths[:-1]):
            stages.append(UnetStage(channels, skip, options))
            channels = stages[-1].channels
        self.stages = nn.ModuleList(stages)
        self.head = nn.Conv2d(channels, options.classes, 1)

    def forward(self, images: Tensor, *, full_size: bool = True) -> Tensor:
        """Logits [B, K, H, W] of images [B, 3, H, W].

        Without `full_size`, the logits before the last interpolation, [B, K, h, w]: the encoder's
        first features may be smaller than the images.
        """
        scores = self._scores(images)
        return _at_size(scores, images) if full_size else scores

    def _scores(self, images: Tensor) -> Tensor:
        """Logits at the size of the encoder's first features, [B, K, h, w]."""
        features, indices = self.encoder(images)
        decoded = self.bottleneck(features[-1])
        for stage, skip, index in zip(
            self.stages, reversed(features[:-1]), reversed(indices), strict=True
        ):
            decoded = stage(decoded, skip, index)
        result: Tensor = self.head(decoded)
        return result


class UnetStage(nn.Module):
    """One stage of a U-Net's decoder.

    Attributes:
        channels: The number of output channels.
    """

    def __init__(self, coarse: int, skip: int, options: ModelOptions) -> None:
        """Builds a stage for `coarse` input channels and `skip` channels of the encoder."""
        super().__init__()
        self.placement = options.placement
        self.channels = max(1, round(skip * options.decoder_width))
        channels = self.channels if self.placement == "before" else coarse
        self.reduction = nn.Conv2d(coarse, self.channels, 1)
        self.upsampling = _upsampler(options, channels, 2)
        if self.upsampling.needs_indices and channels != skip:
            raise ValueError(f'{options.upsampling} needs placement "before", decoder_width 1')
        self.convolutions = _convolutions(self.channels + skip, self.channels, options)

    def forward(self, coarse: Tensor, skip: Tensor, indices: Tensor) -> Tensor:
        """Features at the size of `skip`; `indices` are those of the pooling of `skip`."""
        size = (skip.shape[2], skip.shape[3])
        guide = indices if self.upsampling.needs_indices else None
        # "before" upsamples fewer channels; for interpolation both orders are equivalent.
        if self.placement == "before":
            upsampled = self.upsampling(self.reduction(coarse), size, guide)
        else:
            upsampled = self.reduction(self.upsampling(coarse, size, guide))
        result: Tensor = self.convolutions(torch.cat([upsampled, skip], dim=1))
        return result


class Fcn(nn.Module):
    """FCN: scores of the coarsest features, refined by finer ones, upsampled in one step."""

    def __init__(self, options: ModelOptions, stride: int) -> None:
        """Builds the encoder, and a 1 x 1 convolution and an operator for each scored stage.

        Args:
            options: The options.
            stride: Stride of the finest scored features, 8, 16 or 32.
        """
        super().__init__()
        self.encoder = _encoder(options)
        strides = self.encoder.strides
        if stride not in strides:
            raise ValueError(
                f"{options.architecture} needs features at stride {stride}; the encoder's are at "
                f"{', '.join(map(str, strides))}: set depth"
            )
        widths = self.encoder.widths[strides.index(stride) :]
        self.bottleneck = SelfAttention(widths[-1]) if options.attention else nn.Identity()
        self.scoring = nn.ModuleList(nn.Conv2d(width, options.classes, 1) for width in widths)
        self.upsampling = nn.ModuleList(_upsampler(options, options.classes, 2) for _ in widths[1:])
        self.last = _upsampler(options, options.classes, stride)
        if self.last.needs_indices:
            raise ValueError(f"{options.upsampling} cannot upsample the scores of an FCN")

    def forward(self, images: Tensor, *, full_size: bool = True) -> Tensor:
        """Logits [B, K, H, W] of images [B, 3, H, W].

        Without `full_size`, the logits before the last operator, [B, K, h, w], if that is bilinear
        interpolation.
        """
        scores, size = self._scores(images), (images.shape[2], images.shape[3])
        if not full_size and self.last.is_bilinear_to(scores, size):
            return scores
        result: Tensor = self.last(scores, size)
        return result

    def _scores(self, images: Tensor) -> Tensor:
        """Logits at the stride of the finest scored features, [B, K, h, w]."""
        features, _ = self.encoder(images)
        features = features[-len(self.scoring) :]
        features[-1] = self.bottleneck(features[-1])
        scores = [scoring(stage) for scoring, stage in zip(self.scoring, features, strict=True)]
        # From the coarsest to the finest scores, each upsampled and added to the next.
        coarse: Tensor = scores.pop()
        for operator, finer in zip(self.upsampling, reversed(scores), strict=True):
            coarse = finer + operator(coarse, (finer.shape[2], finer.shape[3]))
        return coarse


ARCHITECTURES: dict[str, Callable[[ModelOptions], Unet | Fcn]] = {
    "unet": Unet,
    "fcn8s": lambda options: Fcn(options, 8),
    "fcn16s": lambda options: Fcn(options, 16),
    "fcn32s": lambda options: Fcn(options, 32),
}


class PlainEncoder(nn.Module):
    """Two convolutions per stage, max-pooling between stages; odd sides are rounded up.

    Attributes:
        widths: The channels of each stage.
        strides: The stride of each stage, 1, 2, 4 ...
    """

    def __init__(self, options: ModelOptions) -> None:
        """Builds depth + 1 stages."""
        super().__init__()
        self.widths = [options.width * 2**stage for stage in range(options.depth + 1)]
        self.strides = [2**stage for stage in range(options.depth + 1)]
        self.stages = nn.ModuleList(
            _convolutions(before, after, options)
            for before, after in zip([3, *self.widths], self.widths, strict=False)
        )

    def forward(self, images: Tensor) -> Features:
        """The features of each stage, and the indices of the pooling between stages."""
        features: list[Tensor] = []
        indices: list[Tensor] = []
        for stage in self.stages:
            inputs = images
            if features:
                # ceil_mode: 45 becomes 23, so that no row is lost.
                inputs, index = functional.max_pool2d(
                    features[-1], 2, ceil_mode=True, return_indices=True
                )
                indices.append(index)
            features.append(stage(inputs))
        return features, indices


class ResNetEncoder(nn.Module):
    """The stages of torchvision's ResNet.

    Attributes:
        widths: The channels of each stage.
        strides: The stride of each stage, 2, 4, 8, 16, 32.
    """

    def __init__(self, options: ModelOptions) -> None:
        """Builds the ResNet and, if a file is named, loads its weights."""
        super().__init__()
        import torchvision

        expansion = RESNETS[options.encoder]
        self.widths = [64, *(expansion * width for width in (64, 128, 256, 512))]
        self.strides = [2, 4, 8, 16, 32]
        resnet = torchvision.models.get_model(options.encoder, weights=None)
        if options.weights is not None:
            _load_resnet(resnet, options.weights)
        stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu)
        first = nn.Sequential(resnet.maxpool, resnet.layer1)
        self.stages = nn.ModuleList([stem, first, resnet.layer2, resnet.layer3, resnet.layer4])

    def forward(self, images: Tensor) -> Features:
        """The features of each stage; ResNets have no indices, so features stand in for them."""
        features: list[Tensor] = []
        for stage in self.stages:
            features.append(stage(features[-1] if features else images))
        return features, features[:-1]


class SelfAttention(nn.Module):
    """Multi-head attention over all positions, added to the features.

    Source: Vaswani et al., "Attention Is All You Need", 2017.
    """

    def __init__(self, channels: int) -> None:
        """Builds the projections of `channels` in and out."""
        super().__init__()
        max_heads = max(1, channels // HEAD_CHANNELS)
        self.heads = max(heads for heads in range(1, max_heads + 1) if channels % heads == 0)
        self.norm = nn.GroupNorm(1, channels)
        self.inputs = nn.Conv2d(channels, 3 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)
        # The block starts as the identity but for the bias of its output.
        nn.init.zeros_(self.output.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, C, h, w] of features [B, C, h, w]."""
        batch, channels, height, width = features.shape
        parts = self.inputs(self.norm(features)).reshape(batch, 3, self.heads, -1, height * width)
        query, key, value = parts.transpose(3, 4).unbind(1)
        heads = functional.scaled_dot_product_attention(query, key, value)
        attended = heads.transpose(2, 3).reshape(batch, channels, height, width)
        result: Tensor = features + self.output(attended)
        return result


def _encoder(options: ModelOptions) -> PlainEncoder | ResNetEncoder | TimmEncoder:
    if options.encoder == "plain":
        return PlainEncoder(options)
    if options.upsampling == "max_unpooling":
        raise ValueError("max_unpooling needs the plain encoder: others have no indices of pooling")
    if options.encoder.startswith(PREFIX):
        return TimmEncoder(options.encoder.removeprefix(PREFIX), options.weights)
    return ResNetEncoder(options)


def _convolutions(before: int, after: int, options: ModelOptions) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with batch normalization and the activation."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        # No bias: the batch normalization has one.
        layers.append(nn.Conv2d(channels, after, 3, padding=1, bias=False))
        layers.append(nn.BatchNorm2d(after))
        layers.append(ACTIVATIONS[options.activation]())
    return nn.Sequential(*layers)


def _upsampler(options: ModelOptions, channels: int, scale: int) -> Upsampler:
    try:
        return build_upsampler(options.upsampling, channels, scale, **options.upsampling_options)
    except TypeError as error:  # an option that is set already, such as "scale"
        raise ValueError(f"upsampling_options: {error}") from None


def _at_size(scores: Tensor, images: Tensor) -> Tensor:
    """Scores at the size of the images, interpolated bilinearly if they have another size."""
    size: Size = (images.shape[2], images.shape[3])
    if scores.shape[2:] == images.shape[2:]:
        return scores
    return functional.interpolate(scores, size=size, mode="bilinear")


def _load_resnet(resnet: nn.Module, path: str) -> None:
    """Loads a state_dict of torchvision's ResNet, with or without the classifier's entries.

    It may be an entry of a checkpoint, and its names may follow `module.` or, in torchvision's
    models of segmentation and detection, `backbone.`; what else such a model has is left out.
    """
    state = read_weights(path)
    resnet.fc = nn.Identity()  # the encoder has no classifier
    if isinstance(state, Mapping):
        counters = {k: v for k, v in resnet.state_dict().items() if k.endswith(COUNTER)}
        state = _find_backbone(state)
        state = counters | {k: v for k, v in state.items() if not str(k).startswith("fc.")}
    load_weights(resnet, state, path)


def _find_backbone(state: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The tensors of an encoder by their names in it."""
    for key in WRAPPERS:
        if isinstance(state.get(key), Mapping):
            state = state[key]
    for prefix in NAME_PREFIXES:
        if own := {k.removeprefix(prefix): v for k, v in state.items() if _starts(k, prefix)}:
            state = own
    return state


def _starts(key: object, prefix: str) -> bool:
    return isinstance(key, str) and key.startswith(prefix)
