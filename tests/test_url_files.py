"""A store that is silent or rude holds nobody up for long, and is what its URL says."""

import socket
import threading

import pytest
from pyarrow import fs

from router.errors import DataError
from router.url_files import file_system


def test_a_url_that_is_none_is_told():
    with pytest.raises(DataError, match="no place for files"):
        file_system("nothing://x")


@pytest.fixture
def rude_store():
    """A store that ends every connection without a word: its address, and how many there were."""
    ended = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                ended.append(connection.recv(1))
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield "{}:{}".format(*server.getsockname()), ended
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_store_that_fails_is_tried_a_few_times(rude_store) -> None:
    address, ended = rude_store
    system, root = file_system(
        f"s3://key:secret@bucket/a?scheme=http&region=x&endpoint_override={address}"
    )
    with pytest.raises(OSError):
        system.get_file_info(f"{root}/b")
    assert root == "bucket/a" and len(ended) == 3


def test_a_store_keeps_what_its_url_says(tmp_path) -> None:
    url = "s3://key:secret@bucket/a/?scheme=http&region=x&endpoint_override=127.0.0.1:1"
    assert file_system(url)[0] == fs.FileSystem.from_uri(url)[0]
    assert file_system(url)[1] == "bucket/a"
