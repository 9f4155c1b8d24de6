"""Short hashes that name things."""

import hashlib


def digest(content: str | bytes) -> str:
    """Return 16 hexadecimal digits that stand for a text or bytes."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]
