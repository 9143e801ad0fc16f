"""Sources of data sets for `upmap.segmentation.convert`; each format is a file and a row there."""

__all__: list[str] = []
