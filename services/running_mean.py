"""A mean that follows what it measures."""

# Weight of the newest value.
_NEWEST = 0.3


class RunningMean:
    """The exponentially weighted mean of the values added; `value` is 0 before the first."""

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, value: float) -> None:
        """Count one more; the first is the mean itself."""
        before = self.value or value
        self.value = before + _NEWEST * (value - before)
