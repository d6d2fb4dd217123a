"""Limits for the files of each modality. Sizes that a file declares are checked before decoding."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    image_bytes: int = 20 * MIB
    image_pixels: int = 50_000_000

    audio_bytes: int = 25 * MIB
    audio_seconds: int = 600
    audio_rate: int = 192_000  # maximum sampling rate in Hz
    audio_channels: int = 8
    audio_samples: int = 64_000_000  # samples of all channels together; decoded, they need 256 MB

    video_bytes: int = 100 * MIB
    video_seconds: int = 600
    video_frames: int = 72_000  # Frames of one video: 600 s at 120 frames per second.
    video_pixels: int = 4096 * 2304  # Pixels of one frame.

    cloud_bytes: int = 20 * MIB
    # Points of a cloud that are encoded; larger clouds are subsampled. The encoder needs 1 s of CPU
    # time to group this many points.
    cloud_points: int = 250_000
    cloud_file_points: int = 10_000_000  # Maximum number of points in a file, before subsampling.
    torch_clouds: bool = False  # Whether to accept .pt files, which are pickles.

    array_bytes: int = 20 * MIB  # bytes of one .npy file of depth, thermal or IMU data
    text_bytes: int = 64 * 1024

    def bytes_of(self, modality: str) -> int:
        """Return the maximum size of a file of this modality, in bytes."""
        return {
            "image": self.image_bytes,
            "video": self.video_bytes,
            "audio": self.audio_bytes,
            "text": self.text_bytes,
            "point": self.cloud_bytes,
            "depth": self.array_bytes,
            "thermal": self.array_bytes,
            "imu": self.array_bytes,
        }[modality]
