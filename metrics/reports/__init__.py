"""Reports of evaluations: text for a terminal, JSON and CSV for other programs."""

__all__: list[str] = []
