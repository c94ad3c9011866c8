import torch


class Loudness:  # audio encoder: the mean loudness of each quarter of a video frame
    sample_rate, embed_dim, stride_frames, context_frames = 16000, 4, 100, 0

    def __call__(self, waveform, n_frames):  # [N, T] in [-1, 1] -> [N, F, 4]
        loudness = torch.nn.functional.adaptive_avg_pool1d(waveform.abs(), 4 * n_frames)
        return loudness.view(len(waveform), n_frames, 4)


def one_step(clip=1.0):  # sampler: return the network's first x_0 estimate
    return lambda denoise, x_t, schedule, noise: denoise(x_t, schedule.timesteps[-1]).x_0.clamp(-clip, clip)
