"""A camera in the network: MPEG-2 video in a transport stream over RTSP (RFC 2326, interleaved as in 10.12) and RTP."""

from __future__ import annotations

import io
import socketserver
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import av

from tests.serving.edge.pictures import picture

_PAYLOAD_TYPE, _TRANSPORT_PACKETS = 33, 7 * 188
_DESCRIPTION = (
    f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=screen\r\nt=0 0\r\nm=video 0 RTP/AVP {_PAYLOAD_TYPE}\r\na=control:0\r\n"
)
_RATE = 25


class Camera(socketserver.ThreadingTCPServer):
    """Sends each client the next of its films, and ends the connection then.

    Attributes:
        films: For each client the pictures' seeds, a frame each.
        clients: How many came.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, films: Sequence[Sequence[int]]) -> None:
        self.films = [_encoded(film) for film in films]
        self.clients = 0
        super().__init__(("127.0.0.1", 0), _Session)

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.server_address[1]}/screen"


class _Session(socketserver.StreamRequestHandler):
    server: Camera

    def handle(self) -> None:
        number, self.server.clients = self.server.clients, self.server.clients + 1
        while request := self.rfile.readline():
            method = request.split()[0].decode()
            headers = dict(line.split(": ", 1) for line in iter(lambda: self.rfile.readline().decode().strip(), ""))
            more, body = "", ""
            if method == "OPTIONS":
                more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif method == "DESCRIBE":
                body = _DESCRIPTION
                more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif method == "SETUP":
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {headers['CSeq']}\r\nSession: 1\r\n{more}\r\n{body}"
            self.wfile.write(answer.encode())
            if method == "PLAY":
                if number < len(self.server.films):
                    self._play(self.server.films[number])
                return

    def _play(self, film: bytes) -> None:
        for sequence, place in enumerate(range(0, len(film), _TRANSPORT_PACKETS)):
            content = film[place : place + _TRANSPORT_PACKETS]
            packet = struct.pack("!BBHII", 0x80, _PAYLOAD_TYPE, sequence & 0xFFFF, sequence, 1) + content
            self.wfile.write(b"$\0" + struct.pack("!H", len(packet)) + packet)


def _encoded(film: Sequence[int]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=_RATE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 180, "yuv420p", 4_000_000
        for seed in film:
            container.mux(stream.encode(av.VideoFrame.from_image(picture(seed))))
        container.mux(stream.encode())
    return file.getvalue()


@contextmanager
def filming(*films: Sequence[int]) -> Iterator[Camera]:
    with Camera(films) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
