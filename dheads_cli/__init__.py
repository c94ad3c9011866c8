"""Turn one photo of a face and a speech recording into a video of that face speaking (Diffused Heads)."""

__version__ = "0.1.0"
