"""The one exception for a user's mistake: the CLI prints its text and exits with code 2."""


class DheadsError(Exception):
    """A mistake the user can mend.

    The message says what is wrong, where (path, or file:line:col) and what to do, without a traceback.
    A bug in dheads is never a DheadsError.
    """


class UnusableClip(DheadsError):
    """A clip that can't be used; `reason` is a short, countable phrase such as "no face"."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
