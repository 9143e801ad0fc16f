"""Reports as one HTML file: no network, no dependency, the same bytes for the same input."""

__all__: list[str] = []
