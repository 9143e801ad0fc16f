"""Folders of images and labels as annotation tools write them: which files, and what they hold."""

__all__: list[str] = []
