"""The job of a cutting process, and the errors that it reports."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CutJob:
    """`seconds`: length of a window. `stride`: seconds between the starts of two windows.
    `max_seconds`: maximum length of the file. `modality`: audio or video.
    """

    modality: str
    seconds: float
    stride: float
    max_seconds: float
    max_windows: int
    max_channels: int
    max_rate: int  # Maximum sampling rate in Hz.
    max_samples: int  # Maximum samples of one window, of all channels together.
    frames: int  # Number of frames of a video clip, as the encoder reads it.
    max_pixels: int  # Maximum number of pixels of a frame.
    max_window_bytes: int  # Maximum bytes of one window of a video.
    memory_bytes: int
    cpu_s: float  # Maximum CPU seconds for one window.
    # Whether each window is samples of speech instead of a file. Windows must then not overlap.
    speech: bool = False


class CutError(Exception):
    """Raised when the file cannot be cut. The message is for the client."""
