from typing import Any

def read_columns(
    path: bytes,
    data: bytes | None,
    is_json: bool,
    separator: str,
    cells: int,
    requests: list[tuple[str, int, int, int, int]],
    offset: int,
    first_line: int,
    threads: int,
) -> Any: ...
