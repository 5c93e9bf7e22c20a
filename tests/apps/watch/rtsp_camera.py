"""An RTSP server for tests, run by the system's Python: ``rtsp_camera.py PORT PASSWORD TRANSPORT``.

rtsp://127.0.0.1:PORT/door shows a test picture; the user is "guard". TRANSPORT: "tcp" or "udp".
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

LAUNCH = (
    "( videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=10/1 ! "
    "x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)


def main() -> None:
    _, port, password, transport = sys.argv
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(LAUNCH)
    factory.set_shared(True)
    factory.set_protocols(GstRtsp.RTSPLowerTrans.TCP if transport == "tcp" else GstRtsp.RTSPLowerTrans.UDP)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "guard")
    basic = GstRtspServer.RTSPAuth.make_basic("guard", password)
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(basic, token)
    server.set_auth(auth)
    factory.add_role_from_structure(
        Gst.Structure.new_from_string("guard,media.factory.access=true,media.factory.construct=true")
    )
    server.get_mount_points().add_factory("/door", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
