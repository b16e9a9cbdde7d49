"""What a file of weights must not be able to do."""

import os


class Evil:
    """Pickled, it makes a folder at `path` when it is loaded by whoever executes pickled code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
