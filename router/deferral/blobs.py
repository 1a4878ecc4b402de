"""The bytes of files, under their ids: whole, or not there. Here each is a file in one folder."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Protocol

from router.errors import DeferralFullError, DeferralStoreError, UnknownFileError

# 128 bits: nobody finds another's by guessing; and nothing that could lead out of the folder.
_ID: Final = re.compile(r"file-[0-9a-f]{32}")
_PART: Final = ".part"
# Says which folder this is, to gateways that believe to have it together.
_NAME: Final = ".name"
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def new_file_id() -> str:
    """Of a file that there never was."""
    return f"file-{secrets.token_hex(16)}"


class Blobs(Protocol):
    """All but `write` may wait for a disk, or for a store: call it from a thread."""

    def name(self) -> str:
        """Of the place among all that ever were, however it is reached. Raises OSError."""
        ...

    def write(self, file_id: str) -> BlobWriter:
        """A new one. Raises as `BlobWriter.add` does."""
        ...

    def open(self, file_id: str) -> BinaryIO:
        """To read, whole or from anywhere. Raises UnknownFileError for what is no id of ours,
        FileNotFoundError for one that is not there, else OSError."""
        ...

    def delete(self, file_id: str) -> None:
        """Raises DeferralStoreError; of one that is not there nothing."""
        ...

    def left_over(self, age_s: float) -> list[str]:
        """The ids of those that were last written so long ago, by the clock of whoever keeps them;
        whatever was never whole is deleted, of that age."""
        ...


@contextlib.asynccontextmanager
async def deleted_on_failure(blobs: Blobs, file_id: str) -> AsyncIterator[None]:
    """Within it the queue is told of a file. Of one that it refuses nothing is left; whoever is
    cancelled may have been heard, so that file stays until it is `left_over`."""
    try:
        yield
    except Exception:
        await asyncio.to_thread(blobs.delete, file_id)
        raise


def known_id(file_id: str) -> str:
    """Raises UnknownFileError for what is no id of ours."""
    if not is_id(file_id):
        raise UnknownFileError(f"no file {file_id[:64]!r} is kept here")
    return file_id


def is_id(name: str) -> bool:
    """Whether a name is an id of ours."""
    return _ID.fullmatch(name) is not None


class FolderBlobs:
    """`Blobs` of one folder."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder

    def _clock(self) -> float:
        """What a file that is written now is dated, unix s."""
        mark = self._folder / ".clock"
        mark.touch(0o600)
        return mark.stat().st_mtime

    def name(self) -> str:
        """See `Blobs`."""
        path = self._folder / _NAME
        with contextlib.suppress(FileNotFoundError):
            return path.read_text().strip()
        aside = self._folder / f"{_NAME}-{secrets.token_hex(8)}{_PART}"
        aside.write_text(secrets.token_hex(16))
        try:
            # Whoever is first names it for all.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(aside)
        finally:
            aside.unlink()
        return path.read_text().strip()

    def path(self, file_id: str) -> Path:
        """Where its bytes are. Raises UnknownFileError for what is no id of ours."""
        return self._folder / known_id(file_id)

    def write(self, file_id: str) -> BlobWriter:
        """See `Blobs`."""
        return BlobWriter(self.path(file_id))

    def open(self, file_id: str) -> BinaryIO:
        """See `Blobs`."""
        return self.path(file_id).open("rb")

    def delete(self, file_id: str) -> None:
        """See `Blobs`."""
        try:
            self.path(file_id).unlink(missing_ok=True)
        except OSError as error:
            raise told_of(error) from None

    def left_over(self, age_s: float) -> list[str]:
        """See `Blobs`."""
        found = []
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            before = self._clock() - age_s
            for entry in entries:
                if entry.stat().st_mtime >= before:
                    continue
                if is_id(entry.name):
                    found.append(entry.name)
                elif entry.name.endswith(_PART):
                    with contextlib.suppress(OSError):
                        Path(entry.path).unlink()
        return found


class BlobWriter:
    """Written aside; there once `keep` has returned, and on leaving without that nothing is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.with_name(path.name + _PART)
        self.size_bytes = 0
        with _told():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self._file = os.fdopen(os.open(self._aside, flags, 0o600), "wb", buffering=2**20)

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        # What is still to be written of one that is given up may find no room either.
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._aside.unlink()

    def add(self, piece: bytes | bytearray | memoryview) -> None:
        """Raises DeferralFullError, DeferralStoreError."""
        with _told():
            self._file.write(piece)
        self.size_bytes += len(piece)

    def keep(self) -> None:
        """All of it is on the disk, and stays there. Raises as `add` does."""
        with _told():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._aside.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def disk_full() -> DeferralFullError:
    """In the words of all who find it so."""
    return DeferralFullError(
        "the disk on which deferred work waits is full: nothing of this was kept"
    )


def told_of(error: OSError) -> DeferralFullError | DeferralStoreError:
    """In the terms of the error tree, without a path."""
    if error.errno in _FULL:
        return disk_full()
    # Not in its own words: those of a store say where its files are.
    why = os.strerror(error.errno) if error.errno else "their store failed"
    return DeferralStoreError(f"files cannot be used just now ({why})", 1.0)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise told_of(error) from error
