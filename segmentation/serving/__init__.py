"""A service that labels images over HTTP; `upmap.segmentation.serve` is its program."""

__all__: list[str] = []
