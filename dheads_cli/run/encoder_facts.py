"""What an audio encoder hears, how late it answers and what it is made of, for `dheads components`."""

from __future__ import annotations

from typing import Any

from dheads_cli import console, downloads, registry
from dheads_cli.errors import DheadsError
from dheads_cli.protocols import StatefulAudioEncoder

FPS = 25  # for seconds; a recipe may have another rate


def facts_of(name: str) -> dict[str, Any]:
    """The facts of a registered audio encoder, built with its default options; nothing is downloaded for it.

    Returns:
        See `facts`; or {"error": why it can't be built}.
    """
    try:
        with downloads.none():
            return facts(registry.build("audio_encoders", name))
    except DheadsError as error:
        return {"error": str(error)}


def facts(encoder: Any) -> dict[str, Any]:
    """What follows from an audio encoder's contract (protocols.AudioEncoder).

    Returns:
        "embed_dim" (D), "sample_rate" (Hz), "trained", "stateful"; "before_frames" and "after_frames", the receptive
        field beyond frame k, where None is all that came before; "window_frames"; "latency_frames", from the beginning
        of frame k to its embedding, at most; and "weights", "" where there are none.
    """
    from dheads_cli.model.speech import is_trained  # imports torch

    stride, context = encoder.stride_frames, encoder.context_frames
    stateful = isinstance(encoder, StatefulAudioEncoder)
    trained = is_trained(encoder)
    reach = context if trained or stateful else stride + context - 1
    return {
        "embed_dim": encoder.embed_dim,
        "sample_rate": encoder.sample_rate,
        "trained": trained,
        "stateful": stateful,
        "before_frames": None if stateful else reach,
        "after_frames": reach,
        "window_frames": stride + 2 * context,
        "latency_frames": stride + context,
        "weights": getattr(encoder, "weights", ""),
    }


def show(found: dict[str, dict[str, Any]]) -> None:
    """Print the facts of encoders, by name, as a table; below it, why some can't be built."""
    rows = [_row(name, each) for name, each in found.items()]
    notes = [f"Built with their default options; seconds at {FPS} fps; latency counts from the beginning of a frame."]
    notes += [f"{name}: {each['error']}" for name, each in found.items() if "error" in each]
    console.table("", ["audio encoder", "D", "Hz", "hears of the sound", "latency", "weights"], rows, "\n".join(notes))


def _row(name: str, found: dict[str, Any]) -> list[str]:
    if "error" in found:
        return [name, "-", "-", "-", "-", "not built, see below"]
    after = found["after_frames"]
    if found["stateful"]:
        hears = f"all before, {after} frames after ({after / FPS:.2f} s)"
    elif found["trained"]:
        hears = f"{after} frames either side ({(2 * after + 1) / FPS:.2f} s)"
    else:
        hears = f"its window of {found['window_frames']} frames ({found['window_frames'] / FPS:.2f} s)"
    latency = f"{found['latency_frames']} frames ({found['latency_frames'] / FPS:.2f} s)"
    weights = "learned with the model" if found["trained"] else found["weights"] or "frozen, not named"
    return [name, str(found["embed_dim"]), str(found["sample_rate"]), hears, latency, weights]
