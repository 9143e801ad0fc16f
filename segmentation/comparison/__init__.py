"""Parts of `segmentation.compare`: costs, checkerboards, pictures and the report."""

__all__: list[str] = []
