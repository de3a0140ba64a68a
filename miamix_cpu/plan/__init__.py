"""Stages 1 and 2, the plan: everything random about a batch, drawn before anything is rendered.

mix_plan.py is the record, MixPlan, of layers.py, and rules.py is what must hold for it; sampling.py draws it: partners (pairing.py), the number of layers, their methods and
ratios, and what each method draws for itself (masks). streams.py makes the generator from (seed, epoch, samples).

May import checks, config, options, jit and masks.
"""
