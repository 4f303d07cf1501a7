"""Objects whose pickles ask for code; where it ran, there is a canary."""

import os
from pathlib import Path


class Command:
    """Pickles into a call that leaves a canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch '{self.canary}'",)


class Evaluation(Command):
    def __reduce__(self):
        return eval, (f"open({str(self.canary)!r}, 'w').close()",)
