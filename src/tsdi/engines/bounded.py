"""A limit on the size of a server's response bodies."""

from collections.abc import Callable, Iterator

import httpx2

LARGEST_BODY = 16 * 2**20  # bytes


class TooLargeError(httpx2.RequestError):
    """A response body is larger than any reply."""


class _Bounded(httpx2.SyncByteStream):
    """A response body that raises TooLargeError once it exceeds the limit."""

    def __init__(self, body: httpx2.SyncByteStream, largest: int) -> None:
        self._body = body
        self._largest = largest

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._body:
            size += len(part)
            if size > self._largest:
                raise TooLargeError(f"a body of more than {self._largest / 2**20:g} MiB")
            yield part

    def close(self) -> None:
        self._body.close()


def bound(largest: int) -> Callable[[httpx2.Response], None]:
    """A response hook of httpx that limits bodies to this many bytes."""

    def limit(response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            # Not asked for, and a few bytes may unpack to as many as there is memory.
            raise TooLargeError("a compressed body, which was not asked for")
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Bounded(response.stream, largest)

    return limit
