"""A service that labels images over HTTP; `upmap.segmentation.serve` is its program."""
