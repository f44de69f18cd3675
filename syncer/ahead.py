"""What is done beside the loop: pages fetched before they are asked for, and one commit while the next page is judged.

Nothing here decides anything. Pages come out in the order in which the loop would have fetched them one by one,
an error comes where its page would have come, and commits happen one after another. What was fetched for nothing,
because the pull stopped or the list ended earlier than it said, is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from queue import Full, Queue
from typing import Any

from .clock import Worker
from .decode import Rows
from .page import JSON, Page, Request, Response

MOST = 8
"""How many requests may be under way at once, unless the user says so."""
ROOM = 64 * 2**20
"""How many bytes of pages may be under way or wait for the loop."""
_WAITING = 1
_END = object()

Fetched = tuple[Response, Sequence[JSON]]
Fetch = Callable[[Request], Fetched]


class Now:
    """Pages that are fetched when they are asked for."""

    def __init__(self, pages: Generator[Page, None, None]) -> None:
        self._pages = pages

    def pages(self, idle: Callable[[], None]) -> Iterator[Page]:
        """The pages; `idle` is called before each is waited for."""
        while True:
            idle()
            if (page := next(self._pages, None)) is None:
                return
            yield page

    def close(self) -> None:
        """Fetch no more."""
        self._pages.close()


class Ahead:
    """Pages that are fetched in a thread while the loop is busy with those before them."""

    def __init__(self, pages: Generator[Page, None, None], several: Several) -> None:
        self._pages, self._several, self._queue = pages, several, Queue[Any](_WAITING)
        self._worker = Worker(self._work)
        self._worker.start()

    def pages(self, idle: Callable[[], None]) -> Iterator[Page]:
        """The pages; `idle` is called before one has to be waited for."""
        while True:
            if self._queue.empty():
                idle()
            if (item := self._queue.get()) is _END:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Fetch no more; a request that is under way ends by itself."""
        self._worker.unwanted = True
        self._several.close()

    def _work(self) -> None:
        try:
            for page in self._pages:
                if not self._handed(page):
                    return
            self._handed(_END)
        except BaseException as error:
            self._handed(error)

    def _handed(self, item: object) -> bool:
        while not self._worker.unwanted:
            try:
                self._queue.put(item, timeout=0.1)
            except Full:
                continue
            return True
        return False


class _Answer:
    """An answer that is under way."""

    def __init__(self, fetch: Fetch, request: Request) -> None:
        self._fetch, self._request = fetch, request
        self._found: Fetched | None = None
        self._error: BaseException | None = None
        self._there = threading.Event()
        self.worker = Worker(self._work)
        self.worker.start()

    def there(self) -> bool:
        return self._there.is_set()

    def get(self) -> Fetched:
        self._there.wait()
        if self._error is not None:
            raise self._error
        assert self._found is not None  # noqa: S101 one of the two is set
        return self._found

    def _work(self) -> None:
        try:
            self._found = self._fetch(self._request)
        except BaseException as error:
            self._error = error
        self._there.set()


class Several:
    """Asks for pages that are certain to follow before their turn; as many at once as the loop keeps waiting for."""

    def __init__(self, fetch: Fetch, most: int) -> None:
        self._fetch, self._most = fetch, most
        self._width, self._size = min(2, most), 1
        self._under_way: dict[str, _Answer] = {}
        self._closed = False

    def fetch(self, request: Request) -> Fetched:
        """The answer to a request, which may be under way already."""
        answer = self._under_way.get(name := request.digest())
        if answer is None:
            response, records = self._fetch(request)
        else:
            if not answer.there():
                self._width = min(self._most, self._width + 1)
            response, records = answer.get()
            self._under_way = {other: held for other, held in self._under_way.items() if other != name}
        if isinstance(records, Rows):
            self._size = max(1, sum(map(len, records.raws)))
        return response, records

    def expect(self, coming: Iterator[Request]) -> None:
        """Ask for as many of these as may be under way; forget others, which were expected in vain."""
        room = min(self._width, max(1, ROOM // self._size))
        wanted = {request.digest(): request for request in islice(coming, room)}
        for name, answer in self._under_way.items():
            answer.worker.unwanted = name not in wanted
        if not self._closed:
            known = self._under_way
            self._under_way = {
                name: known.get(name) or _Answer(self._fetch, request) for name, request in wanted.items()
            }

    def close(self) -> None:
        """Forget all that is under way, and what is waited for; to be called from any thread."""
        self._closed = True
        for answer in self._under_way.values():
            answer.worker.unwanted = True


class Beside:
    """One piece of work at a time in a thread of its own; `settle` waits for it and raises what it raised."""

    def __init__(self) -> None:
        self._jobs, self._done = Queue[Any](1), Queue[Any](1)
        self._worker = Worker(self._work)
        self._busy = False

    def begin(self, job: Callable[[], None]) -> None:
        """Start a piece of work; the one before it is settled."""
        if not self._worker.is_alive():
            self._worker.start()
        self._busy = True
        self._jobs.put(job)

    def settle(self) -> None:
        """Wait until the piece of work is done."""
        if not self._busy:
            return
        self._busy = False
        if (error := self._done.get()) is not None:
            raise error

    def close(self) -> None:
        """End the thread, after the work at hand."""
        if self._busy:
            self._busy = False
            self._done.get()
        if self._worker.is_alive():
            self._jobs.put(None)
            self._worker.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException as error:
                self._done.put(error)
            else:
                self._done.put(None)
