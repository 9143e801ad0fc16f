"""Semantic segmentation with a decoder whose upsampling operator can be exchanged."""

__all__: list[str] = []
