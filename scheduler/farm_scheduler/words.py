"""Words in messages."""

__all__ = ["counted"]


def counted(count: int, what: str) -> str:
    """So many of something whose plural ends with an s: ``1 schedule``, ``1,440 fires``."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
