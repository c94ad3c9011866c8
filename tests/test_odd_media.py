"""Odd but whole files are read as they are meant; files that can't be are skipped with one line of reason."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from odd_media import Film, Track, write_film, write_wav
from PIL import Image

from dheads_cli.data import media
from dheads_cli.errors import UnusableClip

CLIP = Path(__file__).parent / "data/grid/s1/bbaf2n.mp4"
N_FRAMES = 20
PCM = "pcm_s16le"


def corner(height: int = 48, width: int = 64, gray: int = 128, white: int = 255) -> NDArray[np.uint8]:
    """A gray picture [H, W, 3] whose upper left quarter is white."""
    picture = np.full((height, width, 3), gray, np.uint8)
    picture[: height // 2, : width // 2] = white
    return picture


def sine(seconds: float = N_FRAMES / 25, rate: int = 16000, level: float = 0.5) -> NDArray[np.float32]:
    """440 Hz, [1, T]."""
    return (level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)[None]


def quarters(picture: NDArray[np.uint8]) -> list[int]:
    """Mean level of the middles of upper left, upper right, lower left, lower right."""
    height, width = picture.shape[:2]
    rows, columns = (height // 4, 3 * height // 4), (width // 4, 3 * width // 4)
    return [round(float(picture[y - 4 : y + 4, x - 4 : x + 4].mean())) for y in rows for x in columns]


def reason(read: Callable[[], object]) -> str:
    with pytest.raises(UnusableClip) as error:
        read()
    assert "\n" not in str(error.value)
    return str(error.value)


# Pictures of any kind


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix"),
    [
        ("libx264", "yuv420p10le", ".mp4"),
        ("libx264", "yuv444p", ".mp4"),
        ("libx264", "gray", ".mp4"),
        ("prores_ks", "yuv422p10le", ".mov"),
        ("prores_ks", "yuva444p10le", ".mov"),
        ("png", "rgba", ".mov"),
        ("png", "rgb48be", ".mov"),
        ("png", "gray16be", ".mov"),
        ("ffv1", "yuva420p", ".mkv"),
        ("ffv1", "yuv420p16le", ".mkv"),
        ("mjpeg", "yuvj420p", ".avi"),
        ("rawvideo", "bgr24", ".avi"),
        ("libvpx-vp9", "yuv420p", ".webm"),
        ("wmv2", "yuv420p", ".wmv"),
        ("flv", "yuv420p", ".flv"),
        ("libx264", "yuv420p", ".h264.mp4"),
    ],
)
def test_every_pixel_format_gives_the_same_picture(tmp_path: Path, codec: str, pixel_format: str, suffix: str) -> None:
    path = write_film(tmp_path / f"a{suffix}", [corner()] * N_FRAMES, Film(codec=codec, pixel_format=pixel_format))
    clip = media.read_video(path, 25)
    assert clip.frames.shape == (N_FRAMES, 48, 64, 3)
    assert np.abs(np.subtract(quarters(clip.frames[7]), [255, 128, 128, 128])).max() <= 4


@pytest.mark.parametrize(("codec", "suffix"), [("ffv1", ".mkv"), ("flv", ".flv"), ("mpeg4", ".avi")])
def test_odd_sizes_are_whole(tmp_path: Path, codec: str, suffix: str) -> None:
    frames = np.repeat(corner(287, 361)[None], N_FRAMES, axis=0)
    frames[:, :, -1], frames[:, -1] = 255, 255  # the last column and row
    picture = media.read_video(write_film(tmp_path / f"a{suffix}", frames, Film(codec=codec)), 25).frames[10]
    assert picture.shape == (287, 361, 3)
    assert picture[:, -1].mean() > 200
    assert picture[-1].mean() > 200


@pytest.mark.parametrize(
    ("turn", "mirrored", "white"),
    [(0, False, 0), (90, False, 2), (180, False, 3), (-90, False, 1), (0, True, 1), (180, True, 2)],
)
def test_turned_and_mirrored_films_stand_upright(tmp_path: Path, turn: int, mirrored: bool, white: int) -> None:
    path = write_film(tmp_path / "a.mp4", [corner(48, 96)] * 4, Film(turn=turn, mirrored=mirrored))
    picture = media.read_video(path, 25).frames[1]
    assert picture.shape == ((96, 48, 3) if abs(turn) == 90 else (48, 96, 3))
    assert int(np.argmax(quarters(picture))) == white


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (Fraction(2), (48, 128)),
        (Fraction(1, 2), (96, 64)),
        (Fraction(12, 11), (48, 70)),
        (Fraction(1000, 1001), (48, 64)),
    ],
)
def test_pixels_become_square(tmp_path: Path, aspect: Fraction, size: tuple[int, int]) -> None:
    path = write_film(tmp_path / "a.mp4", [corner()] * 4, Film(pixel_aspect=aspect))
    picture = media.read_video(path, 25).frames[1]
    assert picture.shape[:2] == size
    assert np.abs(np.subtract(quarters(picture), [255, 128, 128, 128])).max() <= 4


def test_absurd_pixels_are_a_damaged_header(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", [corner()] * 4, Film(pixel_aspect=Fraction(1, 50)))
    assert "pixels are said to be 1/50 times as wide as high" in reason(lambda: media.read_video(path, 25))


def test_a_cover_is_no_film(tmp_path: Path) -> None:
    cover = np.full((100, 100, 3), 30, np.uint8)
    path = write_film(tmp_path / "a.mp4", [corner()] * 4, Film(cover=cover))
    assert media.read_video(path, 25).frames.shape == (4, 48, 64, 3)
    music = tmp_path / "music.m4a"
    with av.open(str(music), "w", format="mp4") as container:
        picture = container.add_stream("mjpeg", rate=1, pix_fmt="yuvj420p")
        picture.width = picture.height = 100
        picture.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        container.mux(picture.encode(av.VideoFrame.from_ndarray(cover, format="rgb24")))
        container.mux(picture.encode(None))
    assert "no picture" in reason(lambda: media.read_video(music, 25))


def test_one_frame_is_a_film_of_one_frame(tmp_path: Path) -> None:
    assert len(media.read_video(write_film(tmp_path / "a.mp4", [corner()]), 25).frames) == 1


# Time


@pytest.mark.parametrize("hole", [1.5, 4000.0])
def test_a_hole_in_the_picture_is_damage(tmp_path: Path, hole: float) -> None:
    times = [k / 25 + (hole if k > 9 else 0) for k in range(N_FRAMES)]
    path = write_film(tmp_path / "a.mp4", [corner()] * N_FRAMES, Film(times=times))
    assert f"it has no picture from 0.36 to {0.4 + hole:.2f} s" in reason(lambda: media.read_video(path, 25))


def test_a_short_hole_is_filled(tmp_path: Path) -> None:
    times = [k / 25 + (0.4 if k > 9 else 0) for k in range(N_FRAMES)]
    path = write_film(tmp_path / "a.mp4", [corner()] * N_FRAMES, Film(times=times))
    assert len(media.read_video(path, 25).frames) == N_FRAMES + 10


def test_a_bare_stream_has_the_rate_that_it_states(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.h264", [corner()] * N_FRAMES)
    clip = media.read_video(path.rename(tmp_path / "a.mp4"), 25)
    assert (len(clip.frames), clip.source_fps) == (N_FRAMES, pytest.approx(25))


def test_sound_longer_or_shorter_than_the_picture_stays_as_it_is(tmp_path: Path) -> None:
    for seconds in (0.3, 5.0):
        track = Track(sine(seconds), codec=PCM)
        path = write_film(tmp_path / "a.mkv", [corner()] * N_FRAMES, tracks=[track])
        assert len(media.read_video(path, 25).frames) == N_FRAMES
        assert len(media.read_audio(path, 16000, 0.0)) == pytest.approx(seconds * 16000, abs=32)


def test_sound_that_comes_long_after_the_picture_is_none(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", [corner()] * N_FRAMES, tracks=[Track(sine(), start=4000.0)])
    assert "begins 4000.00 s after the picture" in reason(lambda: media.read_audio(path, 16000, 0.0))


def test_overlapping_sound_is_laid_by_its_time_stamps(tmp_path: Path) -> None:
    """Two halves of a second, the second one stamped 30 ms early: what it would say twice is left out."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(PCM, rate=16000, layout="mono")
        for begin, level in ((0, 0.25), (8000 - 480, 0.5)):
            piece = np.full((1, 8000), round(level * 32768), np.int16)
            frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, begin, Fraction(1, 16000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    wave = media.read_audio(path, 16000)
    assert len(wave) == 16000 - 480
    assert (wave[:8000] == 0.25).all()
    assert (wave[8000:] == 0.5).all()


# Sound of any kind


@pytest.mark.parametrize(("layout", "channels"), [("mono", 1), ("stereo", 2), ("5.1", 6), ("7.1", 8), ("quad", 4)])
@pytest.mark.parametrize("rate", [8000, 48000])
def test_the_mean_of_any_channels_is_neither_louder_nor_softer(
    tmp_path: Path, layout: str, channels: int, rate: int
) -> None:
    wave = np.repeat(sine(rate=rate), channels, axis=0)
    path = write_film(tmp_path / "a.mov", [corner()] * 4, tracks=[Track(wave, rate, codec=PCM, layout=layout)])
    assert np.abs(media.read_audio(path, 16000) - sine()[0])[200:-200].max() < 0.01
    wave[1:] = 0  # only the first channel speaks
    write_film(path, [corner()] * 4, tracks=[Track(wave, rate, codec=PCM, layout=layout)])
    assert np.abs(media.read_audio(path, 16000) - sine()[0] / channels)[200:-200].max() < 0.01


def test_eight_planes_of_channels_are_read(tmp_path: Path) -> None:
    wave = np.repeat(sine(rate=48000), 8, axis=0)
    path = write_film(tmp_path / "a.mkv", [corner()] * 4, tracks=[Track(wave, 48000, codec="opus", layout="7.1")])
    assert np.abs(media.read_audio(path, 16000)[2000:8000]).max() == pytest.approx(0.5, abs=0.05)


def test_loudness_and_clipped_sound_are_left_as_they_are(tmp_path: Path) -> None:
    for level in (0.01, 3.0):
        wave = np.clip(sine(level=level), -1, 32767 / 32768)
        assert np.abs(media.read_audio(write_wav(tmp_path / "a.wav", wave), 16000) - wave).max() < 1e-4


def test_the_track_that_players_take_is_read(tmp_path: Path) -> None:
    comment = Track(sine(level=0.1), codec=PCM, main=False)
    path = write_film(tmp_path / "a.mov", [corner()] * 4, tracks=[comment, Track(sine(), codec=PCM)])
    assert np.abs(media.read_audio(path, 16000)).max() == pytest.approx(0.5, abs=0.01)


def test_sound_of_no_numbers_is_damaged(tmp_path: Path) -> None:
    wave = sine()
    wave[0, 100] = np.nan
    path = write_film(tmp_path / "a.mov", [corner()] * 4, tracks=[Track(wave, codec="pcm_f32le")])
    assert "holds values that are no numbers" in reason(lambda: media.read_audio(path, 16000))


# Names that lie


def test_a_wrong_suffix_changes_nothing(tmp_path: Path) -> None:
    for suffix in (".avi", ".mpg", ".flv", ".txt"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(CLIP.read_bytes())
        assert len(media.read_video(path, 25).frames) == 32


def test_names_are_names_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mp4", "-i.mp4", "http:x.mp4", "50%03d.mp4", "a b'\"#?.mp4", "ü\n.mp4"):
        Path(name).write_bytes(CLIP.read_bytes())
        assert len(media.read_video(name, 25).frames) == 32


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile {clip}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "1\n00:00:00,000 --> 00:00:01,000\nsubtitles\n",
        "no film at all\n",
    ],
)
def test_text_is_no_film(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_text(text.format(clip=CLIP))
    assert reason(lambda: media.read_video(path, 25)).split(":")[0] in ("damaged", "no picture")


def picture_file(path: Path, kind: str) -> Path:
    buffer = io.BytesIO()
    Image.fromarray(corner()).save(buffer, kind)
    path.write_bytes(buffer.getvalue())
    return path


def test_a_picture_is_one_frame_and_has_no_sound(tmp_path: Path) -> None:
    for kind in ("PNG", "JPEG"):
        path = picture_file(tmp_path / "a.mp4", kind)
        assert len(media.read_video(path, 25).frames) == 1
        assert "no sound" in reason(lambda path=path: media.read_audio(path, 16000))


def test_an_unknown_coding_is_damaged(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mov", [corner()] * 4, tracks=[Track(sine(), codec=PCM)])
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"sowt", b"yyyy"))
    assert "its video is in a coding that is not known" in reason(lambda: media.read_video(path, 25))
    assert "its audio is in a coding that is not known" in reason(lambda: media.read_audio(path, 16000))


def test_sound_is_no_film(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", sine()).rename(tmp_path / "a.mp4")
    assert reason(lambda: media.read_video(path, 25)).startswith("no picture")


@pytest.mark.parametrize("size", [(0, 0), (65535, 65535)])
def test_a_header_with_an_absurd_size_is_damaged(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_film(tmp_path / "a.mov", [corner()] * 4, Film(codec="png", pixel_format="rgb24"))
    data = bytearray(path.read_bytes())
    begin = data.index(b"stsd") + 4 + 8 + 4 + 4 + 24  # version, entries; size, type; up to the sample entry's width
    assert struct.unpack(">2H", data[begin : begin + 4]) == (64, 48)
    data[begin : begin + 4] = struct.pack(">2H", *size)
    first = data.index(b"IHDR") + 4
    for at in [index for index in range(first, len(data) - 8) if data[index - 4 : index] == b"IHDR"]:
        data[at : at + 8] = struct.pack(">2I", *size)
    path.write_bytes(data)
    assert reason(lambda: media.read_video(path, 25)).startswith("damaged")
