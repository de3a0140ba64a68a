"""Stage 4, mixing: masks merged and measured, views blended by them, targets weighed (MiAMix, section 3.2.4).

render.py drives a batch and is read first; kernels.py has the two jitted entry points that it calls, made of merge.py
and blend.py. layered.py does their work where each layer has a partner of its own. targets.py mixes the labels,
companions.py what belongs to images. mixed_batch.py is the result.

May import checks, config, jit, masks, plan and samples.
"""
