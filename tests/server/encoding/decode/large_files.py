"""Measure the memory that decoding processes need for large files.

    python -m tests.server.encoding.decode.large_files FOLDER

Writes an hour of sound and videos of 2 GB into FOLDER, and files of one minute with the same sound
and the same pictures. A new process decodes each file. Prints the maximum memory of each process,
and exits with status 1 if a large file needs more than 100 MiB more than its file of one minute.
"""

import asyncio
import os
import sys
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer

from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.preprocess.limits import Limits
from server.encoding.decode.pool import DecodePool, DecodeSettings
from server.media.blob import DiskBlob

MAX_GROWTH = 100  # MiB
MINUTE, HOUR, LARGE = 60, 3600, 2 * 10**9  # seconds, seconds, bytes
RATE, WIDTH, HEIGHT, GROUP = 25, 1920, 1080, 50  # frames per second, pixels, frames of a group
SOUND_RATE, SOUND_SECONDS = 44_100, 10
LIMITS = Limits(
    **{"audio_bytes": 1 << 32, "video_bytes": 1 << 32, "audio_samples": 1 << 40},
    **{"audio_seconds": HOUR + 60, "video_seconds": HOUR, "video_frames": HOUR * RATE},
)
# libsndfile reads mp3 and wav, and PyAV reads m4a. decord reads mp4, and PyAV reads flv.
SOUNDS = {"mp3": "libmp3lame", "m4a": "aac", "wav": "pcm_s16le"}
MUXERS = {"m4a": "ipod"}
VIDEOS = ("mp4", "flv")

Packets = list[tuple[bytes, bool]]  # (data, whether it is a key frame)


def write(path: Path, kind: str, *, large: bool) -> None:
    """Encode a few seconds once, and write them repeatedly, for one minute or to a large file."""
    with av.open(str(path), "w", format=MUXERS.get(kind, kind)) as file:
        if kind in SOUNDS:
            stream, packets = encoded_sound(file, SOUNDS[kind])
            rate, length = SOUND_RATE, SOUND_SECONDS * SOUND_RATE // len(packets)
            count = (HOUR if large else MINUTE) * rate // length
        else:
            stream, packets = encoded_video(file)
            rate, length = RATE, 1
            group = sum(len(data) for data, _ in packets)
            count = LARGE * len(packets) // group if large else MINUTE * rate
        for number in range(count):
            data, key = packets[number % len(packets)]
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, rate), key
            packet.pts = packet.dts = number * length
            packet.duration = length
            file.mux(packet)


def encoded_sound(file: OutputContainer, codec: str) -> tuple[av.AudioStream, Packets]:
    """Encode a rising tone with noise."""
    dice, t = np.random.default_rng(0), np.arange(SOUND_SECONDS * SOUND_RATE) / SOUND_RATE
    wave = 0.3 * np.sin(2 * np.pi * (200 * t + 50 * t**2)) + dice.normal(0, 0.05, (2, len(t)))
    stream = file.add_stream(codec, rate=SOUND_RATE, layout="stereo")
    size, kind = stream.codec_context.frame_size or 1024, stream.codec_context.format
    resampler = av.AudioResampler(format=kind, layout="stereo", rate=SOUND_RATE, frame_size=size)
    frame = av.AudioFrame.from_ndarray(wave.astype(np.float32), format="fltp", layout="stereo")
    frame.rate, frame.pts = SOUND_RATE, 0
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return stream, [(bytes(each), True) for part in frames for each in stream.encode(part)]


def encoded_video(file: OutputContainer) -> tuple[av.VideoStream, Packets]:
    """Encode a group of frames: noise that moves, with more noise."""
    stream = file.add_stream("libx264", rate=RATE)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    stream.options = {"preset": "ultrafast", "bf": "0", "g": str(GROUP), "crf": "26"}
    dice = np.random.default_rng(0)
    coarse = (
        dice.integers(40, 200, (HEIGHT // 8, WIDTH // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    )
    packets: Packets = []
    for number in range(GROUP):
        noise = dice.integers(0, 40, coarse.shape, np.uint8)
        picture = av.VideoFrame.from_ndarray(np.roll(coarse, 5 * number, 1) + noise, format="rgb24")
        packets += [(bytes(packet), packet.is_keyframe) for packet in stream.encode(picture)]
    packets += [(bytes(packet), packet.is_keyframe) for packet in stream.encode(None)]
    return stream, packets


async def measure(path: Path, modality: str) -> tuple[float, float]:
    """Decode a file in a new process. Returns the process's maximum memory in MiB, and the CPU
    seconds of the decoding.
    """
    settings = DecodeSettings(
        workers=1,
        waiting=1,
        timeout_s=120,
        memory_bytes=2 << 30,
        max_bytes=64 << 20,
        limits=asdict(LIMITS),
    )
    pool = DecodePool(settings, ImageBindConfig.released().to_json().encode())
    await pool.start()
    try:
        (worker,) = pool._workers
        process = worker._process.pid
        before = cpu_seconds(process)
        file = os.open(path, os.O_RDONLY)
        await pool.decode(modality, DiskBlob(file, path.stat().st_size, b""))
        status = Path(f"/proc/{process}/status").read_text()
        (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024, cpu_seconds(process) - before
    finally:
        await pool.close()


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    failed = False
    for kind in (*SOUNDS, *VIDEOS):
        modality = "audio" if kind in SOUNDS else "video"
        short, long = folder / f"minute.{kind}", folder / f"large.{kind}"
        write(short, kind, large=False)
        write(long, kind, large=True)
        (base, _), (peak, cpu) = (asyncio.run(measure(path, modality)) for path in (short, long))
        failed |= peak - base > MAX_GROWTH
        print(
            f"{kind}: {long.stat().st_size / 1e6:.0f} MB need {peak:.0f} MiB and {cpu:.1f} s of"
            f" CPU, one minute {base:.0f} MiB: {peak - base:+.0f} MiB",
            flush=True,
        )
        short.unlink()
        long.unlink()
    sys.exit(failed)


if __name__ == "__main__":
    main()
