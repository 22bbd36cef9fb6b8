"""Where an exception came from, without its words: those may quote a secret, an address or a person's message."""

from __future__ import annotations

import traceback


def frames(exc: BaseException) -> str:
    """The traceback as text: files, numbers of lines and names of functions, and the kinds of the exceptions.

    It holds neither what an exception says nor a value nor a line of source, so it may stand in a log.
    """
    parts: list[str] = []
    seen: set[int] = set()
    one: BaseException | None = exc
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        places = [f"  {at.filename}:{at.lineno} in {at.name}" for at in traceback.extract_tb(one.__traceback__)]
        parts.append("\n".join([type(one).__name__, *places]))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\nwhich came from ".join(parts)
