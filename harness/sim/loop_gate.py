"""The selector of the virtual loop: asks the machine only where something is registered, and never blocks unasked."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Mapping
from typing import Any

Events = list[Any]


class Gate:
    """Stands where asyncio expects a selector. A blocking `select` is handed to `idle`."""

    def __init__(self, selector: selectors.BaseSelector, idle: Callable[[], Events]) -> None:
        self._selector = selector
        self._idle = idle
        self._own = 0
        self._registered: set[int] = set()
        self._ready: Any = ()
        self._too_many: Callable[[], Exception] | None = None
        self._limit = 0
        self.callbacks = 0
        self.passive: set[int] = set()
        """Descriptors that do not keep time from moving."""

    def begin(self) -> None:
        """Take what is registered now as the loop's own wake-up pipe."""
        self._own = len(self._registered)
        self.passive |= self._registered

    def renew(self, selector: selectors.BaseSelector) -> None:
        """Forget every descriptor, and ask this selector from now on."""
        self._selector = selector
        self._registered.clear()
        self.passive.clear()

    def start_counting(self, limit: int, too_many: Callable[[], Exception]) -> None:
        """Raise the answer of `too_many` once more than `limit` callbacks have run from here."""
        self.callbacks = 0
        self._limit = limit
        self._too_many = too_many

    def watch(self, ready: Any) -> None:
        """Count the handles of the loop's own queue."""
        self._ready = ready

    # what asyncio calls of a selector -------------------------------------------------------------------------------

    def select(self, timeout: float | None = None) -> Events:
        """Answer what is ready, or hand over to the idle loop."""
        self.callbacks += len(self._ready) or 1
        if self.callbacks > self._limit and self._too_many is not None:
            raise self._too_many()
        if timeout == 0:
            return self.poll()
        return self._idle()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a descriptor."""
        key = self._selector.register(fileobj, events, data)
        self._registered.add(key.fd)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch it no more; its number may soon be another's."""
        key = self._selector.unregister(fileobj)
        self._registered.discard(key.fd)
        self.passive.discard(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch it for something else."""
        return self._selector.modify(fileobj, events, data)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """Answer the registration of a descriptor."""
        return self._selector.get_key(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Answer all registrations."""
        return self._selector.get_map()

    def close(self) -> None:
        """Give the machine's selector back."""
        self._registered.clear()
        self._selector.close()

    # what the idle loop asks for ------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether a descriptor is registered that keeps time from moving."""
        return len(self._registered) > self._own and not self._registered <= self.passive

    def active_descriptors(self) -> list[int]:
        """List the descriptors that keep time from moving."""
        return sorted(self._registered - self.passive)

    def poll(self) -> Events:
        """Answer what is ready now, without a system call where nothing but the wake-up pipe is registered."""
        return self._selector.select(0) if len(self._registered) > self._own else []

    def wait(self, seconds: float) -> Events:
        """Wait for the machine in real time."""
        return self._selector.select(seconds)
