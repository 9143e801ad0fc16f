"""Data that comes with the project: a sample to evaluate at once, and the scenes that it shows."""

__all__: list[str] = []
