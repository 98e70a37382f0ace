"""What a source promises: raw records, in batches, and a way to answer back.

A source knows nothing of what its records are used for; what is behind it knows nothing of kernels and files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol


class Source(Protocol):
    """Where records come from: the kernel, a capture file, packets."""

    def batches(self) -> Iterator[Sequence[bytes]]:
        """Records in the order they were made, until the source ends or is stopped. A live source yields an empty
        batch at least every 100 ms, so that whoever runs it can do what is due. Errors of a damaged source are raised
        after everything readable was yielded."""
        ...

    def stop(self) -> None:
        """End `batches` soon, after what was already captured; may be called from a signal handler."""
        ...

    def mute(self, key: bytes) -> None:
        """Records of this socket (16 bytes: pointer, epoch) are of no more use; counted, not delivered, from now on."""
        ...

    def copy_more(self, key: bytes) -> None:
        """This socket pipelines: heads lie behind bodies within one turn, so copy beyond the budget."""
        ...

    def walk_frames(self, key: bytes, received_offset: int, sent_offset: int) -> None:
        """This socket speaks HTTP/2, and a frame begins at each of these stream offsets: from there on copy frame
        headers, and all payloads but DATA, of which the start will do. A direction that is further already when this is
        heard is copied as `copy_more` does; to ask again with newer offsets does no harm. There is no need to ask where
        both sides' first bytes say it."""
        ...

    def close(self) -> None:
        """Release everything the source holds; harmless when called twice."""
        ...
