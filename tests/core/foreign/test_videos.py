"""Frames of video files by number: exact in any order; only files of videos are opened."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import clips
import cv2
import numpy as np
import pytest

from panoforge.core.errors import DataError
from panoforge.core.foreign.videos import VideoReader, index_video
from panoforge.eval.interactive.serve.library import is_video

FRAMES = 24


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return clips.moving_disc(FRAMES)[0]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("h264.mp4", "libx264"),
        ("h264.mkv", "libx264"),
        ("old.mp4", "mpeg4"),
        ("vp9.webm", "libvpx-vp9"),
    ],
)
def test_frames_are_exact_in_any_order(
    pictures: list[np.ndarray], tmp_path: Path, name: str, codec: str
) -> None:
    """Frames stored out of order (B frames), a varying rate, and forward and backward jumps."""
    times = np.cumsum([10, 3, 17, 10, 1, 25] * 4).tolist()
    path = clips.write_clip(tmp_path / name, pictures, codec=codec, times=times)
    index = index_video(path)
    assert len(index.times) == FRAMES and (index.width, index.height) == (256, 128)
    reader = VideoReader(path, index)
    reader._keep = 3
    order = [0, 1, 2, 9, 8, 7, 23, 0, 13, 14, 14, 5, 22, 21]
    for number in order:
        assert clips.number_in(reader.read(number)) == number
        assert len(reader._kept) <= 3
    reader.close()
    assert clips.number_in(reader.read(3)) == 3
    reader.close()


def test_what_is_no_video_is_refused_in_one_line(
    pictures: list[np.ndarray], tmp_path: Path
) -> None:
    path = clips.write_clip(tmp_path / "x.mp4", pictures)
    secret = clips.write_clip(tmp_path / "secret.mp4", pictures)
    bad = {
        "text.mp4": b"hello",
        "empty.mp4": b"",
        "cut.mp4": path.read_bytes()[: path.stat().st_size // 2],
        "codec.mp4": path.read_bytes().replace(b"avc1", b"zzzz"),
        "list.mp4": f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n".encode(),
        "many.mp4": f"ffconcat version 1.0\nfile '{secret}'\n".encode(),
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError) as refused:
            index_video(tmp_path / name)
        assert name in str(refused.value) and "\n" not in str(refused.value)


def test_damage_in_the_middle_is_said(pictures: list[np.ndarray], tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "x.mp4", pictures, gop=100)
    index = index_video(path)
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + 4
    data[start : start + len(data) // 2] = bytes(len(data) // 2)
    path.write_bytes(bytes(data))
    reader = VideoReader(path, index)
    with pytest.raises(DataError, match=r"x\.mp4: frame 3 .*damaged"):
        reader.read(3)
    reader.close()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    os.mkfifo(path)
    code = (
        "import sys; from pathlib import Path; from panoforge.core.foreign import videos\n"
        "for read in (videos.index_video, videos.video_sha256):\n"
        "    try: read(Path(sys.argv[1]))\n"
        "    except videos.DataError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=30
    )
    assert done.stdout.count("x.mp4 is no file: expected a regular file, not a pipe") == 2
    assert not is_video(path) and is_video(tmp_path / "new.mp4")


def test_a_film_on_its_side_is_shown_upright(pictures: list[np.ndarray], tmp_path: Path) -> None:
    """As pictures are by their EXIF; its size is the size that is shown."""
    for degrees in (0, 90, 180, 270):
        path = clips.write_clip(tmp_path / f"{degrees}.mp4", pictures[:3], turned_deg=degrees)
        index = index_video(path)
        shown = VideoReader(path, index).read(2)
        expected = np.rot90(pictures[2], degrees // 90)
        assert shown.shape == expected.shape == (index.height, index.width, 3)
        assert np.abs(shown.astype(int) - expected).mean() < 6


def test_the_caps_hold_for_every_frame(tmp_path: Path) -> None:
    """Each frame of Motion JPEG says its own size; that of the file was asked, and no other."""
    small, large, huge = (
        cv2.imencode(".jpg", np.full((height, 2 * height, 3), 90, np.uint8))[1].tobytes()
        for height in (32, 64, 9000)
    )
    path = tmp_path / "x.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuvj420p"
        for k, data in enumerate((small, large, huge, small)):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, k, k, True
            packet.time_base = Fraction(1, 10)
            container.mux(packet)
    reader = VideoReader(path, index_video(path))
    assert reader.read(0).shape == (32, 64, 3)
    with pytest.raises(DataError, match=r"x\.avi: frame 1 is 128×64, its video 64×32"):
        reader.read(1)
    with pytest.raises(DataError, match=r"x\.avi: frame 2 cannot be decoded"):
        reader.read(2)
    assert reader.read(3).shape == (32, 64, 3)


GREEDY = """
import resource, sys
from pathlib import Path
import av
from panoforge.core.errors import DataError
from panoforge.core.foreign.videos import index_video
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**28,) * 2)
try:
    index_video(Path(sys.argv[1]))
except DataError as error:
    print(error)
"""


def test_a_packet_that_claims_more_than_memory_is_said() -> None:
    """Found by the fuzzers: FFmpeg's error is a MemoryError, and came from the walk of packets."""
    path = Path(__file__).with_name("greedy_packet.mp4")
    done = subprocess.run(
        [sys.executable, "-c", GREEDY, str(path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "its packets cannot be read (Cannot allocate memory)" in done.stdout
