"""The refusal of bad keys, signatures and identities."""

from __future__ import annotations

from swsgx.trace import Reason

__all__ = ["IdentityError"]


class IdentityError(Exception):
    """A key, a signature or an identity that cannot be used.

    Attributes:
        reason: the rule that did not hold, what was expected and what was found.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason
