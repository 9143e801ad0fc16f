from typing import Any

Refusal = tuple[str, str, int, int, int]

def instances(
    path: bytes, threads: int, data: bytes | None = None
) -> dict[str, Any] | Refusal | None: ...
def results(
    path: bytes, threads: int, data: bytes | None = None
) -> dict[str, Any] | Refusal | None: ...
