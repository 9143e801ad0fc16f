"""Benchmarks: each asserts equality with its peer, then times both side by side."""
