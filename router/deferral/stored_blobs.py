"""The bytes of files in a store of objects, by URL: as in a folder, for gateways that have none in
common."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from pathlib import Path
from typing import BinaryIO, Final, cast

from pyarrow import fs

from router.deferral.blobs import BlobWriter, FolderBlobs, is_id, known_id, told_of
from router.errors import DataError, DeferralStoreError
from router.url_files import file_system

_PIECE: Final = 2**20
_CLOCK: Final = "clock"


class StoredBlobs:
    """`Blobs` of one URL. What is written waits in a folder of this machine until it is whole."""

    def __init__(self, url: str, aside: Path) -> None:
        """``aside``: that folder. Raises DataError, OSError."""
        self._url = url
        self._system, self._root = file_system(url)
        self._aside = FolderBlobs(aside)
        # Of a store of objects nothing; of a folder what holds the files.
        self._system.create_dir(self._root, recursive=True)

    def name(self) -> str:
        """See `Blobs`: that of its URL, which all have that reach it."""
        return hashlib.blake2b(self._url.encode(), digest_size=16).hexdigest()

    def write(self, file_id: str) -> BlobWriter:
        """See `Blobs`."""
        return StoredWriter(self._aside.path(file_id), self._system, self._path(file_id))

    def open(self, file_id: str) -> BinaryIO:
        """See `Blobs`."""
        raw = self._system.open_input_file(self._path(file_id))
        # It has lines, which the store's own has not.
        return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, raw), _PIECE))

    def delete(self, file_id: str) -> None:
        """See `Blobs`."""
        path = self._path(file_id)
        try:
            # Some stores say nothing of what is not there, others that it is not.
            if self._system.get_file_info(path).type is not fs.FileType.NotFound:
                self._system.delete_file(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise told_of(error) from None

    def left_over(self, age_s: float) -> list[str]:
        """See `Blobs`."""
        self._aside.left_over(age_s)
        found = []
        with contextlib.suppress(OSError):
            before = self._clock() - age_s
            for info in self._system.get_file_info(fs.FileSelector(self._root)):
                at = info.mtime_ns
                if at is not None and at / 1e9 < before and is_id(info.base_name):
                    found.append(info.base_name)
        return found

    def _clock(self) -> float:
        """What a file that is written now is dated, unix s. Raises OSError."""
        mark = f"{self._root}/{_CLOCK}"
        with self._system.open_output_stream(mark):
            pass
        at = self._system.get_file_info(mark).mtime_ns
        if at is None:
            raise OSError("the store dates nothing")
        return float(at) / 1e9

    def _path(self, file_id: str) -> str:
        return f"{self._root}/{known_id(file_id)}"


class StoredWriter(BlobWriter):
    """In the store once `keep` has returned. What a store had taken of one that failed is found as
    `StoredBlobs.left_over`."""

    def __init__(self, aside: Path, system: fs.FileSystem, path: str) -> None:
        super().__init__(aside)
        self._whole = aside
        self._system = system
        self._to = path

    def keep(self) -> None:
        """The store has all of it. Raises DeferralFullError, DeferralStoreError."""
        super().keep()
        try:
            with self._whole.open("rb") as whole, self._system.open_output_stream(self._to) as to:
                shutil.copyfileobj(whole, to, _PIECE)
            if self._system.get_file_info(self._to).size != self.size_bytes:
                raise DeferralStoreError("the store has not all of a file that it took", 1.0)
        except OSError as error:
            raise told_of(error) from None
        finally:
            self._whole.unlink(missing_ok=True)


def stored_blobs(url: str, aside: Path) -> StoredBlobs:
    """Raises OSError, with what is wrong, where the store cannot be used."""
    try:
        return StoredBlobs(url, aside)
    except DataError as error:
        raise OSError(str(error)) from None
