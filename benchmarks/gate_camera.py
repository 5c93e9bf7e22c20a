"""A camera for ``benchmarks.gate``: an RTSP server that shows H.264 pictures at their wall-clock times.

Run by the system's Python, whose GStreamer it needs: ``python3 gate_camera.py PICTURES PORT BEGIN FPS``. Picture n is
shown at BEGIN + n / FPS, whoever looks; the process may be stopped and continued (a stall), or killed and started again
(a drop).

SIGUSR1 sets the clock of the stream ahead by an hour, SIGUSR2 back by an hour.

PICTURES: for each picture its length, 4 bytes, big endian, and its H.264 access unit.
"""

import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

HOUR = 3600
LAUNCH = (
    "( appsrc name=pictures is-live=true format=time caps=video/x-h264,stream-format=byte-stream,"
    "alignment=au ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)


def main() -> None:
    _, path, port, begin, fps = sys.argv
    data = Path(path).read_bytes()
    units, at = [], 0
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        units.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    Gst.init(None)
    sources: list[Any] = []
    shown = -1
    first = 0  # number of the picture at which the stream's clock is 0
    ahead = 0  # of the stream's clock, in seconds

    def configure(_: object, media: Any) -> None:
        nonlocal first
        first = shown + 1
        sources[:] = [media.get_element().get_by_name("pictures")]
        media.connect("new-state", send_at_once)

    def send_at_once(media: Any, state: int) -> None:
        """Whatever the clock of the stream says, as a camera does."""
        top = media.get_element()
        while top.get_parent() is not None:
            top = top.get_parent()
        top.iterate_recurse().foreach(lambda one: one.find_property("sync") and one.set_property("sync", False))

    def show() -> bool:
        nonlocal shown
        number = int((time.time() - float(begin)) * float(fps))
        if sources and shown < number < len(units):
            # After a stall the pictures of that time come, as from a real camera's buffer; at most two seconds of them.
            for i in range(max(shown + 1, number - 2 * int(float(fps))), number + 1):
                buffer = Gst.Buffer.new_wrapped(units[i])
                buffer.pts = buffer.dts = ahead * Gst.SECOND + max(0, i - first) * Gst.SECOND // int(float(fps))
                sources[0].emit("push-buffer", buffer)
        shown = max(shown, number)
        return True

    def step(seconds: int) -> bool:
        nonlocal ahead
        ahead = max(0, ahead + seconds)
        return True

    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGUSR1, step, HOUR)
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGUSR2, step, -HOUR)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(LAUNCH)
    factory.set_shared(True)
    factory.connect("media-configure", configure)
    server.get_mount_points().add_factory("/door", factory)
    server.attach(None)
    GLib.timeout_add(10, show)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
