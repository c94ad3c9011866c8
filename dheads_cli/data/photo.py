"""Pictures out of files: upright, 8 bits, RGB, whatever they are stored as."""

from __future__ import annotations

import importlib
import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from dheads_cli.data.media_file import open_media, picture_stream
from dheads_cli.errors import DheadsError, UnusableClip

HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
NO_FILMS = ("image2", "tty", "_pipe")  # FFmpeg takes pictures and any text for films, too


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """Read a picture as uint8 sRGB [H, W, 3]: upright by its EXIF tag, transparency over white; of several, the first.

    Raises:
        DheadsError: there is no such file, it is no picture, it is broken, or HEIC without pi-heif.
    """
    path = Path(path)
    if not path.is_file():
        raise DheadsError(f"{path}: no such picture.")
    _prepare_heic(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice that size is an error
            with Image.open(path) as image:
                return _as_rgb(image)
    except UnidentifiedImageError as error:
        raise DheadsError(f"{path} is not a picture that can be read: save it as JPEG or PNG.") from error
    except Image.DecompressionBombError as error:
        raise DheadsError(f"{path} is too large a picture: {error}. Scale it down.") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for broken files, by format
        raise DheadsError(f"{path} is a broken picture ({error}): save it again, as JPEG or PNG.") from error


def _as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    upright = _in_srgb(ImageOps.exif_transpose(image))
    if upright.mode.startswith("I"):  # 16 bits of gray
        gray = np.clip(np.asarray(upright, dtype=np.int64) // 257, 0, 255).astype(np.uint8)
        upright = Image.fromarray(gray)
    if upright.has_transparency_data:
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
    return np.array(upright.convert("RGB"))


def _in_srgb(image: Image.Image) -> Image.Image:
    """Colours as they are meant: telephones store a wider range, Display P3, and say so in a profile."""
    data = image.info.get("icc_profile")
    if not data or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return image
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError):  # a profile that is broken or of another kind: viewers pass over it, too
        return image
    return converted or image


def _prepare_heic(path: Path) -> None:
    """Let Pillow read HEIC, the pictures of many telephones, where the plugin for it is installed."""
    if not _is_heic(path):
        return
    try:
        importlib.import_module("pi_heif").register_heif_opener()
    except ImportError as error:
        raise DheadsError(
            f"{path} is a HEIC picture, which takes the package pi-heif: `pip install pi-heif`, or save it as JPEG."
        ) from error


def _is_heic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:  # told where the picture is opened
        return False
    return head[4:8] == b"ftyp" and head[8:] in HEIC_BRANDS


def is_film(path: Path) -> bool:
    """Whether a file is a film, and no picture."""
    if not path.is_file() or _is_heic(path):
        return False
    try:
        with Image.open(path):
            return False
    except UnidentifiedImageError:
        pass
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    try:
        with open_media(path) as container:
            picture_stream(path, container)
            return not any(name in container.format.name for name in NO_FILMS)
    except UnusableClip:
        return False
