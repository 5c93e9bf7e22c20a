"""Defaults that more than one part tells: plain numbers, so that the light commands can read them, too."""

SERVER_ADDRESS = "127.0.0.1:50051"
CONSOLE_ADDRESS = "127.0.0.1:8080"
CANDIDATES = 5  # length of a candidate list
MAX_CANDIDATES = 1000
TARGET_FPIR = 0.01  # of a calibration
PICTURE_QUALITY = 90  # of stylized JPEG and WebP, 1 to 100
FRAME_QUALITY = 95  # of JPEGs that frames of a video travel as, 1 to 100
STEADINESS = 0.8  # of stylized frames, [0, 1)
