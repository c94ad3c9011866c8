"""Files fetched from an address: whole or not at all, and not where nothing may be fetched."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dheads_cli import downloads
from dheads_cli.errors import DheadsError

CONTENT = bytes(range(256)) * 9000  # over two pieces


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; of a file whose name begins with "cut" it promises more than it sends."""

    def send_header(self, keyword: str, value: str) -> None:
        more = keyword == "Content-Length" and self.path.startswith("/cut")
        super().send_header(keyword, str(int(value) + 1000) if more else value)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    for name in ("whole.pth", "cut.pth"):
        (tmp_path / name).write_bytes(CONTENT)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Server, directory=str(tmp_path))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_into_a_folder_that_is_made(address: str, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "checkpoints" / "whole.pth"
    downloads.fetch(f"{address}/whole.pth", path, "encoder", "`weights: PATH`")
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_what_another_process_is_fetching_is_left_alone(address: str, tmp_path: Path) -> None:
    path, theirs = tmp_path / "cache" / "whole.pth", {".whole.pth.1.part", "whole.pth.part"}
    path.parent.mkdir()
    for name in theirs:
        (path.parent / name).write_bytes(b"half")
    downloads.fetch(f"{address}/whole.pth", path, "encoder", "`weights: PATH`")
    assert path.read_bytes() == CONTENT
    assert {(path.parent / name).read_bytes() for name in theirs} == {b"half"}


@pytest.mark.parametrize(("name", "why"), [("cut.pth", "after 2304000 of 2305000 bytes"), ("none.pth", "not found")])
def test_what_can_t_be_fetched_whole_leaves_nothing(address: str, tmp_path: Path, name: str, why: str) -> None:
    path = tmp_path / "cache" / name
    with pytest.raises(DheadsError) as caught:
        downloads.fetch(f"{address}/{name}", path, "encoder", "`weights: PATH`")
    said = str(caught.value).casefold()
    assert said.startswith(f"encoder needs {name}, and it can't be fetched from {address}/{name} (")
    assert why in said
    assert "(`weights: path`)" in said
    assert "\n" not in said
    assert list(path.parent.iterdir()) == []


def test_nothing_is_fetched_where_nothing_may_be(address: str, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "whole.pth"
    with downloads.none(), pytest.raises(DheadsError, match="not here yet"):
        downloads.fetch(f"{address}/whole.pth", path, "encoder", "`weights: PATH`")
    assert not path.parent.exists()
    downloads.fetch(f"{address}/whole.pth", path, "encoder", "`weights: PATH`")
    assert path.is_file()
