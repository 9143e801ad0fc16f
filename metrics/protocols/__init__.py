"""Evaluation protocols: the choices, and one file of rows for each family of tools."""
