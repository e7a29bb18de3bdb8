"""Where frames come from: a folder, standard input, or video by PyAV (the extra `video`)."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .errors import BrokenFrame, EdgeError
from .frame import MAXIMUM_BYTES, open_frame

_POLL_SECONDS = 0.1
_READ_BYTES = 1 << 16
_RECONNECT_SECONDS = 5.0


def frames_of(source: str, stopped: Callable[[], bool], *, once: bool = False) -> Iterator[Any]:
    """The frames of a source, as they come.

    Args:
        source: A folder, `-`, `v4l2:DEVICE`, `rtsp://…` or `video:FILE`.
        stopped: Asked now and then whether to end.
        once: Whether a folder ends when all that it holds was given.

    Yields:
        `PIL.Image.Image`s, their pixels perhaps not decoded yet, and a `BrokenFrame` for each that is none.

    Raises:
        EdgeError: The source cannot be opened, or PyAV is missing.
    """
    if source == "-":
        return _of_stream(0, stopped)
    if source.startswith(("v4l2:", "rtsp:", "rtsps:", "video:")):
        return _of_video(source, stopped)
    folder = Path(source)
    if not folder.is_dir():
        raise EdgeError(f"{source}: no folder", "A source is a folder, -, v4l2:/dev/video0, rtsp://… or video:FILE.")
    return _of_folder(folder, stopped, once)


def _of_folder(folder: Path, stopped: Callable[[], bool], once: bool) -> Iterator[Any]:
    """Each file once for each time that it was written, by time, then by name; dotted names are unfinished."""
    given: dict[str, tuple[int, int]] = {}
    doubtful: dict[str, tuple[int, int]] = {}
    while not stopped():
        entries = {}
        for path in folder.iterdir():
            try:
                status = path.stat()
            except OSError:
                continue
            if path.is_file() and not path.name.startswith("."):
                entries[path.name] = (status.st_mtime_ns, status.st_size)
        # Files of one tick of the file system's clock come in the order of their names.
        fresh = sorted((state[0], name, state) for name, state in entries.items() if given.get(name) != state)
        # Names that are gone are forgotten: what is remembered is bounded by the folder.
        given = {name: state for name, state in given.items() if name in entries}
        doubtful = {name: state for name, state in doubtful.items() if name in entries}
        is_idle = True
        for _, name, state in fresh:
            if stopped():
                return
            try:
                image = open_frame((folder / name).read_bytes())
            except OSError as error:
                broken = BrokenFrame(f"{name}: {error.strerror or error}")
            except BrokenFrame as error:
                broken = BrokenFrame(f"{name}: {error}")
            else:
                given[name] = state
                is_idle = False
                yield image
                continue
            # It may still be written; what is the same a look later is broken.
            if once or doubtful.get(name) == state:
                given[name] = state
                yield broken
            doubtful[name] = state
        if once:
            return
        # A file that may still be written is given time for it.
        if is_idle:
            time.sleep(_POLL_SECONDS)


def _of_stream(descriptor: int, stopped: Callable[[], bool]) -> Iterator[Any]:
    """JPEGs one after the other, as `ffmpeg -f mjpeg -` writes them."""
    buffer = b""
    while not stopped():
        if not select.select([descriptor], [], [], _POLL_SECONDS)[0]:
            continue
        chunk = os.read(descriptor, _READ_BYTES)
        if not chunk:
            if buffer.strip(b"\0"):
                yield BrokenFrame(f"{len(buffer)} bytes at the end are no whole JPEG")
            return
        buffer += chunk
        while True:
            begin = buffer.find(b"\xff\xd8\xff")
            if begin < 0:
                if len(buffer) > MAXIMUM_BYTES:
                    yield BrokenFrame(f"{len(buffer)} bytes without a JPEG")
                    buffer = buffer[-2:]
                break
            end = jpeg_end(buffer, begin)
            if end is None and len(buffer) - begin <= MAXIMUM_BYTES:
                break
            if end is None or end < 0:
                yield BrokenFrame("a JPEG without an end")
                buffer = buffer[begin + 2 :]
                continue
            content, buffer = buffer[begin:end], buffer[end:]
            try:
                image = open_frame(content)
            except BrokenFrame as error:
                yield error
            else:
                yield image


def jpeg_end(content: bytes, begin: int) -> int | None:
    """Where a JPEG ends (ITU-T T.81, annex B): thumbnails in its segments are stepped over.

    Returns:
        The place after its end; None if it is not there yet; -1 if what is there is no JPEG.
    """
    place = begin + 2
    while place + 4 <= len(content) or content[place : place + 2] == b"\xff\xd9":
        if content[place] != 0xFF:
            return -1
        marker = content[place + 1]
        if marker == 0xD9:
            return place + 2
        if marker == 0xFF:
            place += 1
            continue
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        if length < 2 or marker == 0xD8:
            return -1
        place += 2 + length
        if marker != 0xDA:
            continue
        # Coded data: 0xFF is followed by 0 or a restart marker until a real one comes.
        while True:
            place = content.find(b"\xff", place)
            if place < 0 or place + 1 >= len(content):
                return None
            if content[place + 1] != 0 and not 0xD0 <= content[place + 1] <= 0xD7:
                break
            place += 2
    return None


def _of_video(source: str, stopped: Callable[[], bool]) -> Iterator[Any]:
    try:
        import av
    except ImportError:
        raise EdgeError(f"{source}: video needs PyAV", "pip install 'adclick-edge[video]'") from None
    kind, _, rest = source.partition(":")
    live = kind != "video"
    while not stopped():
        try:
            with av.open(
                rest if kind in ("v4l2", "video") else source,
                format="v4l2" if kind == "v4l2" else None,
                options={"rtsp_transport": "tcp"} if kind.startswith("rtsp") else {},
                timeout=10.0,
            ) as container:
                for frame in container.decode(video=0):
                    if stopped():
                        return
                    yield frame.to_image()
            if live:
                yield BrokenFrame(f"{source}: has ended")
        except (OSError, ValueError, IndexError) as error:
            if not live:
                raise EdgeError(f"{source}: no video: {error}", "Name a video's file.") from None
            yield BrokenFrame(f"{source}: {error}")
        if not live:
            return
        # A camera comes back; whoever waits for it is told each time.
        time.sleep(_RECONNECT_SECONDS)
