"""Places whose process ends at a chosen write, in memory and in a folder, and copies of such places."""

from kept_stores import Killed

from flowprofile.store.places import LocalPlace, MemoryPlace


class Mortal(MemoryPlace):
    """Ends its process before the write or removal of that number, or, where writes are torn, in the middle of one."""

    def __init__(self, name, left=10**9, *, torn=False):
        super().__init__(name)
        self.left, self.torn, self.done = left, torn, 0

    def write(self, key, data, *, durable=False):
        self._moment(lambda: super(Mortal, self).write(key, data[: len(data) // 2]))
        super().write(key, data, durable=durable)

    def create(self, key, data):
        self._moment()
        return super().create(key, data)

    def delete(self, key):
        self._moment()
        super().delete(key)

    def _moment(self, half=lambda: None):
        self.left, self.done = self.left - 1, self.done + 1
        if self.left < 0:
            if self.torn and self.left == -1:
                half()
            raise Killed


class MortalFolder(LocalPlace):
    """The same of a folder, whose writes alone are counted."""

    def __init__(self, root, left, *, torn=False):
        super().__init__(root)
        self.left, self.torn = left, torn

    def write(self, key, data, *, durable=False):
        self.left -= 1
        if self.left < 0:
            if self.torn:
                super().write(key, data[: len(data) // 2])
            raise Killed
        super().write(key, data, durable=durable)


def copied(source, name):
    """The same objects under another name."""
    copy = MemoryPlace(name)
    copy._objects.clear()
    copy._objects.update(MemoryPlace(source)._objects)
    return copy
