"""What an operator must know before a camera decides anything."""

NO_LIVENESS = (
    "It knows faces, not people: there is no liveness check. A photo or a screen that is held up before the camera is "
    "taken for the person. What opens a door needs a second factor: a badge, a code, somebody who looks."
)
