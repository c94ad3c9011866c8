"""Pictures, sound and video in and out: known pixels and samples, and what broken files say."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from dheads_cli.data import media
from dheads_cli.errors import DheadsError, UnusableClip

CLIP = Path(__file__).parent / "data/grid/s1/bbaf2n.mp4"


def gray_clip(levels: list[int], size: tuple[int, int] = (32, 48)) -> NDArray[np.uint8]:
    """Frames [F, H, W, 3] of one gray level each."""
    return np.stack([np.full((*size, 3), level, np.uint8) for level in levels])


def write_clip(path: Path, frames: NDArray[np.uint8], fps: float, audio: NDArray[np.float32] | None = None) -> Path:
    size = (frames.shape[2], frames.shape[1])
    with media.VideoWriter(path, fps, size, audio, 16000, crf=8, overwrite=True) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def sine(seconds: float, rate: int = 16000, hz: float = 440) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_wav(path: Path, channels: NDArray[np.float32], rate: int) -> Path:
    """Write channels [C, T] as 16-bit PCM."""
    with av.open(str(path), "w", format="wav") as container:
        layout = {1: "mono", 2: "stereo"}[len(channels)]
        stream = container.add_stream("pcm_s16le", rate=rate, layout=layout)
        packed = np.round(channels.T * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def levels_of(clip: media.VideoClip) -> list[int]:
    return [round(float(frame.mean()) / 20) for frame in clip.frames]


# Video in


def test_a_real_clip_is_read_whole() -> None:
    clip = media.read_video(CLIP, 25)
    assert clip.frames.shape == (32, 288, 360, 3)
    assert clip.frames.flags.c_contiguous
    assert (clip.fps, clip.source_fps, clip.start) == (25, 25, 0)


def test_fifty_frames_a_second_become_every_second_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", gray_clip([20 * k for k in range(10)]), 50)
    assert levels_of(media.read_video(path, 25)) in ([0, 2, 4, 6, 8], [0, 1, 3, 5, 7])


def test_slow_video_repeats_frames_and_keeps_its_length(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", gray_clip([0, 60, 120, 180, 240]), 12.5)
    assert len(media.read_video(path, 25).frames) == 10


def test_thirty_frames_a_second_keep_their_time(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", gray_clip([20 * (k // 3) for k in range(30)]), 30)
    clip = media.read_video(path, 25)
    assert len(clip.frames) == 25
    # The level changes every 0.1 s, at 25 fps every 2.5 frames.
    assert np.abs(np.array(levels_of(clip)) - np.arange(25) / 2.5).max() <= 1
    assert clip.source_fps == pytest.approx(30)


def test_a_turned_phone_video_stands_upright(tmp_path: Path) -> None:
    frames = gray_clip([0] * 4, (32, 64))
    frames[:, :16, :16] = 255  # upper left
    path = write_clip(tmp_path / "a.mp4", frames, 25)
    data = bytearray(path.read_bytes())
    # tkhd of version 0: the display matrix begins 44 bytes after the box's type; this one turns clockwise by 90.
    begin = data.index(b"tkhd") + 4 + 40
    data[begin : begin + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 32 << 16, 0, 1 << 30)
    path.write_bytes(data)
    turned = media.read_video(path, 25).frames[0]
    assert turned.shape == (64, 32, 3)
    assert turned[:16, 16:].mean() > 240  # upper right
    assert turned[:16, :8].mean() < 15


@pytest.mark.parametrize(("tag", "matrix"), [(1, "ITU709"), (5, "ITU601")])
def test_colours_follow_the_files_matrix(tmp_path: Path, tag: int, matrix: str) -> None:
    path = tmp_path / "a.mp4"
    red = np.tile(np.array([230, 30, 40], np.uint8), (64, 64, 1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width = stream.height = 64
        stream.codec_context.colorspace, stream.codec_context.color_range = tag, 1
        for _ in range(3):
            picture = av.VideoFrame.from_ndarray(red, format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace=matrix)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    assert np.abs(media.read_video(path, 25).frames[1].astype(int) - red).max() <= 4


def test_a_cut_off_video_is_damaged(tmp_path: Path) -> None:
    for keep in (0.3, 0.7):  # CLIP has its index in front, so its first part can be decoded
        path = tmp_path / "a.mp4"
        path.write_bytes(CLIP.read_bytes()[: int(keep * CLIP.stat().st_size)])
        with pytest.raises(UnusableClip) as error:
            media.read_video(path, 25)
        assert error.value.reason == "damaged"


def test_a_video_without_index_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:  # its index comes last
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        for frame in np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    for end in (data.index(b"moov") - 4, len(data) - 800):
        path.write_bytes(data[:end])
        with pytest.raises(UnusableClip, match="damaged"):
            media.read_video(path, 25)


@pytest.mark.parametrize("read", [lambda path: media.read_video(path, 25), lambda path: media.read_audio(path, 16000)])
def test_what_is_no_media_file_says_so(tmp_path: Path, read) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "a.mp4"
    with pytest.raises(UnusableClip, match=r"a\.mp4.*No such file") as missing:
        read(path)
    assert missing.value.reason == "unreadable"
    path.write_text("no media at all")
    with pytest.raises(UnusableClip, match=r"damaged: .*a\.mp4"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(UnusableClip, match=r"damaged: .*a\.mp4"):
        read(path)


# Sound in


def test_equal_channels_keep_their_loudness(tmp_path: Path) -> None:
    wave = sine(0.5) * 1.9
    path = write_wav(tmp_path / "a.wav", np.stack([wave, wave]), 16000)
    assert np.abs(media.read_audio(path, 16000) - wave).max() < 1e-4


def test_opposite_channels_cancel(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.stack([sine(0.5), -sine(0.5)]), 16000)
    assert np.abs(media.read_audio(path, 16000)).max() < 1e-4


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_moves_nothing_in_time(tmp_path: Path, rate: int) -> None:
    path = write_wav(tmp_path / "a.wav", sine(1.0, rate)[None], rate)
    wave = media.read_audio(path, 16000)
    assert len(wave) == 16000
    assert np.abs(wave - sine(1.0))[200:-200].max() < 0.01


def test_sound_begins_where_the_picture_does(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", sine(1.0)[None], 16000)
    whole = media.read_audio(path, 16000)
    assert np.array_equal(media.read_audio(path, 16000, 0.25), whole[4000:])
    late = media.read_audio(path, 16000, -0.25)
    assert not late[:4000].any()
    assert np.array_equal(late[4000:], whole)


def test_aac_in_mp4_is_in_step(tmp_path: Path) -> None:
    wave = np.zeros(32000, np.float32)
    wave[16000:16160] = np.hanning(160) * np.sin(np.arange(160))
    path = write_clip(tmp_path / "a.mp4", gray_clip([0] * 50), 25, wave)
    video = media.read_video(path, 25)
    heard = media.read_audio(path, 16000, video.start)
    centre = np.sum(np.arange(len(heard)) * heard**2) / np.sum(heard**2)
    assert abs(centre - 16080) < 16  # 1 ms


def test_a_gap_in_the_timestamps_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for begin in (0, 17600):
            piece = np.full((1, 16000), 8000, np.int16)
            frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    wave = media.read_audio(path, 16000)
    assert len(wave) == 33600
    assert wave[:15900].all()
    assert not wave[16100:17500].any()
    assert wave[17700:].all()


def test_a_silent_film_has_no_sound(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", gray_clip([0] * 10), 25)
    with pytest.raises(UnusableClip) as error:
        media.read_audio(path, 16000)
    assert error.value.reason == "no sound"
    with pytest.raises(UnusableClip, match="no picture"):
        media.read_video(write_wav(tmp_path / "a.wav", sine(0.5)[None], 16000), 25)


def test_corrupt_sound_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    data = bytearray(media.encode_flac(sine(2.0) + 0.1 * np.random.default_rng(0).random(32000, np.float32), 16000))
    data[len(data) // 3 : len(data) // 2] = np.random.default_rng(1).bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(data)
    with pytest.raises(UnusableClip, match="damaged"):
        media.read_audio(path, 16000)


# Pictures in


def quarter(size: tuple[int, int] = (40, 80)) -> Image.Image:
    """Black, [H, W] as given, with a white upper left corner."""
    picture = np.zeros((*size, 3), np.uint8)
    picture[:20, :20] = 255
    return Image.fromarray(picture)


def test_an_exif_turned_photo_stands_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 to show it
    quarter().save(path, exif=exif, quality=95)
    picture = media.read_image(path)
    assert picture.shape == (80, 40, 3)
    assert picture[:16, 24:].mean() > 240
    assert picture[24:, :].mean() < 10


def test_transparency_is_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (media.read_image(tmp_path / "a.png") == 255).all()
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette(range(12))
    palette.save(tmp_path / "b.png", transparency=3)
    assert (media.read_image(tmp_path / "b.png") == 255).all()


def test_gray_sixteen_bit_and_cmyk_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)).save(tmp_path / "a.png")
    assert (media.read_image(tmp_path / "a.png") == 128).all()
    Image.new("L", (8, 8), 77).save(tmp_path / "b.png")
    assert (media.read_image(tmp_path / "b.png") == 77).all()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=95)
    assert np.abs(media.read_image(tmp_path / "c.jpg").astype(int) - [255, 0, 0]).max() < 5


def test_colours_are_what_the_profile_says(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ").replace(b"....", b"gXYZ")  # red is green
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    red = Image.new("RGB", (8, 8), (200, 30, 60))
    cases = (("a", srgb, [200, 30, 60]), ("b", swapped, [30, 200, 60]), ("c", b"?", [200, 30, 60]))
    for name, profile, colour in cases:
        red.save(tmp_path / f"{name}.png", icc_profile=profile)
        assert np.abs(media.read_image(tmp_path / f"{name}.png").astype(int) - colour).max() < 3


def test_broken_pictures_say_so(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match="no such picture"):
        media.read_image(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_text("not a picture")
    with pytest.raises(DheadsError, match="not a picture that can be read"):
        media.read_image(tmp_path / "a.jpg")
    for suffix in ("jpg", "png"):
        buffer = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)
        Image.fromarray(noise).save(buffer, {"jpg": "JPEG", "png": "PNG"}[suffix])
        (tmp_path / f"b.{suffix}").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
        with pytest.raises(DheadsError, match=rf"b\.{suffix} is a broken picture"):
            media.read_image(tmp_path / f"b.{suffix}")


# Stored clips


def test_stored_crops_come_back_nearly_unchanged() -> None:
    frames = media.read_video(CLIP, 25).frames[:8, 100:164, 150:214]
    data = media.encode_clip_mp4(frames, 25)
    assert data == media.encode_clip_mp4(frames, 25)
    back = media.decode_clip_mp4(data)
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 2.5


def test_stored_sound_comes_back_to_sixteen_bits() -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, 20001).astype(np.float32)
    data = media.encode_flac(wave, 16000)
    assert data == media.encode_flac(wave, 16000)
    assert np.abs(media.decode_flac(data) - wave).max() <= 2**-15
