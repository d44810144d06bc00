"""Words about numbers."""


def counted(number: int, one: str, many: str = "") -> str:
    """`1 scene`, `2 scenes`."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
