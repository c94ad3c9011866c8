"""The fixed parts of the method: network, diffusion, frame loop, checkpoints."""
