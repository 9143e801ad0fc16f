from typing import Any

def read_rows(
    paths: list[bytes],
    name_column: int,
    keywords: dict[bytes, float],
    skipped_prefixes: list[bytes],
    threads: int,
    data: dict[int, bytes],
) -> dict[str, Any]: ...
